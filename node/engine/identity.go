package engine

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/store"
)

// certLife is how long a device certificate lasts. Nothing renews one yet, so
// it is long; a device is ended by revoking it.
const certLife = 10 * 365 * 24 * time.Hour

// Home is the rendezvous of this account.
type Home struct {
	Peer  []byte // its peer id
	Addrs []string
}

// Identity is this device and its account. It holds the private keys and
// prints as "redacted".
type Identity struct {
	key.Redacted

	Name, Display, DeviceName string
	Home                      Home
	Registered                bool
	Created                   time.Time

	Account protocol.AccountID
	Device  protocol.DeviceID
	StoreID [16]byte // of this store; a copy of it has the same
	Chain   *account.Chain
	Cert    account.Cert

	AIK  key.AccountPrivate
	RK   key.RecoveryPrivate
	DSK  key.DevicePrivate
	DIK  key.IdentityPrivate
	Host key.HostPrivate
	RSA  key.RSAPrivate

	nameKey [32]byte // hides names in keys of the store
}

// NewIdentity makes an account with one device. It takes up to seconds (RSA),
// so call it outside of a transaction.
func NewIdentity(now time.Time, name, display, deviceName string, home Home) (*Identity, error) {
	rsa, err := key.NewRSA()
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	return NewIdentityWith(now, name, display, deviceName, home, rsa)
}

