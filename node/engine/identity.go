package engine

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// Home is the rendezvous of this account.
type Home struct {
	Peer  []byte // its peer id
	Addrs []string
}

// Identity is this device and its account, as they were when they were read:
// what does not change while an engine lives. The chain, the certificate and
// the keys that are replaced are rows of their own. It holds private keys and
// prints as "redacted".
type Identity struct {
	key.Redacted

	Name, Display, DeviceName string
	Home                      Home
	Registered                bool
	Revoked                   bool // the keys below are gone
	Created                   time.Time

	Guest protocol.RoomID // the room that this account is a guest of; zero: it is no guest

	Account protocol.AccountID
	Device  protocol.DeviceID
	StoreID [16]byte // of this store; a copy of it has the same

	DSK  key.DevicePrivate
	DIK  key.IdentityPrivate
	Host key.HostPrivate

	nameKey [32]byte // hides names in keys of the store
}

// MarkRegistered notes that the rendezvous has the name and the chain.
func MarkRegistered(tx store.Tx) error {
	return change(tx, func(id *Identity) error {
		id.Registered = true
		return nil
	})
}

// SetHome changes where the rendezvous is.
func SetHome(tx store.Tx, h Home) error {
	return change(tx, func(id *Identity) error {
		id.Home = h
		return nil
	})
}

// ownHome is where the rendezvous is now: SetHome may have changed it since Load.
func ownHome(tx store.Tx) (Home, error) {
	id, err := loadIdentity(tx)
	if err != nil {
		return Home{}, err
	}
	return id.Home, nil
}

// SetName chooses another name, for when the first is taken. ErrRegistered
// once the rendezvous has it: a name is bound for ever.
func SetName(tx store.Tx, name, display string) error {
	return change(tx, func(id *Identity) error {
		if id.Registered && id.Name != name {
			return ErrRegistered
		}
		if err := id.rename(name, display); err != nil {
			return err
		}
		p, ok, err := load[peerRow](tx, keyPeer(id.Account))
		if err != nil || !ok {
			return err
		}
		p.name, p.display = id.Name, id.Display
		return tx.Set(keyPeer(id.Account), p.encode())
	})
}

func (id *Identity) rename(name, display string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	clean, err := CleanDisplay(display)
	if err != nil {
		return err
	}
	id.Name, id.Display = name, clean
	return nil
}

func change(tx store.Tx, fn func(*Identity) error) error {
	id, err := loadIdentity(tx)
	if err != nil {
		return err
	}
	if err := fn(id); err != nil {
		return err
	}
	return id.save(tx)
}

func (id *Identity) save(tx store.Tx) error {
	e := newRow(1 << 10)
	e.string(id.Name)
	e.string(id.Display)
	e.string(id.DeviceName)
	e.bool(id.Registered, id.Revoked)
	e.time(id.Created)
	e.bytes(id.Home.Peer)
	e.u8(uint8(min(len(id.Home.Addrs), protocol.MaxAddrs)))
	for _, a := range id.Home.Addrs[:min(len(id.Home.Addrs), protocol.MaxAddrs)] {
		e.string(a)
	}
	e.raw(id.Account[:])
	e.raw(id.Device[:])
	e.raw(id.StoreID[:])
	e.raw(id.nameKey[:])
	for _, k := range [][]byte{id.DSK.Bytes(), id.DIK.Bytes(), id.Host.Bytes()} {
		e.bytes(k)
	}
	return tx.Set(keyOwnIdentity(), e.b)
}

// loadIdentity reads the identity of a store whose format this build knows.
func loadIdentity(tx store.Tx) (*Identity, error) {
	if err := checkFormat(tx); err != nil {
		return nil, err
	}
	b, err := get(tx, keyOwnIdentity())
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, ErrNoIdentity
	}
	id, err := decodeIdentity(b)
	if err != nil {
		return nil, err
	}
	r, _, err := load[guestRow](tx, keyGuest())
	id.Guest = r.room
	return id, err
}

func decodeIdentity(b []byte) (*Identity, error) {
	d := readRow(b)
	id := &Identity{Name: d.string(), Display: d.string(), DeviceName: d.string()}
	d.bool(&id.Registered, &id.Revoked)
	id.Created = d.time()
	id.Home.Peer = bytes.Clone(d.bytes())
	for range d.count(1) {
		id.Home.Addrs = append(id.Home.Addrs, d.string())
	}
	d.fixed(id.Account[:])
	d.fixed(id.Device[:])
	d.fixed(id.StoreID[:])
	d.fixed(id.nameKey[:])
	dsk, dik, host := d.bytes(), d.bytes(), d.bytes()
	if err := d.end("identity"); err != nil || id.Revoked {
		return id, err
	}
	if err := id.parse(dsk, dik, host); err != nil {
		return nil, fmt.Errorf("identity row: %w: %v", store.ErrDamaged, err)
	}
	return id, nil
}

// parse reads the keys and checks that they make the device: with a wrong one
// everything made with it would be wrong.
func (id *Identity) parse(dsk, dik, host []byte) error {
	var errs [3]error
	id.DSK, errs[0] = key.ParseDevice(dsk)
	id.DIK, errs[1] = key.ParseIdentity(dik)
	id.Host, errs[2] = key.ParseHost(host)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if id.Device != deviceID(id.Account, id.DSK.Public(), id.DIK.Public()) {
		return errors.New("the keys do not fit the device")
	}
	return nil
}

func deviceID(a protocol.AccountID, signing key.DevicePublic, identity key.IdentityPublic) protocol.DeviceID {
	return account.Cert{Account: a, Signing: signing, Identity: identity}.DeviceID()
}
