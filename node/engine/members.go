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
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// certLife is how long a device certificate lasts, and renewBefore how long
// before its end it is renewed.
const (
	certLife    = 365 * 24 * time.Hour
	renewBefore = 60 * 24 * time.Hour
)

// Membership is what makes a device a member of an account, besides its own
// keys: what a new device is given, and what a backup holds. It never has
// anything of a single device: no session, prekey or device key.
type Membership struct {
	key.Redacted

	Name, Display string
	Home          Home
	Chain         []byte
	AIK           key.AccountPrivate
	RK            *key.RecoveryPrivate // nil: not known
	Contacts      []*wire.ContactState
}

// Founder is an account that begins, and its first device.
type Founder struct {
	key.Redacted

	Newcomer   *Newcomer
	Membership Membership
}

// NewIdentity makes an account with one device. It takes up to seconds (RSA),
// so call it outside of a transaction.
func NewIdentity(now time.Time, name, display, deviceName string, home Home) (*Founder, error) {
	rsa, err := key.NewRSA()
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	return NewIdentityWith(now, name, display, deviceName, home, rsa)
}

// NewIdentityWith is NewIdentity with an RSA key made before, in a moment.
func NewIdentityWith(now time.Time, name, display, deviceName string, home Home, rsa key.RSAPrivate) (*Founder, error) {
	n, err := NewNewcomerWith(now, deviceName, rsa)
	if err != nil {
		return nil, err
	}
	aik, rk := key.NewAccount(), key.NewRecovery()
	chain, err := account.Create(now, aik, rk.Public())
	if err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	if chain, err = CertifyDevice(now, chain, aik, n.Request()); err != nil {
		return nil, fmt.Errorf("make identity: %w", err)
	}
	m := Membership{Name: name, Display: display, Home: home, Chain: chain.Bytes(), AIK: aik, RK: &rk}
	return &Founder{Newcomer: n, Membership: m}, (&Identity{}).rename(name, display)
}

// Init stores the identity of a new account in a new store; ErrExists if the
// store holds one. It is not registered yet.
func Init(tx store.Tx, f *Founder) error {
	return initMember(tx, f.Newcomer.Made, f.Newcomer, f.Membership, false)
}

// InitMember stores the identity of a device that was added to an account, or
// that restores or recovers one; ErrExists if the store holds an identity. The
// chain must certify the device, and be with the rendezvous. ErrTooMany means
// that there are more contacts than one transaction takes: leave some to
// TakeContacts.
func InitMember(tx store.Tx, now time.Time, n *Newcomer, m Membership) error {
	return initMember(tx, now, n, m, true)
}

func initMember(tx store.Tx, now time.Time, n *Newcomer, m Membership, registered bool) error {
	chain, cert, err := m.check(n)
	if err != nil {
		return err
	}
	id := &Identity{Home: m.Home, Registered: registered, Created: now, Account: chain.Account()}
	if err := id.rename(m.Name, m.Display); err != nil {
		return err
	}
	id.become(n, cert)
	w, err := initStore(tx, now, id)
	if err != nil {
		return err
	}
	if err := w.keepMembership(n, m, chain); err != nil {
		return err
	}
	if err := w.takeContacts(m.Contacts); err != nil {
		return err
	}
	_, err = w.end()
	return err
}

// initStore begins a new store with an identity; ErrExists if it holds one.
func initStore(tx store.Tx, now time.Time, id *Identity) (*work, error) {
	if _, err := loadIdentity(tx); err != ErrNoIdentity {
		if err == nil {
			err = ErrExists
		}
		return nil, err
	}
	rand.Read(id.nameKey[:])
	w, err := newEngine(id).begin(tx, now)
	if err != nil {
		return nil, err
	}
	w.addPeer(id.Account, peerRow{
		relation: Self, known: true, name: id.Name, display: id.Display, since: w.now, checked: w.now,
	})
	return w, errors.Join(setFormat(tx), id.save(tx), w.startSweeps())
}

// become takes over the keys of a certified device.
func (id *Identity) become(n *Newcomer, cert account.Cert) {
	id.Device, id.DeviceName, id.StoreID = cert.DeviceID(), cert.Name, n.StoreID
	id.DSK, id.DIK, id.Host = n.DSK, n.DIK, n.Host
}

// check verifies that a membership is one, and of this device.
func (m *Membership) check(n *Newcomer) (*account.Chain, account.Cert, error) {
	chain, err := account.ParseChain(m.Chain)
	if err != nil {
		return nil, account.Cert{}, fmt.Errorf("membership: %w", err)
	}
	r := n.Request()
	cert, ok := chain.Device(r.Device(chain.Account()))
	if !ok || !bytes.Equal(cert.PeerID, r.PeerID) {
		return nil, cert, fmt.Errorf("%w: the chain does not certify it", ErrBadMembership)
	}
	if m.AIK.Public() != chain.Signer() {
		return nil, cert, fmt.Errorf("%w: another account key", ErrBadMembership)
	}
	if m.RK != nil && m.RK.Public() != chain.Recovery() {
		return nil, cert, fmt.Errorf("%w: another recovery key", ErrBadMembership)
	}
	return chain, cert, nil
}

