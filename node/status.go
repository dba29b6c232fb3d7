package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

const (
	diskFullFor  = 10 * time.Minute // a refused write is shown that long
	graceAtStart = 5 * time.Second  // the rendezvous may not be connected yet
)

// Whoami returns who this device is.
func (n *Node) Whoami() api.Whoami { return whoami(n.self) }

func whoami(id *engine.Identity) api.Whoami {
	return api.Whoami{
		Name: cmp.Or(id.Name, id.Display), Display: id.Display, Account: id.Account.String(), Device: id.Device.String(),
		PeerID: peerText(id.Host.Public().PeerID()),
	}
}

// Status returns how everything is, with what the user can do about problems.
func (n *Node) Status(ctx context.Context) (s api.Status, err error) {
	who := n.Whoami()
	s = api.Status{
		Version: n.version, PID: os.Getpid(), Name: who.Name, Display: who.Display, Account: who.Account, Device: who.Device,
		PeerID: who.PeerID, Dir: n.dir, Since: n.started, Listen: []string{},
		Reachability: reachabilityText(network.Reachability(n.reachable.Load())), LAN: n.lan != nil,
		Contacts: []api.Contact{}, Problems: []api.Problem{},
	}
	_, listening := n.ownAddrs()
	for _, a := range listening {
		if !isRelayed(a) {
			s.Listen = append(s.Listen, a.String())
		}
	}
	var contacts []engine.Contact
	var stale []protocol.AccountID
	var keys engine.PrekeyStatus
	var recovery api.Recovery
	var alarm engine.LogAlarm
	var alarmed bool
	var rooms []engine.Room
	var log engine.LogStatus
	err = n.kv.View(ctx, func(tx store.Tx) (err error) {
		if s.Queued, s.Waiting, err = n.eng.Counts(tx); err != nil {
			return err
		}
		if keys, err = n.eng.PrekeyStatus(tx, n.now()); err != nil {
			return err
		}
		if stale, err = n.eng.Stale(tx, n.now()); err != nil {
			return err
		}
		if recovery, err = n.recovery(tx); err != nil {
			return err
		}
		if alarm, alarmed, err = n.eng.LogAlarm(tx); err != nil {
			return err
		}
		if log, err = n.eng.LogStatus(tx); err != nil {
			return err
		}
		if rooms, err = n.eng.Rooms(tx, n.now()); err != nil {
			return err
		}
		contacts, err = n.eng.Contacts(tx)
		return err
	})
	if err != nil {
		return s, answer(err)
	}
	for _, c := range contacts {
		s.Contacts = append(s.Contacts, n.apiContact(c))
	}
	s.Prekeys = api.Prekeys{
		Published: keys.Published, Cap: keys.Cap, SignedSince: unlessZero(keys.SignedSince), LastUpload: unlessZero(keys.LastUpload),
		LastProblem: keys.LastProblem, Fallback: keys.Fallback,
	}
	var reason error
	s.Rendezvous, s.Relay, reason = n.home.links()
	s.Relays = n.relays.status()
	if alarmed {
		s.Problems = append(s.Problems, api.Problem{Fix: compareKeys, Text: fmt.Sprintf(
			"ALARM of %s: the rendezvous's log of names and keys does not hold. It was restored from an old backup, or it shows you or others false keys. Nothing new is sent to contacts that you have not verified. %s",
			alarm.At.Format(time.DateOnly), alarm.Problem)})
	}
	n.addProblems(&s, reason, stale, keys.Held)
	addRoomProblems(&s, rooms)
	if n.isGuest() { // no names, and nothing to recover
		return s, nil
	}
	if !alarmed { // else it is why
		addLogProblems(&s, log)
	}
	if fix, text := n.backupProblem(recovery); text != "" {
		s.Problems = append(s.Problems, api.Problem{Text: text, Fix: fix})
	}
	return s, nil
}

// What to type where nothing on this machine is wrong, or a new start helps.
const (
	askHost = "parley host status (whoever runs the rendezvous types that there)"
	again   = "parley down; parley up"

	compareKeys = "parley verify NAME (with each contact, by another way than this); if whoever runs the rendezvous can explain it: parley evidence accept"
)

