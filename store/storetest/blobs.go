package storetest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func fileID(n int) protocol.FileID { h := hash("file %d", n); return protocol.FileID(h[:16]) }

// blobBy is file n of somebody's, for others, and expires in an hour.
func blobBy(who string, n int, size int64, accounts ...string) store.Blob {
	b := store.Blob{Name: store.NameBlob(accountID(who), fileID(n)), By: accountID(who), Size: size, Expires: start.Add(time.Hour)}
	for _, a := range accounts {
		b.Accounts = append(b.Accounts, accountID(a))
	}
	b.Accounts = store.SortAccounts(b.Accounts)
	return b
}

func putBlob(t testing.TB, r store.Rendezvous, b store.Blob) {
	t.Helper()
	got, err := r.PutBlob(ctx, b, store.BlobQuotas{}, start)
	ok(t, err)
	equal(t, "blob", got, b)
}

// blobTotal checks how many blobs of how many bytes count.
func blobTotal(t testing.TB, r store.Rendezvous, count, bytes int) {
	t.Helper()
	totals, err := r.Totals(ctx)
	ok(t, err)
	equal(t, "blobs", totals.Blobs, store.Usage{Count: count, Bytes: bytes})
}

func noBlob(t testing.TB, r store.Rendezvous, b store.Blob) {
	t.Helper()
	_, err := r.Blob(ctx, b.Name, start)
	refused(t, err, protocol.UnknownFile)
	refused(t, r.MarkBlob(ctx, b.Name, 1), protocol.UnknownFile)
}

func testBlobs(t *testing.T, r store.Rendezvous) {
	b := blobBy("alice", 1, 1000, "bob", "carol")
	noBlob(t, r, b)
	putBlob(t, r, b)
	ok(t, r.MarkBlob(ctx, b.Name, 600))
	b.Have = 600
	got, err := r.Blob(ctx, b.Name, start)
	ok(t, err)
	equal(t, "blob", got, b)
	again := blobBy("alice", 1, 1000, "carol", "bob")
	again.Expires = start.Add(time.Minute)
	got, err = r.PutBlob(ctx, again, store.BlobQuotas{Count: 1, Bytes: 1000}, start)
	ok(t, err)
	equal(t, "the blob again", got, b)

	room := blobBy("alice", 1, 1000)
	room.Room = roomID("climbing")
	for name, other := range map[string]store.Blob{
		"size": blobBy("alice", 1, 1001, "bob", "carol"), "fewer": blobBy("alice", 1, 1000, "bob"), "a room": room,
	} {
		if _, err := r.PutBlob(ctx, other, store.BlobQuotas{}, start); protocol.CodeOf(err) != protocol.BadRequest {
			t.Errorf("another blob of the same name, %s: %v", name, err)
		}
	}
	blobTotal(t, r, 1, 1000)

	other := blobBy("bob", 1, 10, "alice") // of the same id
	other.Room = roomID("climbing")
	putBlob(t, r, other)
	ok(t, r.DropBlob(ctx, b.Name))
	ok(t, r.DropBlob(ctx, b.Name))
	noBlob(t, r, b)
	blobTotal(t, r, 1, 10)
	b.Have = 0
	putBlob(t, r, b) // and nothing of it is here
}

func testBlobQuotas(t *testing.T, r store.Rendezvous) {
	put := func(who string, n int, size int64, q store.BlobQuotas) protocol.Code {
		_, err := r.PutBlob(ctx, blobBy(who, n, size, "dave"), q, start)
		return protocol.CodeOf(err)
	}
	bytes, count := store.BlobQuotas{Bytes: 100}, store.BlobQuotas{Count: 2}
	for i, c := range []struct {
		who  string
		size int64
		q    store.BlobQuotas
		want protocol.Code
	}{
		{"alice", 101, bytes, protocol.BlobFull},
		{"alice", 60, bytes, protocol.OK},
		{"alice", 41, bytes, protocol.BlobFull},
		{"bob", 41, bytes, protocol.OK}, // what alice used up is hers
		{"alice", 40, bytes, protocol.OK},
		{"alice", 1, count, protocol.BlobFull},
		{"bob", 1000, count, protocol.OK},
		{"bob", 1, count, protocol.BlobFull},
	} {
		equal(t, fmt.Sprintf("blob %d, of %s", i, c.who), put(c.who, i, c.size, c.q), c.want)
	}
	ok(t, r.DropBlob(ctx, blobBy("alice", 1, 60).Name)) // which gives room to alice only
	equal(t, "bob's", put("bob", 8, 1, count), protocol.BlobFull)
	equal(t, "alice's", put("alice", 8, 60, bytes), protocol.OK)
	equal(t, "alice's", put("alice", 9, 1, bytes), protocol.BlobFull)
	blobTotal(t, r, 4, 1141)
}

func testBlobTaken(t *testing.T, r store.Rendezvous) {
	b := blobBy("alice", 1, 1000, "bob", "carol")
	take := func(who string, want bool) {
		t.Helper()
		gone, err := r.TakeBlob(ctx, b.Name, accountID(who), b.Accounts)
		ok(t, err)
		equal(t, "gone when taken by "+who, gone, want)
	}
	take("bob", true)
	putBlob(t, r, b)
	take("bob", false)
	take("bob", false)
	take("alice", false)
	take("carol", true)
	noBlob(t, r, b)
	blobTotal(t, r, 0, 0)
	putBlob(t, r, b) // who took the one before has not taken this
	take("carol", false)
}

