package rendezvous

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/blob"
)

const (
	blobDir         = "blobs" // in the data directory
	maxBlobAccounts = 16      // that may get one blob
)

// blobs are the blobs that wait here. What is known of them is in the store.
type blobs struct {
	bodies *blob.Bodies
	turns  *turns
}

// newBlob judges what a device wants to put: only for accounts that accepted the sender,
// or for a room where it may send files.
func (s *Server) newBlob(ctx context.Context, from store.Device, p *wire.PutBlob) (store.Blob, error) {
	id, err := parseID[protocol.FileID](p.GetId())
	if err != nil {
		return store.Blob{}, err
	}
	limit := uint64(s.cfg.Limits.forDevice(from.Guest).BlobBytes)
	switch size := p.GetSize(); {
	case size == 0:
		return store.Blob{}, protocol.Refuse(protocol.BadRequest, "an empty blob")
	case size > limit:
		return store.Blob{}, protocol.Refuse(protocol.TooLarge, "blob of %d bytes, at most %d", size, limit)
	}
	b := store.Blob{
		Name: store.NameBlob(from.Account, id), By: from.Account,
		Size: int64(p.GetSize()), Expires: s.now().Add(s.cfg.Limits.BlobTTL),
	}
	switch accounts := len(p.GetAccounts()); {
	case (accounts == 0) == (len(p.GetRoom()) == 0):
		return b, protocol.Refuse(protocol.BadRequest, "a blob is for accounts or for a room")
	case accounts > maxBlobAccounts:
		return b, protocol.Refuse(protocol.TooLarge, "a blob is for %d accounts at most", maxBlobAccounts)
	case accounts > 0:
		b.Accounts, err = s.blobAccounts(ctx, from, p.GetAccounts())
	default:
		b.Room, err = s.blobRoom(ctx, from, p.GetRoom())
	}
	return b, err
}

func (s *Server) blobAccounts(ctx context.Context, from store.Device, list [][]byte) ([]protocol.AccountID, error) {
	accounts, err := parseIDs[protocol.AccountID](list)
	if err != nil {
		return nil, err
	}
	for _, a := range accounts {
		ok, err := s.accepts(ctx, a, from.Account)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, protocol.Refuse(protocol.NotContact, "a recipient has not accepted the sender")
		}
	}
	return store.SortAccounts(accounts), nil
}

func (s *Server) blobRoom(ctx context.Context, from store.Device, b []byte) (protocol.RoomID, error) {
	id, err := parseID[protocol.RoomID](b)
	if err != nil {
		return id, err
	}
	l := s.rooms.hold(id)
	defer s.rooms.release(l)
	v, err := s.viewRoom(ctx, l)
	if err != nil {
		return id, err
	}
	if _, err := v.member(from); err != nil {
		return id, err
	}
	if !v.state.May(from.ID, v.state.Epoch(), room.Files) {
		return id, protocol.Refuse(protocol.StaleEpoch, "the device may not send files in the room")
	}
	return id, nil
}

// blobFor finds a blob that a device may get. To all others there is none.
func (s *Server) blobFor(ctx context.Context, from store.Device, by, id []byte) (b store.Blob, everybody []protocol.AccountID, err error) {
	account, err := parseID[protocol.AccountID](by)
	if err != nil {
		return b, nil, err
	}
	file, err := parseID[protocol.FileID](id)
	if err != nil {
		return b, nil, err
	}
	if b, err = s.store.Blob(ctx, store.NameBlob(account, file), s.now()); err != nil {
		return b, nil, fmt.Errorf("find blob: %w", err)
	}
	may := b.By == from.Account
	everybody = b.Accounts
	switch {
	case b.OfRoom():
		var reads bool
		reads, everybody, err = s.blobReaders(ctx, from, b)
		may = may || reads
	case !may && slices.Contains(b.Accounts, from.Account):
		may, err = s.accepts(ctx, b.By, from.Account) // who put it may have ended the contact since
	}
	if err == nil && !may {
		err = protocol.Refuse(protocol.UnknownFile, "no such blob")
	}
	return b, everybody, err
}

