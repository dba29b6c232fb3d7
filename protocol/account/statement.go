package account

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// op is what a statement does.
type op uint8

const (
	opGenesis      op = 1 // body: account key 32 ‖ recovery key 32
	opAddDevice    op = 2 // body: device certificate; again for the same device: renewal
	opRevokeDevice op = 3 // body: device id 32 ‖ reason u8 ‖ since u64
	opRotateAIK    op = 4 // body: new account key 32 ‖ its signature 64
	opRotateRK     op = 5 // body: new recovery key 32 ‖ its signature 64
	opClose        op = 6 // body: empty; nothing follows
)

// Reason says why a device was revoked.
type Reason uint8

const (
	Retired     Reason = 1 // no longer used
	Lost        Reason = 2 // out of the owner's hands
	Compromised Reason = 3 // its keys are known to somebody else
)

const (
	labelStatement = "statement" // hash and signature of a statement
	labelRotate    = "rotate"    // signature of a new key over its own introduction

	statementVersion = 1
	statementFixed   = 2 + 32 + 8 + 32 + 1 + 4 + 8 + 32 + key.SignatureSize // without body
)

// statement is one link of a chain (SPEC "Statement chain").
type statement struct {
	account protocol.AccountID // zero in the genesis
	seq     uint64
	prev    [32]byte // hash of the statement before; zero in the genesis
	op      op
	body    []byte
	time    time.Time
	signer  [32]byte
	sig     [key.SignatureSize]byte
}

// unsigned is the statement without its signature.
func (s statement) unsigned() []byte {
	b := make([]byte, 0, statementFixed+len(s.body))
	b = binary.BigEndian.AppendUint16(b, statementVersion)
	b = append(b, s.account[:]...)
	b = binary.BigEndian.AppendUint64(b, s.seq)
	b = append(b, s.prev[:]...)
	b = append(b, byte(s.op))
	b = key.AppendLP(b, s.body)
	b = key.AppendTime(b, s.time)
	return append(b, s.signer[:]...)
}

func (s statement) marshal() []byte { return append(s.unsigned(), s.sig[:]...) }

func (s statement) hash() [32]byte { return key.Hash(labelStatement, s.marshal()) }

func parseStatement(b []byte) (statement, error) {
	r := key.NewReader(b)
	version := r.Uint16()
	var s statement
	copy(s.account[:], r.Take(32))
	s.seq = r.Uint64()
	copy(s.prev[:], r.Take(32))
	s.op = op(r.Byte())
	s.body = bytes.Clone(r.LP())
	s.time = r.Time()
	copy(s.signer[:], r.Take(32))
	copy(s.sig[:], r.Take(key.SignatureSize))
	if err := r.End(); err != nil {
		return statement{}, fmt.Errorf("%w: statement %v", ErrMalformed, err)
	}
	if version != statementVersion || !key.ValidTime(s.time) {
		return statement{}, fmt.Errorf("%w: statement of version %d", ErrMalformed, version)
	}
	return s, nil
}

// signing is a private key that signs statements: the account's or the
// recovery key.
type signing interface {
	Sign(purpose string, parts ...[]byte) ([]byte, error)
}

// sign sets the signature. signer must be set before.
func (s *statement) sign(k signing) error {
	sig, err := k.Sign(labelStatement, s.unsigned())
	if err != nil {
		return err
	}
	s.sig = [key.SignatureSize]byte(sig)
	return nil
}

// introduction is what a new key signs to show that somebody holds it: its
// place in this chain and itself.
func (s statement) introduction(newKey []byte) [][]byte {
	seq := binary.BigEndian.AppendUint64(nil, s.seq)
	return [][]byte{s.account[:], seq, s.prev[:], {byte(s.op)}, newKey}
}

func revokeBody(id protocol.DeviceID, reason Reason, since time.Time) []byte {
	return key.AppendTime(append(bytes.Clone(id[:]), byte(reason)), since)
}
