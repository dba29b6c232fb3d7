package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// SetAccount takes a directory answer. The chain is replayed, must extend the
// one known, and names bind to accounts once and for ever; and the directory's
// log must prove it. Else the answer is refused with an error of IsAlarm, nothing
// changes, and LookupFailed should be told. For ErrLogMoved ask again. What the
// answer says of the size of the log that was asked from (Log.From) the caller
// has replaced by LogSize as it was when the question was sent. With bundles it opens the sessions that are
// wanted and seals what waited for them; a bundle that does not verify is
// left out and noticed. Asked is when the question was sent: an answer to one
// sent before the last hint of a change (Changed, Behind) does not settle it.
func (e *Engine) SetAccount(tx store.Tx, now, asked time.Time, f *wire.Found) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	a, err := w.provenAnswer(f)
	if err != nil {
		return Hint{}, err
	}
	if a.chain.Account() == e.id.Account {
		return w.ownAnswer(a, asked)
	}
	if a.known == nil && w.count().visitors >= maxVisitors {
		return Hint{}, fmt.Errorf("directory answer of a stranger: %w", ErrTooMany)
	}
	p, err := w.learn(a, asked)
	if err != nil {
		return Hint{}, err
	}
	return w.useAnswer(p, a)
}

// ownAnswer takes over what an answer says of the own account.
func (w *work) ownAnswer(a answer, asked time.Time) (Hint, error) {
	if err := w.takeOwnChain(a.chain); err != nil {
		return Hint{}, err
	}
	if w.hint.Revoked {
		return w.end()
	}
	p, err := w.peer(w.e.id.Account)
	if err != nil {
		return Hint{}, err
	}
	w.confirmed(a.chain.Account(), p, asked)
	return w.useAnswer(p, a)
}