// blobReaders tells whether a device may read now in the room that a blob is for, and who
// all may, besides the account that put it.
func (s *Server) blobReaders(ctx context.Context, from store.Device, b store.Blob) (reads bool, everybody []protocol.AccountID, err error) {
	l := s.rooms.hold(b.Room)
	defer s.rooms.release(l)
	v, err := s.viewRoom(ctx, l)
	if protocol.CodeOf(err) == protocol.UnknownRoom {
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	for _, a := range v.members {
		if a != b.By && v.state.Rights(a).Has(room.Read) {
			everybody = append(everybody, a)
		}
	}
	return v.state.May(from.ID, v.state.Epoch(), room.Read), everybody, nil
}

// blobState is how much of a blob both its row and its body have: either may be older
// than the other, if one of them was set back.
func (s *Server) blobState(b store.Blob) (*wire.BlobState, error) {
	length, err := s.blobs.bodies.Len(b.Name)
	if err != nil {
		return nil, err
	}
	return &wire.BlobState{Size: uint64(b.Size), Have: uint64(min(b.Have, length)), ExpiresMs: uint64(b.Expires.UnixMilli())}, nil
}

// takenBlob notes that an account needs a blob no more.
func (s *Server) takenBlob(ctx context.Context, from store.Device, q *wire.TakenBlob, resp *wire.Response) error {
	b, everybody, err := s.blobFor(ctx, from, q.GetBy(), q.GetId())
	if err != nil {
		return err
	}
	gone, err := s.store.TakeBlob(ctx, b.Name, from.Account, everybody)
	if err != nil {
		return fmt.Errorf("take blob: %w", err)
	}
	resp.Result = &wire.Response_BlobGone{BlobGone: &wire.BlobGone{}}
	if !gone {
		return nil
	}
	return s.removeBody(ctx, b.Name)
}

// dropBlob deletes a blob of the caller's account.
func (s *Server) dropBlob(ctx context.Context, from store.Device, q *wire.DropBlob, resp *wire.Response) error {
	id, err := parseID[protocol.FileID](q.GetId())
	if err != nil {
		return err
	}
	name := store.NameBlob(from.Account, id)
	if err := s.store.DropBlob(ctx, name); err != nil {
		return fmt.Errorf("drop blob: %w", err)
	}
	resp.Result = &wire.Response_BlobGone{BlobGone: &wire.BlobGone{}}
	return s.removeBody(ctx, name)
}

// removeBody deletes the body of a blob that the store has forgotten, unless it was begun
// again meanwhile.
func (s *Server) removeBody(ctx context.Context, name store.BlobName) error {
	release, err := s.blobs.turns.take(ctx, name, func() {})
	if err != nil {
		return fmt.Errorf("wait for who writes a blob: %w", err)
	}
	defer release()
	return s.removeOrphan(ctx, name)
}

// removeOrphan is removeBody for who has the turn.
func (s *Server) removeOrphan(ctx context.Context, name store.BlobName) error {
	_, err := s.store.Blob(ctx, name, s.now())
	switch {
	case err == nil:
		return nil
	case protocol.CodeOf(err) != protocol.UnknownFile:
		return fmt.Errorf("find blob: %w", err)
	}
	return s.blobs.bodies.Remove(name)
}

// sweepBodies deletes the bodies of blobs that the store does not know: it has expired
// them, or was set back, or the server ended before it deleted them.
func (s *Server) sweepBodies(ctx context.Context) error {
	for name, err := range s.blobs.bodies.All() {
		if err != nil {
			return err
		}
		release, ok := s.blobs.turns.try(name)
		if !ok {
			continue // it is being written; next time
		}
		err := s.removeOrphan(ctx, name)
		release()
		if err != nil {
			return err
		}
	}
	return nil
}

// turns lets one at a time change the body of a blob.
type turns struct {
	mu    sync.Mutex
	taken map[store.BlobName]*turn
}

type turn struct {
	stop func()        // tells who has it that somebody waits
	over chan struct{} // closed when it is given back
}

func newTurns() *turns { return &turns{taken: map[store.BlobName]*turn{}} }

// take waits for the turn. Who has it is told to stop, by the stop that he gave: the
// newest wins.
func (t *turns) take(ctx context.Context, name store.BlobName, stop func()) (release func(), err error) {
	for {
		release, before := t.enter(name, stop)
		if before == nil {
			return release, nil
		}
		before.stop()
		select {
		case <-before.over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try takes the turn if nobody has it.
func (t *turns) try(name store.BlobName) (release func(), ok bool) {
	release, before := t.enter(name, func() {})
	return release, before == nil
}

func (t *turns) enter(name store.BlobName, stop func()) (release func(), before *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.taken[name]; before != nil {
		return nil, before
	}
	mine := &turn{stop, make(chan struct{})}
	t.taken[name] = mine
	return func() {
		t.mu.Lock()
		delete(t.taken, name)
		t.mu.Unlock()
		close(mine.over)
	}, nil
}
