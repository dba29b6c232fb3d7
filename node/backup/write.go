package backup

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/proto"

	"filippo.io/age"

	"github.com/parley-chat/parley/protocol/wire"
)

// Writer writes a backup. What it has written is worth nothing before Close.
type Writer struct {
	age      io.WriteCloser
	sum      hash.Hash // of all records so far
	contacts uint32
	pasts    uint32
	messages uint64
}

// Create begins a backup with its head and its contacts; rooms follow with Room and
// Log, then the conversations with Past, then Close ends it. It writes to w as it goes, and takes
// about a second for a passphrase.
func Create(w io.Writer, s Secret, h Head) (*Writer, error) {
	if err := checkHead(h); err != nil {
		return nil, fmt.Errorf("write backup: head: %w", err)
	}
	recipient, err := s.recipient()
	if err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	sealed, err := age.Encrypt(w, recipient)
	if err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	out := &Writer{age: sealed, sum: sha256.New()}
	begin := binary.BigEndian.AppendUint16([]byte(magic), version)
	out.sum.Write(begin)
	if _, err := sealed.Write(begin); err != nil {
		return nil, fmt.Errorf("write backup: %w", err)
	}
	if err := out.record(kindHead, h.marshal()); err != nil {
		return nil, err
	}
	for _, c := range h.Member.Contacts {
		if err := out.contact(c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w *Writer) contact(c *wire.ContactState) error {
	if err := checkContact(c); err != nil {
		return fmt.Errorf("write backup: contact: %w", err)
	}
	w.contacts++
	return w.message(kindContact, c)
}

// Room adds a room.
func (w *Writer) Room(r *wire.RoomState) error {
	if err := checkRoom(r); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return w.message(kindRoom, r)
}

// Log adds entries of the log of the room that was added last.
func (w *Writer) Log(l *wire.RoomLog) error {
	if err := checkLog(l); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return w.message(kindLog, l)
}

// Past adds messages of a contact or room: at least one, and older than those of the
// same that were added before.
func (w *Writer) Past(p *wire.Past) error {
	if err := checkPast(p); err != nil {
		return fmt.Errorf("write backup: messages: %w", err)
	}
	w.pasts++
	w.messages += uint64(len(p.GetMessages()))
	return w.message(kindPast, p)
}

// Close writes the end, without which the backup is not one. It does not close
// what is below.
func (w *Writer) Close() error {
	end := binary.BigEndian.AppendUint32(nil, w.contacts)
	end = binary.BigEndian.AppendUint32(end, w.pasts)
	end = binary.BigEndian.AppendUint64(end, w.messages)
	if err := w.record(kindEnd, w.sum.Sum(end)); err != nil {
		return err
	}
	if err := w.age.Close(); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

func (w *Writer) message(kind byte, m proto.Message) error {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return w.record(kind, body)
}

func (w *Writer) record(kind byte, body []byte) error {
	if len(body) > maxRecord {
		return errors.New("write backup: a record is too large")
	}
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)))
	b = append(b, body...)
	w.sum.Write(b)
	if _, err := w.age.Write(b); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}