func testBlobExpiry(t *testing.T, r store.Rendezvous) {
	sweep := func(at time.Time, want int) {
		t.Helper()
		n, err := r.Sweep(ctx, at)
		ok(t, err)
		equal(t, "swept", n, want)
	}
	b := blobBy("alice", 0, 10, "bob", "carol")
	for i := range 300 { // more than one step of a sweep
		putBlob(t, r, blobBy("alice", i, 10, "bob", "carol"))
	}
	_, err := r.TakeBlob(ctx, b.Name, accountID("bob"), b.Accounts)
	ok(t, err)
	sweep(b.Expires.Add(-time.Second), 0)
	_, err = r.Blob(ctx, b.Name, b.Expires)
	refused(t, err, protocol.UnknownFile)

	later := blobBy("alice", 0, 20, "dave") // it is forgotten also before it is swept
	later.Expires = b.Expires.Add(time.Hour)
	got, err := r.PutBlob(ctx, later, store.BlobQuotas{}, b.Expires)
	ok(t, err)
	equal(t, "blob", got, later)
	sweep(b.Expires, 299)
	blobTotal(t, r, 1, 20)
	sweep(later.Expires, 1)
	blobTotal(t, r, 0, 0)
}

// testBlobsOfClosed: with its last device an account's blobs go.
func testBlobsOfClosed(t *testing.T, r store.Rendezvous) {
	alice, laptop := person(t, r, "alice")
	person(t, r, "bob")
	for i := range 300 {
		putBlob(t, r, blobBy("alice", i, 10, "bob"))
	}
	putBlob(t, r, blobBy("bob", 1, 10, "alice"))
	p := store.ChainParams{Account: alice, Chain: []byte("chain of alice, longer"), ChainSeq: 2, ChainHead: hash("longer"), Revoked: []protocol.DeviceID{laptop}, Now: start}
	ok(t, r.SetChain(ctx, p))
	_, err := r.Sweep(ctx, start)
	ok(t, err)
	blobTotal(t, r, 301, 3010)

	p.Chain, p.ChainSeq, p.ChainHead = []byte("chain of alice, longer still"), 3, hash("longer still")
	p.Revoked = append(p.Revoked, deviceID("alice", 1))
	ok(t, r.SetChain(ctx, p))
	for range 2 {
		_, err = r.Sweep(ctx, start)
		ok(t, err)
	}
	blobTotal(t, r, 1, 10)
}

// testBlobModel puts, marks, takes, drops and expires at random: what counts is what is
// there.
func testBlobModel(t *testing.T, r store.Rendezvous) {
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		who, now, model := fmt.Sprint("model ", runs), start, map[int]store.Blob{}
		q := store.BlobQuotas{Count: 4, Bytes: 100}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			n := rapid.IntRange(0, 5).Draw(t, "blob")
			old, known := model[n]
			name := store.NameBlob(accountID(who), fileID(n))
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				b := blobBy(who, n, int64(rapid.IntRange(1, 3).Draw(t, "size")*20), "bob")
				b.Expires = now.Add(time.Hour)
				count, bytes := 1, b.Size
				for _, other := range model {
					count, bytes = count+1, bytes+other.Size
				}
				want := protocol.OK
				switch {
				case known && old.Size != b.Size:
					want = protocol.BadRequest
				case !known && (count > q.Count || bytes > int64(q.Bytes)):
					want = protocol.BlobFull
				case !known:
					model[n] = b
				}
				got, err := r.PutBlob(ctx, b, q, now)
				if protocol.CodeOf(err) != want || err == nil && fmt.Sprint(got) != fmt.Sprint(model[n]) {
					t.Fatalf("put %+v: %+v, %v, want %v", b, got, err, want)
				}
			case 1:
				have := rapid.Int64Range(0, 20).Draw(t, "have")
				err := r.MarkBlob(ctx, name, have)
				if known != (err == nil) {
					t.Fatalf("mark %d: %v", n, err)
				}
				if known {
					old.Have = have
					model[n] = old
				}
			case 2:
				gone, err := r.TakeBlob(ctx, name, accountID("bob"), old.Accounts)
				if err != nil || !gone {
					t.Fatalf("take %d: %v, %v", n, gone, err)
				}
				delete(model, n)
			case 3:
				if err := r.DropBlob(ctx, name); err != nil {
					t.Fatal(err)
				}
				delete(model, n)
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute)
				for n, b := range model {
					if !b.Expires.After(now) {
						delete(model, n)
					}
				}
				if _, err := r.Sweep(ctx, now); err != nil {
					t.Fatal(err)
				}
			}
			want := store.Usage{}
			for n, b := range model {
				want.Count, want.Bytes = want.Count+1, want.Bytes+int(b.Size)
				if got, err := r.Blob(ctx, store.NameBlob(accountID(who), fileID(n)), now); err != nil || fmt.Sprint(got) != fmt.Sprint(b) {
					t.Fatalf("blob %d: %+v, %v, want %+v", n, got, err, b)
				}
			}
			if totals, err := r.Totals(ctx); err != nil || totals.Blobs != want {
				t.Fatalf("%+v count, %v, want %+v", totals.Blobs, err, want)
			}
		}
		for n := range model { // the next run begins with none
			if err := r.DropBlob(ctx, store.NameBlob(accountID(who), fileID(n))); err != nil {
				t.Fatal(err)
			}
		}
	})
}
