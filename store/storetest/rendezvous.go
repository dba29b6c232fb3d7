package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// RunRendezvous runs every rule of store.Rendezvous. open returns a new, empty
// one and closes it with the test.
func RunRendezvous(t *testing.T, open func(t *testing.T) store.Rendezvous) {
	for name, test := range map[string]func(*testing.T, store.Rendezvous){
		"Register":                        testRegister,
		"RegisterIsAtomic":                testRegisterIsAtomic,
		"RegisterRace":                    testRegisterRace,
		"Invites":                         testInvites,
		"InviteRace":                      testInviteRace,
		"Chain":                           testChain,
		"OTK13_DeviceExists":              testDeviceExists,
		"Revocation":                      testRevocation,
		"ChainRace":                       testChainRace,
		"Heads":                           testHeads,
		"Log":                             testLog,
		"LogRace":                         testLogRace,
		"LogModel":                        testLogModel,
		"Audit":                           testAudit,
		"AuditOfAccounts":                 testAuditOfAccounts,
		"AuditOfKeys":                     testAuditOfKeys,
		"AuditRace":                       testAuditRace,
		"AuditModel":                      testAuditModel,
		"StoreID":                         testStoreID,
		"StoreRace":                       testStoreRace,
		"OTK01_SameKeyAnySignature":       testSameKey,
		"OTK02_ConflictStoresTheRest":     testConflict,
		"OTK06_StockIsCapped":             testCap,
		"OTK07_OldestUploadFirst":         testClaimOrder,
		"OTK08_ParallelClaimersDistinct":  testParallelClaims,
		"OTK08_ClaimedKeyNotIssuedAgain":  testClaimedStaysClaimed,
		"DropOneTime":                     testDropOneTime,
		"BoundPrekeysAreCapped":           testBoundCap,
		"Totals":                          testTotals,
		"NameTakenIsToldToInvitedOnly":    testNameTakenNeedsInvite,
		"ClaimRetry":                      testClaimRetry,
		"ClaimWithoutStock":               testClaimWithoutStock,
		"SignedPrekeys":                   testSignedPrekeys,
		"PrekeyExpiry":                    testPrekeyExpiry,
		"PrekeyModel":                     testPrekeyModel,
		"MailboxOrder":                    testMailboxOrder,
		"MailboxFetchLimits":              testFetchLimits,
		"MailboxIdempotence":              testMailboxIdempotence,
		"MailboxQuotas":                   testQuotas,
		"MailboxUnknownDevice":            testMailToNobody,
		"RoomMailQuotas":                  testRoomMailQuotas,
		"MailboxExpiry":                   testMailExpiry,
		"MailboxModel":                    testMailboxModel,
		"ContactRequests":                 testContactRequests,
		"RoomLog":                         testRoomLog,
		"RoomMembers":                     testRoomMembers,
		"RoomLeft":                        testRoomLeft,
		"RoomRace":                        testRoomRace,
		"RoomMail":                        testRoomMail,
		"RoomQuotas":                      testRoomQuotas,
		"RoomExpiry":                      testRoomExpiry,
		"RoomModel":                       testRoomModel,
		"Guests":                          testGuests,
		"GuestsInManyRows":                testGuestSweptInSteps,
		"Blobs":                           testBlobs,
		"BlobQuotas":                      testBlobQuotas,
		"BlobTaken":                       testBlobTaken,
		"BlobExpiry":                      testBlobExpiry,
		"BlobsOfClosedAccounts":           testBlobsOfClosed,
		"BlobModel":                       testBlobModel,
		"Contacts":                        testContacts,
		"Watchers":                        testWatchers,
		"SigningKeys":                     testSigningKeys,
		"SigningKeyRules":                 testSigningKeyRules,
		"SigningKeyRace":                  testSigningKeyRace,
		"SigningKeyModel":                 testSigningKeyModel,
		"Relays":                          testRelays,
		"RelaysAreCapped":                 testRelaysAreCapped,
		"SweepOfRevokedDeviceManyInSteps": testSweepRevoked,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func hash(format string, args ...any) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, format, args...))
}

func accountID(name string) protocol.AccountID      { return hash("account %s", name) }
func deviceID(name string, n int) protocol.DeviceID { return hash("device %s %d", name, n) }
func prekeyID(n int) protocol.PrekeyID              { h := hash("prekey %d", n); return protocol.PrekeyID(h[:16]) }

func newDevice(name string, n int) store.NewDevice {
	return store.NewDevice{
		ID:     deviceID(name, n),
		PeerID: fmt.Appendf(nil, "\x00$peer of %s %d", name, n),
		Cert:   fmt.Appendf(nil, "certificate of %s %d", name, n),
	}
}

func registration(name string, devices int) store.RegisterParams {
	p := store.RegisterParams{
		Name: name, Label: hash("label of %s", name), Account: accountID(name), Now: start,
		Chain: []byte("chain of " + name), ChainSeq: 1, ChainHead: hash("head of %s", name),
	}
	for n := range devices {
		p.Devices = append(p.Devices, newDevice(name, n))
	}
	return p
}

// person registers an account with devices 0 and 1 and returns their ids.
func person(t testing.TB, r store.Rendezvous, name string) (protocol.AccountID, protocol.DeviceID) {
	t.Helper()
	ok(t, r.Register(ctx, registration(name, 2)))
	return accountID(name), deviceID(name, 0)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks that err is a refusal with that code.
func refused(t testing.TB, err error, want protocol.Code) {
	t.Helper()
	refusal, is := errors.AsType[*protocol.Error](err)
	if !is || refusal.Code != want {
		t.Fatalf("got %v, want the refusal %s", err, want)
	}
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}
