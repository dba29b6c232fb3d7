package backup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"

	"google.golang.org/protobuf/proto"

	"filippo.io/age"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// Backup is an open backup: read to its end once, and found whole.
type Backup struct {
	Head
	Conversations int
	Messages      int

	plain io.ReaderAt
	size  int64
}

// Open reads a backup, all of it, in bounded memory. Its errors are
// ErrNotBackup, ErrWrongSecret, ErrDamaged and ErrNewer, or those of src. Src
// must stay open as long as the backup is used.
func Open(src io.ReaderAt, size int64, s Secret) (*Backup, error) {
	intro := make([]byte, len(ageIntro))
	if _, err := src.ReadAt(intro, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read backup: %w", err)
	}
	if string(intro) != ageIntro {
		return nil, ErrNotBackup
	}
	id, err := s.identity()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongSecret, err)
	}
	plain, length, err := age.DecryptReaderAt(src, size, id)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, ErrWrongSecret
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return parse(plain, length)
}

// ageIntro begins every age file.
const ageIntro = "age-encryption.org/"

// parse reads what is inside the age file.
func parse(plain io.ReaderAt, size int64) (*Backup, error) {
	b := &Backup{plain: plain, size: size}
	r, err := b.read()
	if err != nil {
		return nil, err
	}
	all := &contents{b: b, contacts: map[protocol.AccountID]bool{}, rooms: map[protocol.RoomID]bool{}, talked: map[protocol.AccountID]bool{}}
	for !all.ended {
		kind, body, err := r.next()
		if err == nil {
			err = all.take(kind, body, r.sum)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		r.add(kind, body)
	}
	if _, err := r.in.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("%w: it goes on after its end", ErrDamaged)
	}
	return b, nil
}

// History yields the conversations, in the order in which they were written.
func (b *Backup) History() iter.Seq2[*wire.Past, error] {
	return func(yield func(*wire.Past, error) bool) {
		for record, err := range b.records() {
			p, is := record.(*wire.Past)
			if (err != nil || is) && !yield(p, err) {
				return
			}
		}
	}
}

// records yields rooms, logs and messages, in the order in which they were written.
func (b *Backup) records() iter.Seq2[proto.Message, error] {
	return func(yield func(proto.Message, error) bool) {
		r, err := b.read()
		for err == nil {
			var kind byte
			var body []byte
			if kind, body, err = r.next(); err != nil || kind == kindEnd {
				break
			}
			var m proto.Message
			if m, err = parseRecord(kind, body); err == nil && m != nil && !yield(m, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, fmt.Errorf("%w: %w", ErrDamaged, err))
		}
	}
}

// parseRecord reads a room, a log or messages; nil for other records.
func parseRecord(kind byte, body []byte) (proto.Message, error) {
	switch kind {
	case kindRoom:
		return parseRoom(body)
	case kindLog:
		return parseLog(body)
	case kindPast:
		return parsePast(body)
	}
	return nil, nil
}

// contents checks the records of a backup as they come.
type contents struct {
	b                *Backup
	any, ended       bool
	contacts, talked map[protocol.AccountID]bool
	rooms            map[protocol.RoomID]bool
	room             protocol.RoomID // the last
	contactBytes     int
	pasts            uint32
}

// take reads one record; sum is of all before it.
func (c *contents) take(kind byte, body []byte, sum hash.Hash) (err error) {
	if first := !c.any; first != (kind == kindHead) {
		return errors.New("its records are out of order")
	}
	c.any = true
	switch kind {
	case kindHead:
		c.b.Head, err = parseHead(body)
		return err
	case kindContact:
		return c.takeContact(body)
	case kindRoom:
		return c.takeRoom(body)
	case kindLog:
		return c.takeLog(body)
	case kindPast:
		return c.takePast(body)
	case kindEnd:
		return c.takeEnd(body, sum)
	}
	return fmt.Errorf("record of kind %d", kind)
}

func (c *contents) takeContact(body []byte) error {
	contact, err := parseContact(body)
	if err != nil {
		return err
	}
	id := protocol.AccountID(contact.GetAccount())
	c.contactBytes += len(body)
	if c.contacts[id] || c.pasts > 0 || len(c.rooms) > 0 || len(c.contacts) == maxContacts || c.contactBytes > maxContactBytes {
		return errors.New("a contact twice, in the wrong place, or too many of them")
	}
	c.contacts[id] = true
	c.b.Member.Contacts = append(c.b.Member.Contacts, contact)
	return nil
}

func (c *contents) takeRoom(body []byte) error {
	r, err := parseRoom(body)
	if err != nil {
		return err
	}
	c.room = protocol.RoomID(r.GetRoom())
	if c.rooms[c.room] || c.pasts > 0 || len(c.rooms) == maxRooms {
		return errors.New("a room twice, in the wrong place, or too many of them")
	}
	c.rooms[c.room] = true
	return nil
}

func (c *contents) takeLog(body []byte) error {
	l, err := parseLog(body)
	if err == nil && (len(c.rooms) == 0 || protocol.RoomID(l.GetRoom()) != c.room || c.pasts > 0) {
		err = errors.New("a log in the wrong place")
	}
	return err
}

func (c *contents) takePast(body []byte) error {
	p, err := parsePast(body)
	if err != nil {
		return err
	}
	with := protocol.AccountID(p.GetWith())
	if known := c.contacts[with] || p.GetRoom() && c.rooms[protocol.RoomID(with)]; !known {
		return errors.New("messages of nobody")
	}
	if !c.talked[with] {
		c.talked[with] = true
		c.b.Conversations++
	}
	c.pasts++
	c.b.Messages += len(p.GetMessages())
	return nil
}

func (c *contents) takeEnd(body []byte, sum hash.Hash) error {
	want := binary.BigEndian.AppendUint32(nil, uint32(len(c.contacts)))
	want = binary.BigEndian.AppendUint32(want, c.pasts)
	want = binary.BigEndian.AppendUint64(want, uint64(c.b.Messages))
	if !bytes.Equal(body, sum.Sum(want)) {
		return errors.New("something is missing")
	}
	c.ended = true
	return nil
}

// reader reads records.
type reader struct {
	in  *bufio.Reader
	sum hash.Hash
}

// read begins to read after the version, which it checks.
func (b *Backup) read() (*reader, error) {
	r := &reader{in: bufio.NewReaderSize(io.NewSectionReader(b.plain, 0, b.size), 64<<10), sum: sha256.New()}
	begin := make([]byte, len(magic)+2)
	if _, err := io.ReadFull(r.in, begin); err != nil || string(begin[:len(magic)]) != magic {
		return nil, ErrNotBackup
	}
	if v := binary.BigEndian.Uint16(begin[len(magic):]); v == 0 || v > version {
		if v == 0 {
			return nil, fmt.Errorf("%w: version 0", ErrDamaged)
		}
		return nil, fmt.Errorf("%w: its format is version %d", ErrNewer, v)
	}
	r.sum.Write(begin)
	return r, nil
}

// next reads one record. Its body is at most maxRecord bytes, and the caller's.
func (r *reader) next() (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return 0, nil, cutOff(err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxRecord {
		return 0, nil, fmt.Errorf("a record of %d bytes", size)
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(r.in, body); err != nil {
		return 0, nil, cutOff(err)
	}
	return head[0], body, nil
}

// add counts a record into the sum.
func (r *reader) add(kind byte, body []byte) {
	r.sum.Write(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body))))
	r.sum.Write(body)
}

func cutOff(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("it ends too early")
	}
	return err
}
