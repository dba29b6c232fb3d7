package room

import (
	"errors"

	"github.com/parley-chat/parley/protocol/key"
)

// Describe sets the room's name and topic, see About.
type Describe struct{ About Sealed }

// Lock keeps everybody out who is not in, or ends that.
type Lock struct{ On bool }

// Rotate begins an epoch, so that all keys are made anew.
type Rotate struct{}

func (Describe) Kind() Kind { return KindDescribe }
func (Lock) Kind() Kind     { return KindLock }
func (Rotate) Kind() Kind   { return KindRotate }

func (o Describe) body() []byte { return o.About.append(nil) }
func (o Rotate) body() []byte   { return nil }

func (o Lock) body() []byte {
	if o.On {
		return []byte{1}
	}
	return []byte{0}
}

func parseDescribe(r *key.Reader) (Op, error) {
	about, err := takeSealed(r)
	if err == nil && about.IsZero() {
		err = errors.New("nothing sealed")
	}
	return Describe{about}, err
}

func (o Describe) apply(f *fold) error {
	if err := f.seal(o.About); err != nil {
		return err
	}
	f.about = o.About
	return nil
}

func (o Lock) apply(f *fold) error {
	if f.locked == o.On {
		return ErrNoEffect
	}
	f.locked = o.On
	return nil
}

func (o Rotate) apply(f *fold) error {
	f.renewKeys()
	return nil
}

// renewKeys begins an epoch as if a reader had left.
func (f *fold) renewKeys() {
	f.newEpoch = true
	f.lost = f.e.Seq
}