// keepMembership stores the keys of an account and its chain, and learns the
// other devices.
func (w *work) keepMembership(n *Newcomer, m Membership, chain *account.Chain) error {
	if err := w.keepDevice(n); err != nil {
		return err
	}
	if err := w.setAccountKey(m.AIK, false); err != nil {
		return err
	}
	if m.RK != nil {
		if err := w.setRecoveryKey(*m.RK); err != nil {
			return err
		}
	}
	return w.keepOwnChain(chain)
}

// keepDevice stores the keys of a device that are not in its identity.
func (w *work) keepDevice(n *Newcomer) error {
	return errors.Join(w.ledgerDevice(n.DSK, n.DIK, n.Host, ledger.Created, ""), w.setRSA(n.RSA, n.Made))
}

// keepOwnChain stores the chain of the own account, and learns its other devices.
func (w *work) keepOwnChain(chain *account.Chain) error {
	if err := w.set(keyChain(chain.Account()), chain.Bytes()); err != nil {
		return err
	}
	p, err := w.peer(chain.Account())
	if err != nil {
		return err
	}
	return w.learnOwn(p, chain)
}

// TakeContacts takes over contacts of a membership that InitMember had no room
// for. Taking one again changes nothing.
func (e *Engine) TakeContacts(tx store.Tx, now time.Time, list []*wire.ContactState) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	if err := w.takeContacts(list); err != nil {
		return Hint{}, err
	}
	return w.end()
}

func (w *work) takeContacts(list []*wire.ContactState) error {
	for _, c := range list {
		if w.full(0) {
			return fmt.Errorf("%w in one transaction", ErrTooMany)
		}
		if err := w.takeContact(c); err != nil {
			return err
		}
	}
	return nil
}

// Membership returns what a new device is given, and what a backup holds.
// ErrNoAccountKey if this device does not have the account's present key.
func (e *Engine) Membership(tx store.Tx) (Membership, error) {
	id, err := loadIdentity(tx)
	if err != nil {
		return Membership{}, err
	}
	chain, aik, err := e.signingKey(tx)
	if err != nil {
		return Membership{}, err
	}
	m := Membership{Name: id.Name, Display: id.Display, Home: id.Home, Chain: chain.Bytes(), AIK: aik}
	if rk, ok, err := e.RecoverySeed(tx); err != nil {
		return Membership{}, err
	} else if ok {
		m.RK = &rk
	}
	w, err := e.begin(tx, time.Time{})
	if err != nil {
		return Membership{}, err
	}
	err = eachPeer(tx, func(a protocol.AccountID, p *peerRow) error {
		if !p.tellable() {
			return nil
		}
		c, err := w.contactState(a, p)
		m.Contacts = append(m.Contacts, c)
		return err
	})
	return m, err
}

// CertifyDevice returns the longer chain of an account that has one device
// more, or the same if it has that device; ErrTooManyDevices if it has as many
// as may be.
func CertifyDevice(now time.Time, c *account.Chain, aik key.AccountPrivate, r DeviceRequest) (*account.Chain, error) {
	if _, ok := c.Device(r.Device(c.Account())); ok {
		return c, nil
	}
	if len(c.Devices(time.Time{})) >= protocol.MaxDevices {
		return nil, ErrTooManyDevices
	}
	cert, err := account.NewCert(aik, r.cert(now, c.Account()))
	if err != nil {
		return nil, err
	}
	return c.AddDevice(now, aik, cert)
}

// Recovered is an account that was taken over with its recovery key.
type Recovered struct {
	key.Redacted

	Chain *account.Chain
	AIK   key.AccountPrivate  // the new one
	RK    key.RecoveryPrivate // the new one: the old one has served, and may have been seen
}

// RecoverAccount takes an account over with its recovery key: it gets a new
// account key and a new recovery key, all its other devices are revoked as lost,
// and r becomes the one it has.
func RecoverAccount(now time.Time, c *account.Chain, rk key.RecoveryPrivate, r DeviceRequest) (got Recovered, err error) {
	got.AIK, got.RK = key.NewAccount(), key.NewRecovery()
	first := key.NewAccount()
	next, err := c.RecoverAIK(now, rk, first)
	if err != nil {
		return got, err
	}
	if next, err = next.RotateRK(now, rk, got.RK); err != nil {
		return got, err
	}
	for _, cert := range c.Devices(time.Time{}) {
		if cert.DeviceID() == r.Device(c.Account()) {
			continue
		}
		if next, err = next.RevokeDevice(now, first, cert.DeviceID(), account.Lost, now); err != nil {
			return got, err
		}
	}
	if next, err = next.RotateAIK(now, first, got.AIK); err != nil { // last: see account.Chain.Exposed
		return got, err
	}
	got.Chain, err = CertifyDevice(now, next, got.AIK, r)
	return got, err
}
