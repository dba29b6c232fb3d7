package node_test

import (
	"crypto/rand"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// JWK-12: what holds for the keys that tokens are signed with holds for the chat
// keys in the directory too. Here is the node's half, over real libp2p; more is in
// rendezvous and engine.

// strangersMail makes openings for a device: half of them each of another account
// that there is not, half of devices that an account has not.
func strangersMail(t *testing.T, to protocol.DeviceID, known protocol.AccountID) func() []byte {
	t.Helper()
	cert, err := account.NewCert(key.NewAccount(), account.Cert{
		Signing: key.NewDevice().Public(), Identity: key.NewIdentity().Public(), PeerID: key.NewHost().Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: time.Now(), NotAfter: time.Now().Add(time.Hour), Name: "none",
	})
	if err != nil {
		t.Fatal(err)
	}
	o := envelope.Opening{Recipient: to, EK: [32]byte(key.NewIdentity().Public().Bytes())}
	message := make([]byte, 400)
	return func() []byte {
		rand.Read(o.Session[:])
		cert.Signing = key.NewDevice().Public()
		if cert.Account = known; o.Session[0]&1 == 0 {
			rand.Read(cert.Account[:])
		}
		o.Cert, o.Sender = cert, cert.DeviceID()
		return append(o.Marshal(), message...)
	}
}

// Who names accounts that there are not takes nobody's turn but that of other
// unknown ones: a contact's new device is looked up all the same.
func TestUnknownSendersKeepNoContactOut(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	var bobs protocol.AccountID
	if err := bobs.UnmarshalText([]byte(bob.Whoami().Account)); err != nil {
		t.Fatal(err)
	}
	codes := map[protocol.Code]int{}
	for range 30 {
		var none protocol.AccountID
		rand.Read(none[:])
		codes[protocol.CodeOf(alice.LookUpSender(t.Context(), none))]++
	}
	if codes[protocol.BadRequest] == 0 || codes[protocol.Unavailable] == 0 {
		t.Fatalf("accounts that there are not: %v", codes)
	}
	if err := alice.LookUpSender(t.Context(), bobs); err != nil {
		t.Errorf("the contact is not looked up: %v", err)
	}
}

// JWK-04: 10,000 envelopes that name accounts and devices which there are not
// cause few look-ups, and none if a contact brings them. Who is real gets through
// soon after.
func TestJWK12_UnknownSendersCauseFewLookups(t *testing.T) {
	const flood, perPage = 10_000, 128
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	self := where(t, alice).ID
	var bobs protocol.AccountID
	if err := bobs.UnmarshalText([]byte(bob.Whoami().Account)); err != nil {
		t.Fatal(err)
	}
	next := strangersMail(t, deviceOf(t, alice), bobs)

	var lookups, served atomic.Int64
	net.Home.Lie(nodetest.Lie{Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
		switch {
		case to != self:
		case q.GetLookup() != nil:
			lookups.Add(1)
		case q.GetFetch() != nil && served.Load() < flood:
			mail := &wire.Mail{More: true}
			for range perPage {
				mail.Items = append(mail.Items, &wire.MailItem{Cursor: uint64(served.Add(1)), Envelope: next()})
			}
			a.Code, a.Result = 0, &wire.Response_Mail{Mail: mail}
		}
	}})
	begun := time.Now()
	alice.Stop()
	alice.Start()
	net.Wait("alice has looked at all of it", func() bool { return served.Load() >= flood })
	if got, most := lookups.Load(), 11*int64(1+time.Since(begun)/(10*time.Second)); got < 1 || got > most {
		t.Errorf("%d look-ups, want at most %d", got, most)
	}
	if _, err := carol.Add(t.Context(), api.AddRequest{Name: "alice"}); err != nil {
		t.Fatal(err)
	}
	net.Wait("alice sees a real stranger's request", func() bool { return alice.Contact("carol").Relation == api.Incoming })

	h, info := impostor(t, bob, alice)
	s := openMsg(t, h, info.ID)
	lookups.Store(0)
	for range flood / perPage {
		var envs [][]byte
		for range perPage {
			envs = append(envs, next())
		}
		for _, c := range deliver(t, s, envs...) {
			if protocol.Code(c) != protocol.Undecryptable {
				t.Fatalf("a stranger's envelope from a contact: %v", protocol.Code(c))
			}
		}
	}
	if got := lookups.Load(); got != 0 {
		t.Errorf("a contact caused %d look-ups", got)
	}
}

func deviceOf(t *testing.T, p *nodetest.Person) (id protocol.DeviceID) {
	t.Helper()
	if err := id.UnmarshalText([]byte(p.Whoami().Device)); err != nil {
		t.Fatal(err)
	}
	return id
}