// useAnswer opens the sessions that are wanted with the answer's bundles, and
// ends the work.
func (w *work) useAnswer(p *peerRow, a answer) (Hint, error) {
	if !a.head.IsZero() {
		if err := errors.Join(w.keepHead(a.head), w.readOn(a.head)); err != nil {
			return Hint{}, err
		}
	}
	bad, err := w.openSessions(p, a)
	if err != nil {
		return Hint{}, err
	}
	if err := w.lookedUp(p, a, bad); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// answer is a directory answer that verified, and fits what is known.
type answer struct {
	name    string
	chain   *account.Chain
	bundles []*wire.Bundle
	devices []account.Cert // valid now
	known   *account.Chain // as it was; nil: none
	head    directory.Head // of the log that proves it; zero if it did not come from the directory
}

// provenAnswer is answer, of the directory: its log must prove it, or, of a guest, that of
// its room.
func (w *work) provenAnswer(f *wire.Found) (answer, error) {
	if f.GetName() == "" {
		return w.guestAnswer(f)
	}
	a, err := w.answer(f)
	if errors.Is(err, ErrChainFork) && w.overtaken(f) {
		return answer{}, fmt.Errorf("%w: another answer was quicker", ErrLogMoved)
	}
	if err != nil {
		return answer{}, err
	}
	a.head, err = w.proven(f, a.chain)
	return a, err
}

// overtaken tells whether an answer may show less than is known because a newer
// one came before it.
func (w *work) overtaken(f *wire.Found) bool {
	chain, err := account.ParseChain(f.GetChain())
	if err != nil {
		return false
	}
	if _, err = w.proven(f, chain); err != nil {
		return errors.Is(err, ErrLogMoved)
	}
	v, err := w.e.logView(w.tx)
	if err != nil || f.GetLog().GetFrom() >= v.Head.Size {
		return false
	}
	b, err := get(w.tx, keyChain(chain.Account())) // the account was read before its chain grew, and the head signed after
	if err != nil || b == nil {
		return false
	}
	known, err := account.ParseChain(b)
	return err == nil && known.Extends(chain)
}

// answer verifies f and changes nothing.
func (w *work) answer(f *wire.Found) (answer, error) {
	if err := ValidName(f.GetName()); err != nil {
		return answer{}, fmt.Errorf("%w: name %q", ErrBadAnswer, f.GetName())
	}
	chain, err := account.ParseChain(f.GetChain())
	if err != nil {
		return answer{}, fmt.Errorf("%w: %v", ErrBadAnswer, err)
	}
	a := answer{name: f.GetName(), chain: chain, bundles: f.GetBundles(), devices: w.devicesOf(chain)}
	if err := w.checkName(a.name, chain.Account()); err != nil {
		return answer{}, err
	}
	b, err := get(w.tx, keyChain(chain.Account()))
	if err != nil || b == nil {
		return a, err
	}
	if a.known, err = account.ParseChain(b); err != nil {
		return answer{}, fmt.Errorf("chain row: %w", store.ErrDamaged)
	}
	if !chain.Extends(a.known) {
		return answer{}, fmt.Errorf("%w: statement %d of %q does not extend %d", ErrChainFork, chain.Seq(), a.name, a.known.Seq())
	}
	return a, nil
}

// checkName holds the answer against the first binding seen, both ways.
func (w *work) checkName(name string, id protocol.AccountID) error {
	bound, err := get(w.tx, w.e.keyName(name))
	if err != nil {
		return err
	}
	own := (name == w.e.id.Name) != (id == w.e.id.Account)
	if own && w.e.id.Registered || bound != nil && !bytes.Equal(bound, id[:]) {
		return fmt.Errorf("%w: %q", ErrNameSwapped, name)
	}
	p, err := w.peer(id)
	if err == ErrNotFound {
		return nil
	}
	if err == nil && p.name != name && p.name != "" {
		return fmt.Errorf("%w: %q was %q", ErrNameSwapped, name, p.name)
	}
	return err
}

// devicesOf are the devices of an account that are valid now, without this one.
func (w *work) devicesOf(chain *account.Chain) []account.Cert {
	return slices.DeleteFunc(chain.Devices(w.now), func(c account.Cert) bool { return c.DeviceID() == w.e.id.Device })
}

// learn stores an answer to a question sent at asked.
func (w *work) learn(a answer, asked time.Time) (*peerRow, error) {
	id := a.chain.Account()
	p, err := w.peer(id)
	if err == ErrNotFound {
		p, err = w.welcome(a)
	}
	if err != nil {
		return nil, err
	}
	if err := w.bind(p, id, a.name); err != nil {
		return nil, err
	}
	if err := w.learnChain(p, a.chain); err != nil {
		return nil, err
	}
	w.confirmed(id, p, asked)
	return p, nil
}

// bind gives an account its name, for ever.
func (w *work) bind(p *peerRow, id protocol.AccountID, name string) error {
	if p.name != "" || name == "" {
		return nil
	}
	p.name = name
	return w.set(w.e.keyName(name), id[:])
}

// learnChain stores a chain that extends what is known.
func (w *work) learnChain(p *peerRow, chain *account.Chain) error {
	key := keyChain(chain.Account())
	known, err := get(w.tx, key)
	if err != nil {
		return err
	}
	if err := w.save(key, chain.Bytes(), known); err != nil {
		return err
	}
	if err := w.learnDevices(p, answer{chain: chain, devices: w.devicesOf(chain)}); err != nil || len(known) == len(chain.Bytes()) {
		return err
	}
	return w.learnedChain(chain)
}

// longestLookup is longer than any look-up takes. A hint that came later still
// after a question was sent has the time of a clock that was wrong.
const longestLookup = 10 * time.Minute

// confirmed notes that the directory answered a question sent at asked. If a
// change was hinted at meanwhile it is asked again, and nothing is sent till
// then.
func (w *work) confirmed(id protocol.AccountID, p *peerRow, asked time.Time) {
	if p.changed && waits(fromMillis(millis(asked)), p.hintedAt, longestLookup) {
		w.hint.Refresh = addOnce(w.hint.Refresh, id)
		return
	}
	p.checked = w.now
	if p.changed {
		p.changed = false
		w.wake(p)
	}
}

// wake looks again at what waits for an account that may be reached again.
func (w *work) wake(p *peerRow) {
	for _, d := range p.devices {
		w.hint.outbox(d.id)
	}
}

// welcome makes an account known, for a day unless it becomes a contact.
func (w *work) welcome(a answer) (*peerRow, error) {
	w.count().visitors++
	id := a.chain.Account()
	if err := w.at(w.now.Add(refreshAfter), timerForget, id[:]); err != nil {
		return nil, err
	}
	p := w.addPeer(id, peerRow{})
	list, err := w.siblings()
	if len(list) > 0 { // they may have older messages, which fit below
		p.position, p.readTo, p.readWant = basePosition, basePosition, basePosition
	}
	return p, err
}

// forget removes an account that is neither a contact nor ever was.
func (w *work) forget(id protocol.AccountID, p *peerRow) error {
	if p.known {
		return nil
	}
	w.count().visitors = max(w.count().visitors, 1) - 1
	keys := [][]byte{keyPeer(id), keyChain(id), w.e.keyName(p.name)}
	for _, d := range p.devices {
		keys = append(keys, keyDevice(d.id), keyCert(d.id))
		delete(w.devices, d.id)
	}
	delete(w.peers, id)
	for _, k := range keys {
		if err := w.delete(k); err != nil {
			return err
		}
	}
	return nil
}

// learnDevices takes over the devices of the chain: new ones get what is
// written from now on, revoked ones nothing more.
func (w *work) learnDevices(p *peerRow, a answer) error {
	id := a.chain.Account()
	old := p.devices
	first := p.head == [16]byte{}
	p.head = headOf(a.chain)
	if err := w.learnRecoveries(p, a.chain, first); err != nil {
		return err
	}
	var fresh []protocol.DeviceID
	p.devices = make([]peerDevice, len(a.devices))
	for i, cert := range a.devices {
		device := cert.DeviceID()
		p.devices[i] = peerDevice{device, cert.NotAfter}
		if err := w.setCert(device, cert); err != nil {
			return err
		}
		if _, err := w.device(device); err == nil {
			continue
		} else if err != ErrNotFound {
			return err
		}
		w.addDevice(device, *newDeviceRow(id))
		if p.relation == Self && !first {
			if err := w.shareContacts(device); err != nil {
				return err
			}
		}
		fresh = append(fresh, device)
		if !first && p.relation == Accepted {
			if err := w.notice(NoticeDeviceAdded, id, fmt.Sprintf("%s has a new device, %q", p.name, cert.Name)); err != nil {
				return err
			}
		}
	}
	for _, device := range a.chain.Ended() { // also one that had expired before
		if err := w.revoked(p, id, device); err != nil && err != ErrNotFound {
			return err
		}
	}
	for _, device := range fresh {
		if err := w.postUnsent(id, p, device, a.chain.Ended()); err != nil {
			return err
		}
	}
	if len(old) == 0 || len(a.chain.Devices(time.Time{})) > 0 || p.relation != Accepted {
		return nil
	}
	text := fmt.Sprintf("%s has no device any more: nobody reads what is sent there until they bring their account back", p.name)
	if a.chain.Closed() {
		text = fmt.Sprintf("%s has closed their account: nobody reads what is sent there", p.name)
	}
	return w.notice(NoticeNoDevice, id, text)
}

func headOf(chain *account.Chain) (head [16]byte) {
	hash := chain.Head()
	copy(head[:], hash[:])
	return head
}

// learnRecoveries notes when an account was recovered. Who has its recovery
// words has it, and all its devices are new: of a contact that was verified,
// the user has to look at this before anything is sent.
func (w *work) learnRecoveries(p *peerRow, chain *account.Chain, first bool) error {
	count := uint32(chain.Recoveries())
	switch {
	case first:
		p.recoveries, p.looked = count, count
	case count > p.recoveries:
		p.recoveries, p.recoveredAt = count, w.now
		if p.relation != Accepted {
			return nil
		}
		text := fmt.Sprintf("the account of %s was recovered, and has a new account key and new devices", p.name)
		if p.verified {
			text += "; nothing is sent until you verify them again or accept the change"
		}
		return w.notice(NoticeRecovered, chain.Account(), text)
	}
	return nil
}

func (w *work) setCert(device protocol.DeviceID, cert account.Cert) error {
	old, err := get(w.tx, keyCert(device))
	if err != nil {
		return err
	}
	return w.save(keyCert(device), cert.Marshal(), old)
}

func (w *work) revoked(p *peerRow, id protocol.AccountID, device protocol.DeviceID) error {
	d, err := w.device(device)
	if err != nil || d.revoked {
		return err
	}
	d.revoked = true
	if err := errors.Join(w.stopSharing(device), w.dropComparison(id, &device)); err != nil {
		return err
	}
	if p.relation != Self { // of our own it may have the account key for us: see useAccountKey
		if err := w.forgetSessions(device, d); err != nil {
			return err
		}
	}
	if err := w.purge(device, d); err != nil {
		return err
	}
	if p.relation != Accepted || len(p.devices) == 0 {
		return nil
	}
	return w.notice(NoticeDeviceRevoked, id, fmt.Sprintf("a device of %s was revoked: %s", p.name, short(device)))
}
