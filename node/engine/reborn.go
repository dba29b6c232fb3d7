package engine

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// A store that was copied or set back must not use its keys again: what was
// sealed since would be sealed again with the same keys. So the device becomes
// another: first its new keys are stored and its account's chain certifies them
// (PlanReborn), then, when the rendezvous has the chain, everything of the old
// device goes and the new one takes its place (Reborn). History, contacts and
// what is queued stay.

var errNoNewcomer = errors.New("no new device is planned")

// rebornRow is the device that is to take the place of this one.
type rebornRow struct {
	newcomer *Newcomer
	chain    []byte // the account's, with it
}

func (r *rebornRow) encode() []byte {
	e := newRow(2 << 10)
	e.bytes(r.newcomer.encode())
	e.bytes(r.chain)
	return e.b
}

func (r *rebornRow) decode(b []byte) (err error) {
	d := readRow(b)
	newcomer, chain := d.bytes(), d.bytes()
	if err := d.end("new device"); err != nil {
		return err
	}
	r.chain = bytes.Clone(chain)
	r.newcomer, err = decodeNewcomer(newcomer)
	return err
}

// PlanReborn certifies n as the device that takes the place of this one, and
// returns the chain to be uploaded from n's peer id. If one is planned already,
// that one stays, and n may be nil: call it again after another change of the
// chain came first. From here on nothing is sealed or sent: what is written
// waits for Reborn. ErrNoAccountKey, ErrTooManyDevices; ErrGuest: its key is all that a
// guest is.
func (e *Engine) PlanReborn(tx store.Tx, now time.Time, n *Newcomer) (chain []byte, err error) {
	if e.isGuest() {
		return nil, ErrGuest
	}
	r, planned, err := load[rebornRow](tx, keyReborn())
	if err != nil {
		return nil, err
	}
	if !planned {
		r.newcomer = n
	}
	if r.newcomer == nil {
		return nil, errNoNewcomer
	}
	c, err := e.OwnChain(tx)
	if err != nil {
		return nil, err
	}
	request := r.newcomer.Request()
	if _, ok := c.Device(request.Device(c.Account())); !ok {
		if c, err = e.certify(tx, now, request); err != nil {
			return nil, err
		}
	}
	r.chain = c.Bytes()
	if err := tx.Set(keyReborn(), r.encode()); err != nil {
		return nil, err
	}
	e.stopped.Store(true)
	return r.chain, nil
}

// PendingReborn returns what PlanReborn stored: the chain to be uploaded, and
// the libp2p identity to do it from. Not ok if nothing is planned.
func PendingReborn(tx store.Tx) (chain []byte, host key.HostPrivate, ok bool, err error) {
	r, ok, err := load[rebornRow](tx, keyReborn())
	if err != nil || !ok {
		return nil, host, false, err
	}
	return r.chain, r.newcomer.Host, true, nil
}

// Reborn puts the planned device in the place of this one, after the rendezvous
// took the chain. It does as much as one transaction may carry: more tells to
// call it again. Until it has ended every other call gives ErrSwapping; then
// Load again: this engine is of a device that is no more.
func (e *Engine) Reborn(tx store.Tx, now time.Time) (more bool, err error) {
	r, planned, err := load[rebornRow](tx, keyReborn())
	if err != nil {
		return false, err
	}
	if !planned {
		return false, errNoNewcomer
	}
	e.stopped.Store(true)
	e.swapping.Store(true)
	w, err := e.newWork(tx, now)
	if err != nil {
		return false, err
	}
	cursor, begun, err := load[swapRow](tx, keySwap())
	if err != nil {
		return false, err
	}
	if !begun {
		if err := w.put(keySwap(), &cursor); err != nil {
			return false, err
		}
	}
	for _, step := range []func() (bool, error){
		func() (bool, error) {
			return clearTables(tx, tableSession, tableGone, tableReplay, tableOneTime, tableSigned, tableStock, tableGiven, tablePrekeys, tableCompare)
		},
		w.unsealAll,
		func() (bool, error) { return w.resetDevices(cursor) },
		func() (bool, error) { return clearTables(tx, tableHole, tableHeld) },
		func() (bool, error) { // of the old device: the new one begins anew in rooms, when their logs name it
			return clearTables(tx, tableRoomEntry, tableRoomChain, tableRoomSender, tableRoomReceiver, tableRoomWait, tableRoomHeld)
		},
	} {
		if more, err = step(); err != nil {
			return false, err
		}
		if more {
			_, err := w.end()
			return true, err
		}
	}
	if err := w.swap(r); err != nil {
		return false, err
	}
	_, err = w.end()
	return false, err
}