// addProblems lists what is wrong, the cause before what follows from it.
func (n *Node) addProblems(s *api.Status, reason error, stale []protocol.AccountID, held string) {
	add := func(fix, format string, args ...any) {
		s.Problems = append(s.Problems, api.Problem{Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	if full := n.diskFull.Load(); full != 0 && time.Since(time.Unix(0, full)) < diskFullFor {
		add("df -h "+n.dir, "The disk is nearly full: nothing new is sent or received.")
	}
	if fix, text := linkProblem(reason); text != "" {
		add(fix, "%s", text)
	} else if !s.Rendezvous.Up && n.now().Sub(n.started) > graceAtStart {
		add(askHost, "The rendezvous cannot be reached; it is tried again all the time. Until then messages go only to contacts who can be reached without it. %s", s.Rendezvous.Problem)
	}
	if s.Rendezvous.Up && s.Relay.Problem != "" && !slices.ContainsFunc(s.Relays, func(l api.Link) bool { return l.Up }) {
		add(askHost, "No relay: contacts behind other routers may be reached through the mailbox only. %s", s.Relay.Problem)
	}
	if skew := n.home.skew(); s.Rendezvous.Up && max(skew, -skew) > maxSkew {
		way := "ahead"
		if skew < 0 {
			way = "behind"
		}
		add(setClock, "This machine's clock is %s %s of the rendezvous's.", max(skew, -skew).Round(time.Second), way)
	}
	if held != "" {
		fix := askHost
		if held == engine.HeldClock {
			fix = setClock
		}
		add(fix, "Nothing is sent: %s.", held)
	}
	if s.Rendezvous.Up && s.Prekeys.Cap > 0 && s.Prekeys.Published < s.Prekeys.Cap/10 {
		add("parley keys doctor", "Only %d one-time keys are left at the rendezvous. %s", s.Prekeys.Published, s.Prekeys.LastProblem)
	} else if s.Prekeys.LastProblem != "" {
		add("parley keys doctor", "Publishing keys failed: %s", s.Prekeys.LastProblem)
	}
	if len(stale) > 0 && !s.Rendezvous.Up {
		add(askHost, "The keys of %d contacts were not confirmed for more than a day. That is done when the rendezvous can be reached.", len(stale))
	}
	for _, k := range s.Contacts {
		if k.KeyChanged {
			add("parley verify "+k.Name, "Nothing is sent to %s: their account was recovered, and it may not be them any more. Verify them again, or go on without: parley verify %s --accept", k.Name, k.Name)
		}
	}
}

// addRoomProblems says which rooms cannot be followed. What to type has a room's id and
// not its name, which others choose: a shell might do what it says.
func addRoomProblems(s *api.Status, rooms []engine.Room) {
	for _, r := range rooms {
		switch {
		case r.Forked:
			s.Problems = append(s.Problems, api.Problem{Fix: "parley room fork " + short(r.ID.String()), Text: fmt.Sprintf(
				"ALARM: members of the room %q were shown different logs of it. Nothing is sent there until you have looked.", r.Name)})
		case r.Problem != "" && r.Stage == engine.RoomJoined:
			s.Problems = append(s.Problems, api.Problem{Fix: askHost, Text: fmt.Sprintf("The room %q cannot be followed: %s", r.Name, r.Problem)})
		}
	}
}

// addLogProblems says why the rendezvous's log is not watched as a whole, and
// what waits for its answers.
func addLogProblems(s *api.Status, log engine.LogStatus) {
	add := func(fix, format string, args ...any) {
		s.Problems = append(s.Problems, api.Problem{Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	switch {
	case log.Problem != "":
		add(askHost, "The rendezvous's log of names was not read on: %s", log.Problem)
	case log.Whole && log.Mirrored < log.Size:
		add(askHost, "The rendezvous's log of names is too long to be watched as a whole: %d of %d entries are. Each answer is still proven.", log.Mirrored, log.Size)
	}
	if s.Waiting > 0 {
		add("parley contacts", "%d messages wait for keys of their recipients. They go out as soon as the rendezvous has them.", s.Waiting)
	}
}

// linkProblem explains why there is no link, where somebody can do something about
// it: the rendezvous turns this device away, or, being a copy of another, it could
// not become one of its own.
func linkProblem(reason error) (fix, text string) {
	switch {
	case errors.Is(reason, ErrGuestCopied):
		return "parley guest LINK --dir NEW", ErrGuestCopied.Error()
	case errors.Is(reason, engine.ErrNoAccountKey):
		return "parley --dir NEW link CODE", "This folder is a copy, or an older state, of a device that is in use, and it cannot become a device of its own: your account's key was replaced since. Add this computer again, in a new folder."
	case errors.Is(reason, engine.ErrTooManyDevices):
		return "parley device revoke DEVICE", "This folder is a copy, or an older state, of a device that is in use. It becomes a device of its own as soon as your account has room: on another device, revoke one that you no longer use."
	}
	if errors.Is(reason, ErrRebornToday) {
		return "parley --dir NEW link CODE", "This folder became a new device less than a day ago, and the rendezvous takes it for a copy again. It waits until tomorrow; nothing is sent until then. If you copied the folder twice, add this computer again, in a new folder."
	}
	refusal, ok := errors.AsType[*protocol.Error](reason)
	if !ok {
		return "", ""
	}
	switch refusal.Code {
	case protocol.Replaced, protocol.DeviceCloned, protocol.StoreRolledBack:
		return "parley status", "This folder is a copy, or an older state, of a device that is in use. It becomes a new device by itself; until then nothing is sent."
	case protocol.Revoked:
		return "parley --dir NEW link CODE", "This device was revoked. To use your account here, add this computer again, in a new folder."
	case protocol.NotMember:
		return askHost, "The rendezvous does not know this device any more."
	case protocol.Draining, protocol.Unavailable:
		return askHost, "The rendezvous is stopping or being restarted; it is tried again all the time."
	case protocol.UnsupportedVersion:
		return "parley version", "The rendezvous speaks another version. Update Parley."
	default:
		return askHost, "The rendezvous does not let us in now: " + refusal.Error()
	}
}

func reachabilityText(r network.Reachability) string {
	switch r {
	case network.ReachabilityPublic:
		return "public"
	case network.ReachabilityPrivate:
		return "private"
	default:
		return "unknown"
	}
}
