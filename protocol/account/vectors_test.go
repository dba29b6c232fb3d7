package account

import (
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one account's life, from fixed seeds.
type vector struct {
	Comment     string      `json:"comment"`
	AIKSeed     keytest.Hex `json:"aik_seed"`
	RKSeed      keytest.Hex `json:"rk_seed"`
	NewAIKSeed  keytest.Hex `json:"new_aik_seed"`
	DSKSeed     keytest.Hex `json:"dsk_seed"`
	DIKPrivate  keytest.Hex `json:"dik_private"`
	HostSeed    keytest.Hex `json:"host_seed"`
	AccountID   keytest.Hex `json:"account_id"`
	Cert        keytest.Hex `json:"cert"`
	DeviceID    keytest.Hex `json:"device_id"`
	Chain       keytest.Hex `json:"chain"`
	Head        keytest.Hex `json:"head"`
	Recoveries  int         `json:"recoveries"`
	SafetyNames []string    `json:"safety_names"`
	Safety      string      `json:"safety_number"`
}

// Genesis, add a device, revoke it, rotate both keys, close: every operation.
func TestVectors(t *testing.T) {
	seed := func(name string) []byte { return keytest.Seed(name, 32) }
	v := vector{
		Comment: "genesis, add_device, revoke_device, rotate_aik by the recovery key, rotate_rk, close; one second apart from 1800000000",
		AIKSeed: seed("aik"), RKSeed: seed("rk"), NewAIKSeed: seed("aik2"),
		DSKSeed: seed("dsk"), DIKPrivate: seed("dik"), HostSeed: seed("host"),
		SafetyNames: []string{"alice", "bob"},
	}
	aik, err := key.ParseAccount(v.AIKSeed)
	check(t, err)
	aik2, err := key.ParseAccount(v.NewAIKSeed)
	check(t, err)
	rk, err := key.ParseRecovery(v.RKSeed)
	check(t, err)
	rk2, err := key.ParseRecovery(seed("rk2"))
	check(t, err)
	dsk, err := key.ParseDevice(v.DSKSeed)
	check(t, err)
	dik, err := key.ParseIdentity(v.DIKPrivate)
	check(t, err)
	host, err := key.ParseHost(v.HostSeed)
	check(t, err)

	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	c, err := Create(at(0), aik, rk.Public())
	check(t, err)
	cert, err := NewCert(aik, Cert{
		Account: c.Account(), Signing: dsk.Public(), Identity: dik.Public(), PeerID: host.Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: at(1), NotAfter: at(31536001), Name: "laptop",
	})
	check(t, err)
	c, err = c.AddDevice(at(1), aik, cert)
	check(t, err)
	c, err = c.RevokeDevice(at(2), aik, cert.DeviceID(), Lost, at(1))
	check(t, err)
	c, err = c.RecoverAIK(at(3), rk, aik2)
	check(t, err)
	c, err = c.RotateRK(at(4), rk, rk2)
	check(t, err)
	c, err = c.Close(at(5), aik2)
	check(t, err)

	account, device, head := c.Account(), cert.DeviceID(), c.Head()
	v.AccountID, v.DeviceID, v.Head = account[:], device[:], head[:]
	v.Cert, v.Chain, v.Recoveries = cert.Marshal(), c.Bytes(), c.Recoveries()
	v.Safety = SafetyNumber(account, head, v.SafetyNames[0], v.SafetyNames[1]) // the head stands in for a second account
	keytest.Golden(t, "account.json", v)
}

// fullVector is a chain that its account key filled, and what may follow it.
type fullVector struct {
	Comment      string      `json:"comment"`
	AIKSeed      keytest.Hex `json:"aik_seed"`
	RKSeed       keytest.Hex `json:"rk_seed"`
	NewAIKSeed   keytest.Hex `json:"new_aik_seed"`
	Cert         keytest.Hex `json:"cert"`
	AccountRoom  int         `json:"account_room"`
	RecoveryRoom int         `json:"recovery_room"`
	Statements   int         `json:"statements"`
	Size         int         `json:"size"`
	Head         keytest.Hex `json:"head"`
	Refused      keytest.Hex `json:"refused_statement"`
	Taken        keytest.Hex `json:"taken_statement"`
	Room         int         `json:"room_after_it"`
}

// Genesis, one certificate added again and again: the next one is refused, a
// recovery is not.
func TestFullVector(t *testing.T) {
	seed := func(name string) []byte { return keytest.Seed(name, 32) }
	v := fullVector{
		Comment: "genesis, then add_device with one certificate until the account key has no room; all at 1800000000. " +
			"Then once more, which is refused; or rotate_aik by the recovery key, which is taken",
		AIKSeed: seed("aik"), RKSeed: seed("rk"), NewAIKSeed: seed("aik2"), AccountRoom: accountRoom, RecoveryRoom: recoveryRoom,
	}
	aik, err := key.ParseAccount(v.AIKSeed)
	check(t, err)
	aik2, err := key.ParseAccount(v.NewAIKSeed)
	check(t, err)
	rk, err := key.ParseRecovery(v.RKSeed)
	check(t, err)
	dsk, err := key.ParseDevice(seed("dsk"))
	check(t, err)
	dik, err := key.ParseIdentity(seed("dik"))
	check(t, err)
	host, err := key.ParseHost(seed("host"))
	check(t, err)
	c, err := Create(start, aik, rk.Public())
	check(t, err)
	cert, err := NewCert(aik, Cert{
		Account: c.Account(), Signing: dsk.Public(), Identity: dik.Public(), PeerID: host.Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: start, NotAfter: start.AddDate(1, 0, 0), Name: "laptop",
	})
	check(t, err)
	for {
		next, err := c.AddDevice(start, aik, cert)
		if errors.Is(err, ErrFull) {
			break
		}
		check(t, err)
		c = next
	}
	more := c.next(start, opAddDevice)
	more.body, more.signer = cert.Marshal(), [32]byte(aik.Public().Bytes())
	check(t, more.sign(aik))
	if _, err := ParseChain(key.AppendLP(c.Bytes(), more.marshal())); !errors.Is(err, ErrFull) {
		t.Errorf("beyond the room: %v", err)
	}
	recovered, err := c.RecoverAIK(start, rk, aik2)
	check(t, err)

	head := c.Head()
	v.Cert, v.Statements, v.Size, v.Head = cert.Marshal(), int(c.Seq())+1, len(c.Bytes()), head[:]
	v.Refused, v.Taken, v.Room = more.marshal(), recovered.Bytes()[v.Size+4:], recovered.room
	keytest.Golden(t, "full.json", v)
}