// unsealAll takes back everything that was sealed and not acknowledged.
func (w *work) unsealAll() (more bool, err error) {
	rows := 0
	for _, table := range []byte{tableKept, tableOut} {
		for pair, err := range w.tx.Scan([]byte{table}, store.PrefixEnd([]byte{table})) {
			if err != nil {
				return false, err
			}
			if w.full(rows) {
				return true, nil
			}
			rows++
			device := keyDeviceOf(pair.Key)
			if err := w.unsealOrDrop(device, table, pair); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// unsealOrDrop takes a content back, unless its device was forgotten.
func (w *work) unsealOrDrop(device protocol.DeviceID, table byte, pair store.Pair) error {
	d, err := w.device(device)
	if err == nil {
		return w.unsealOne(device, d, table, pair)
	}
	if err != ErrNotFound {
		return err
	}
	r, err := decodeRow[itemRow](pair.Value)
	if err != nil {
		return err
	}
	return w.drop(pair.Key, r)
}

// swapRow is how far resetDevices has come.
type swapRow struct {
	device protocol.DeviceID // the first that is not done
	number uint64            // the first content waiting for it that has no new number; 0: none has
}

func (r *swapRow) encode() []byte {
	e := newRow(40)
	e.raw(r.device[:])
	e.u64(r.number)
	return e.b
}

func (r *swapRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.device[:])
	r.number = d.u64()
	return d.end("replaced device")
}

// resetDevices forgets, of every device we know, what was between it and the
// old device: to them the new one begins at 1, and so do they to it.
func (w *work) resetDevices(at swapRow) (more bool, err error) {
	rows := 0
	for pair, err := range w.tx.Scan(keyDevice(at.device), store.PrefixEnd([]byte{tableDevice})) {
		if err != nil {
			return false, err
		}
		device := protocol.DeviceID(pair.Key[1:])
		if device != at.device {
			at = swapRow{device: device}
		}
		if w.full(rows) {
			return true, w.put(keySwap(), &at)
		}
		rows++
		d, err := w.device(device)
		if err != nil {
			return false, err
		}
		if more, err := w.resetDevice(&at, d); err != nil || more {
			return true, errors.Join(err, w.put(keySwap(), &at))
		}
	}
	return false, nil
}

func (w *work) resetDevice(at *swapRow, d *deviceRow) (more bool, err error) {
	if at.number == 0 {
		if more, err := w.showHeld(at.device, d); err != nil || more {
			return more, err
		}
		waiting := d.waiting
		fresh := newDeviceRow(d.account)
		fresh.revoked, fresh.waiting, fresh.heard = d.revoked, waiting, d.heard
		*d = *fresh
		at.number = 1
	}
	if d.waiting == 0 {
		return false, nil
	}
	if err := w.at(w.now, timerDrain, at.device[:]); err != nil {
		return false, err
	}
	return w.renumber(at, d)
}

// showHeld takes what came early from a device: what is missing before it would
// come to the old device.
func (w *work) showHeld(device protocol.DeviceID, d *deviceRow) (more bool, err error) {
	for d.held > 0 && !w.full(0) {
		first, _, err := w.firstHeld(device, d)
		if err != nil || first == 0 {
			return false, err
		}
		d.next = first
		if err := w.release(device, d); err != nil {
			return false, err
		}
	}
	return d.held > 0, nil
}

// renumber gives the contents that wait for a device their places in the order
// anew.
func (w *work) renumber(at *swapRow, d *deviceRow) (more bool, err error) {
	rows := 0
	start, end := keyItem(tableWaiting, at.device, at.number), store.PrefixEnd(store.Key(tableWaiting, at.device[:]))
	for pair, err := range w.tx.Scan(start, end) {
		if err != nil {
			return false, err
		}
		if w.full(rows) {
			at.number = keyNumber(pair.Key)
			return true, nil
		}
		rows++
		r, err := decodeRow[itemRow](pair.Value)
		if err != nil {
			return false, err
		}
		if err := r.renumber(d); err != nil {
			return false, err
		}
		if err := w.put(pair.Key, &r); err != nil {
			return false, err
		}
	}
	return false, nil
}

// renumber gives a content the next number, if it has one.
func (r *itemRow) renumber(d *deviceRow) error {
	if r.seq > 0 {
		d.sentSeq++
		r.seq = d.sentSeq
		return nil
	}
	content := &wire.Content{}
	if err := proto.Unmarshal(r.content, content); err != nil {
		return fmt.Errorf("queue row: %w", store.ErrDamaged)
	}
	if content.GetSeq() == 0 {
		return nil
	}
	d.sentSeq++
	content.Seq = d.sentSeq
	var err error
	r.content, err = proto.Marshal(content)
	return err
}

// swap is the last step: the new device's identity takes the place of the old.
func (w *work) swap(r rebornRow) error {
	c, err := w.rebornChain(r)
	if err != nil {
		return err
	}
	id, err := loadIdentity(w.tx)
	if err != nil {
		return err
	}
	old := *id
	cert, ok := c.Device(r.newcomer.Request().Device(c.Account()))
	if !ok {
		return fmt.Errorf("%w: it does not certify the new device", ErrBadAnswer)
	}
	why := "another device took the place of this one"
	if err := w.ledgerDevice(id.DSK, id.DIK, id.Host, ledger.Destroyed, why); err != nil {
		return err
	}
	if err := w.ledgerAll(why); err != nil {
		return err
	}
	id.become(r.newcomer, cert)
	if err := w.ledgerDevice(id.DSK, id.DIK, id.Host, ledger.Created, why); err != nil {
		return err
	}
	w.e = newEngine(id)
	if err := errors.Join(id.save(w.tx), w.set(keyChain(id.Account), c.Bytes())); err != nil {
		return err
	}
	if _, err := clearTables(w.tx, tableRSA, tableStarts); err != nil {
		return err
	}
	if err := errors.Join(w.setRSA(r.newcomer.RSA, r.newcomer.Made), w.delete(keyReborn()), w.delete(keySwap())); err != nil {
		return err
	}
	p, err := w.peer(id.Account)
	if err != nil {
		return err
	}
	if err := w.learnOwn(p, c); err != nil {
		return err
	}
	text := fmt.Sprintf("the store of this device was copied or set back, so it became a new device (%s); the old one, %q (%s), may still run elsewhere; if it does not: parley device revoke %s",
		short(id.Device), old.DeviceName, short(old.Device), short(old.Device))
	return w.notice(NoticeReborn, id.Account, text)
}

// rebornChain is the chain that was uploaded, or a longer one that came since.
func (w *work) rebornChain(r rebornRow) (*account.Chain, error) {
	c, err := account.ParseChain(r.chain)
	if err != nil {
		return nil, fmt.Errorf("chain of new device: %w", store.ErrDamaged)
	}
	known, err := w.e.OwnChain(w.tx)
	if err != nil {
		return nil, err
	}
	switch {
	case known.Extends(c):
		return known, nil
	case c.Extends(known):
		return c, nil
	}
	return nil, fmt.Errorf("%w: plan the new device again", ErrChainFork)
}
