package rendezvous

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

const noteTimeout = 5 * time.Second // for the last entry before the end

// note writes an event into the operator's journal.
func (s *Server) note(ctx context.Context, e audit.Event) error {
	if err := s.store.Note(ctx, s.now(), e); err != nil {
		return fmt.Errorf("write to the audit journal: %w", err)
	}
	return nil
}

// tryNote does the same for what happens whether it can be noted or not.
func (s *Server) tryNote(ctx context.Context, e audit.Event) {
	if err := s.note(ctx, e); err != nil && ctx.Err() == nil {
		s.noticeFailure(err)
		s.log.Error("cannot note", "kind", string(e.Kind), "what", string(e.What), "err", err)
	}
}

// warning is something that is noted once in 24 hours: who causes it can do so
// as often as he likes, and the journal is for ever.
type warning struct {
	what   audit.Act
	device protocol.DeviceID
}

// noteRefusal notes that a device was refused for what it is, and not for what
// it asked.
func (s *Server) noteRefusal(ctx context.Context, d store.Device, what audit.Act) {
	if take(s.now(), 1, "warnings", s.rates.warnings.get(warning{what, d.ID})) == nil {
		s.tryNote(ctx, audit.Event{Kind: audit.Device, What: what, Account: d.Account, Device: d.ID})
	}
}

// noteSeen notes when a device says to hold more of the directory log than there
// is: our store was set back to an older state, or the device lies. It is noted of
// each device: one that lies does not hide what the others have seen.
func (s *Server) noteSeen(ctx context.Context, d store.Device, seen, size uint64) {
	if seen <= size || take(s.now(), 1, "warnings", s.rates.warnings.get(warning{audit.SetBack, d.ID})) != nil {
		return
	}
	s.tryNote(ctx, audit.Event{
		Kind: audit.Host, What: audit.SetBack, Account: d.Account, Device: d.ID,
		Note: fmt.Sprintf("this device says that the directory log had %d entries; it has %d", seen, size),
	})
}

// noteStart notes that the rendezvous serves. noteStop ends what it began.
func (s *Server) noteStart(ctx context.Context) {
	how := "joining by invite"
	if s.cfg.Open {
		how = "joining open to everybody"
	}
	s.tryNote(ctx, audit.Event{Kind: audit.Host, What: audit.Started, Note: how})
	s.noted = true
}

func (s *Server) noteStop() {
	if !s.noted {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), noteTimeout)
	defer cancel()
	s.tryNote(ctx, audit.Event{Kind: audit.Host, What: audit.Stopped})
}