// NewIdentityWith is NewIdentity with an RSA key made before, in a moment.
func NewIdentityWith(now time.Time, name, display, deviceName string, home Home, rsa key.RSAPrivate) (*Identity, error) {
	id := &Identity{
		DeviceName: deviceName, Home: home, Created: now.UTC().Truncate(time.Millisecond),
		AIK: key.NewAccount(), RK: key.NewRecovery(), DSK: key.NewDevice(), DIK: key.NewIdentity(), Host: key.NewHost(), RSA: rsa,
	}
	if err := id.rename(name, display); err != nil {
		return nil, err
	}
	rand.Read(id.StoreID[:])
	rand.Read(id.nameKey[:])
	chain, err := account.Create(now, id.AIK, id.RK.Public())
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	id.Account = chain.Account()
	id.Cert, err = account.NewCert(id.AIK, account.Cert{
		Account: id.Account, Signing: id.DSK.Public(), Identity: id.DIK.Public(), PeerID: id.Host.Public().PeerID(),
		MinProto: protocol.Version, MaxProto: protocol.Version,
		Created: now, NotAfter: now.Add(certLife), Name: deviceName,
	})
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	id.Device = id.Cert.DeviceID()
	if id.Chain, err = chain.AddDevice(now, id.AIK, id.Cert); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	return id, nil
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

// Init stores the identity of a new store and what is to be done from time to
// time; ErrExists if the store holds one.
func Init(tx store.Tx, id *Identity) error {
	old, err := get(tx, store.Key(tableIdentity))
	if err != nil {
		return err
	}
	if old != nil {
		return ErrExists
	}
	w := &work{tx: tx, now: id.Created}
	if err := w.startSweeps(); err != nil {
		return err
	}
	return id.save(tx)
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

// SetName chooses another name, for when the first is taken. ErrRegistered
// once the rendezvous has it: a name is bound for ever.
func SetName(tx store.Tx, name, display string) error {
	return change(tx, func(id *Identity) error {
		if id.Registered && id.Name != name {
			return ErrRegistered
		}
		return id.rename(name, display)
	})
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
	e := newRow(4 << 10)
	e.string(id.Name)
	e.string(id.Display)
	e.string(id.DeviceName)
	e.bool(id.Registered)
	e.time(id.Created)
	e.bytes(id.Home.Peer)
	e.u8(uint8(min(len(id.Home.Addrs), protocol.MaxAddrs)))
	for _, a := range id.Home.Addrs[:min(len(id.Home.Addrs), protocol.MaxAddrs)] {
		e.string(a)
	}
	e.raw(id.StoreID[:])
	e.raw(id.nameKey[:])
	e.bytes(id.Chain.Bytes())
	e.bytes(id.Cert.Marshal())
	for _, k := range [][]byte{id.AIK.Bytes(), id.RK.Bytes(), id.DSK.Bytes(), id.DIK.Bytes(), id.Host.Bytes(), id.RSA.Bytes()} {
		e.bytes(k)
	}
	return tx.Set(store.Key(tableIdentity), e.b)
}

func loadIdentity(tx store.Tx) (*Identity, error) {
	b, err := get(tx, store.Key(tableIdentity))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, ErrNoIdentity
	}
	return decodeIdentity(b)
}

func decodeIdentity(b []byte) (*Identity, error) {
	d := readRow(b)
	id := &Identity{Name: d.string(), Display: d.string(), DeviceName: d.string()}
	d.bool(&id.Registered)
	id.Created = d.time()
	id.Home.Peer = bytes.Clone(d.bytes())
	for range d.count(1) {
		id.Home.Addrs = append(id.Home.Addrs, d.string())
	}
	d.fixed(id.StoreID[:])
	d.fixed(id.nameKey[:])
	chain, cert := d.bytes(), d.bytes()
	keys := [6][]byte{}
	for i := range keys {
		keys[i] = d.bytes()
	}
	if err := d.end("identity"); err != nil {
		return nil, err
	}
	if err := id.parse(chain, cert, keys); err != nil {
		return nil, fmt.Errorf("identity row: %w: %v", store.ErrDamaged, err)
	}
	return id, nil
}

// parse reads the keys and checks that they belong together: with a wrong one
// everything made with it would be wrong.
func (id *Identity) parse(chain, cert []byte, keys [6][]byte) error {
	var errs [8]error
	id.Chain, errs[0] = account.ParseChain(chain)
	id.Cert, errs[1] = account.ParseCert(cert)
	id.AIK, errs[2] = key.ParseAccount(keys[0])
	id.RK, errs[3] = key.ParseRecovery(keys[1])
	id.DSK, errs[4] = key.ParseDevice(keys[2])
	id.DIK, errs[5] = key.ParseIdentity(keys[3])
	id.Host, errs[6] = key.ParseHost(keys[4])
	id.RSA, errs[7] = key.ParseRSA(keys[5])
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	id.Account, id.Device = id.Chain.Account(), id.Cert.DeviceID()
	if id.Cert.Account != id.Account || id.Cert.Signing != id.DSK.Public() || id.Cert.Identity != id.DIK.Public() ||
		!bytes.Equal(id.Cert.PeerID, id.Host.Public().PeerID()) {
		return errors.New("the keys do not fit the certificate")
	}
	return nil
}

// Hello is what the rendezvous is told at connecting: which store this is, how
// often it was welcomed, and a random number for this time; signed.
type Hello struct {
	StoreID, Start [16]byte
	Ctr            uint64
	Sig            []byte
}

// startRow is the newest hello.
type startRow struct {
	ctr      uint64
	start    [16]byte
	welcomed bool
}

// Hello returns what to tell the rendezvous with this peer id: the same until
// it was Welcomed, then a higher number and a new start. Let the transaction
// commit before it is sent: a store that was set back, or runs twice, shows by
// it.
func (e *Engine) Hello(tx store.Tx, rendezvousPeer []byte) (Hello, error) {
	row, err := loadStart(tx)
	if err != nil {
		return Hello{}, err
	}
	if row.welcomed {
		row.ctr++
		row.welcomed = false
		rand.Read(row.start[:])
		if err := row.save(tx); err != nil {
			return Hello{}, err
		}
	}
	h := Hello{StoreID: e.id.StoreID, Start: row.start, Ctr: row.ctr}
	h.Sig, err = proof.Hello{Device: e.id.Device, StoreID: h.StoreID, Counter: h.Ctr, Start: h.Start, Rendezvous: rendezvousPeer}.Sign(e.id.DSK)
	if err != nil {
		return Hello{}, fmt.Errorf("say hello: %w", err)
	}
	return h, nil
}

// Welcomed notes that the rendezvous took this hello.
func (e *Engine) Welcomed(tx store.Tx, h Hello) error {
	row, err := loadStart(tx)
	if err != nil || row.ctr != h.Ctr || row.start != h.Start {
		return err
	}
	row.welcomed = true
	return row.save(tx)
}

// loadStart returns the newest hello; before the first, one that was welcomed.
func loadStart(tx store.Tx) (row startRow, err error) {
	b, err := get(tx, store.Key(tableStarts))
	if err != nil || b == nil {
		return startRow{welcomed: true}, err
	}
	d := readRow(b)
	row.ctr = d.u64()
	if len(d.rest) == 0 && !d.bad { // written before there were starts
		return startRow{ctr: row.ctr, welcomed: true}, nil
	}
	d.fixed(row.start[:])
	d.bool(&row.welcomed)
	return row, d.end("start")
}

func (s startRow) save(tx store.Tx) error {
	row := newRow(32)
	row.u64(s.ctr)
	row.raw(s.start[:])
	row.bool(s.welcomed)
	return tx.Set(store.Key(tableStarts), row.b)
}