// JWK-05: of a change whose hint is lost a node reads when it is next welcomed.
func TestJWK12_MissedChangeIsRead(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	net.Home.Lie(nodetest.Lie{Hint: func(_ peer.ID, h *wire.Hint) { h.Changed = nil }})
	phone := bob.Link("phone", false)
	if n := notices(t, alice, engine.NoticeDeviceAdded); n != 0 {
		t.Fatal("the hint was not lost")
	}
	if err := alice.HelloFirst(); err == nil { // she connects anew
		t.Fatal("no error")
	}
	net.Wait("alice knows the new device", noticed(t, alice, engine.NoticeDeviceAdded))
	alice.Say(bob, "to both")
	net.Wait("it has the message", has(phone, alice, "to both"))
}

// JWK-02: a device is in the directory before it speaks. Who was not told of it
// finds it there.
func TestJWK12_NewDeviceIsPublishedBeforeItSpeaks(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	net.Home.Lie(nodetest.Lie{Hint: func(_ peer.ID, h *wire.Hint) { h.Changed = nil }})
	phone := bob.Link("phone", false)
	phone.Say(alice, "from the new one")
	net.Wait("alice has it", has(alice, bob, "from the new one"))
	if n := notices(t, alice, engine.CauseUnknownSender); n != 0 {
		t.Errorf("it was refused %d times", n)
	}
}

// JWK-06: what did not change is not read again, also after a restart of the
// rendezvous.
func TestJWK12_UnchangedKeysAreNotReadAgain(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	alice.Say(bob, "1")
	net.Wait("bob has it", has(bob, alice, "1"))
	var read atomic.Int64
	net.Home.Lie(nodetest.Lie{Answer: func(_ peer.ID, q *wire.Request, _ *wire.Response) {
		if q.GetHeads() != nil || q.GetLookup() != nil {
			read.Add(1)
		}
	}})
	net.Home.Stop()
	net.Wait("it is gone", func() bool { return !alice.Up() && !bob.Up() })
	net.Home.Start()
	net.Wait("both are back", func() bool { return alice.Up() && bob.Up() })
	bob.Stop() // so that this goes through the mailbox, after all that follows a welcome
	m := alice.Say(bob, "2")
	net.Wait("it is in the mailbox", reached(alice, m.ID, api.Stored))
	if n := read.Load(); n != 0 {
		t.Errorf("%d reads", n)
	}
}

// IM-14 and JWK-03: once a node was told that an account changed, nothing leaves
// for a device of it that was revoked. Who was not told learns of it by the next
// message, which goes to the devices there are, once.
func TestIM14_RevokedDeviceGetsNothing(t *testing.T) {
	t.Parallel()
	for name, hinted := range map[string]bool{"hinted": true, "the hint is lost": false} {
		t.Run(name, func(t *testing.T) {
			net := nodetest.New(t, 2)
			alice, bob := net.People[0], net.People[1]
			net.Befriend(alice, bob)
			phone := bob.Link("phone", false)
			alice.Say(bob, "to both")
			net.Wait("the phone has it", has(phone, alice, "to both"))
			lost := deviceOf(t, phone)
			self := where(t, alice).ID
			var put, stored atomic.Int64 // envelopes of alice for the phone
			net.Home.Lie(nodetest.Lie{
				Answer: func(to peer.ID, q *wire.Request, a *wire.Response) {
					for i, item := range q.GetPut().GetItems() {
						if to != self || string(item.GetDevice()) != string(lost[:]) {
							continue
						}
						put.Add(1)
						if a.GetCode() == 0 && a.GetPutResults().GetResults()[i].GetCode() == 0 {
							stored.Add(1)
						}
					}
				},
				Hint: func(_ peer.ID, h *wire.Hint) {
					if !hinted {
						h.Changed = nil
					}
				},
			})
			phone.Stop()
			if _, err := bob.RevokeDevice(t.Context(), "phone", "lost"); err != nil {
				t.Fatal(err)
			}
			if hinted {
				net.Wait("alice is told", noticed(t, alice, engine.NoticeDeviceRevoked))
			}
			m := alice.Say(bob, "not for the phone")
			net.Wait("bob has it", has(bob, alice, "to both", "not for the phone"))
			net.Wait("alice knows of the revocation", noticed(t, alice, engine.NoticeDeviceRevoked))
			net.Wait("it counts as delivered", reached(alice, m.ID, api.Delivered))
			if stored.Load() > 0 || hinted && put.Load() > 0 {
				t.Errorf("%d envelopes were sent to the revoked device, %d taken", put.Load(), stored.Load())
			}
			if !hinted && put.Load() == 0 {
				t.Error("the hint was not lost")
			}
		})
	}
}
