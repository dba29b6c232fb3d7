package node

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
)

const (
	rotateEvery = 24 * time.Hour
	rotateRetry = 10 * time.Minute
)

// runRotate replaces the wrap key when the node starts and once a day while it
// runs, so that private keys and session states that were deleted stay so
// (vault.Store.Rotate). Others write meanwhile. A rotation that fails is tried
// again: the node can do all its work without.
func (n *Node) runRotate(ctx context.Context) error {
	for {
		wait := rotateEvery
		err := n.wraps.rotate(ctx, n)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			n.log.Error("wrap key not replaced", "err", err, "again", rotateRetry)
			wait = rotateRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// wraps remembers when the wrap key was last replaced.
type wraps struct {
	mu   sync.Mutex
	last time.Time // zero: not yet
}

func (w *wraps) rotate(ctx context.Context, n *Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rotateLocked(ctx, n)
}

func (w *wraps) rotateLocked(ctx context.Context, n *Node) error {
	damaged, err := n.kv.Rotate(ctx)
	if damaged > 0 {
		n.log.Error("the store is damaged", "rows of keys and sessions that nobody can read", damaged, "see", "parley keys doctor")
	}
	if err != nil {
		return err
	}
	w.last = n.now()
	return nil
}

// check replaces the wrap key now if that was not done in time, as when the
// machine slept or the disk was full.
func (w *wraps) check(ctx context.Context, n *Node) api.Check {
	w.mu.Lock()
	defer w.mu.Unlock()
	check := api.Check{Name: "key of deleted keys", Result: api.CheckOK}
	if age := n.now().Sub(w.last); age >= 0 && age <= rotateEvery+rotateRetry {
		check.Text = "replaced at " + w.last.Local().Format(time.DateTime) + "; what was deleted before is unreadable"
		return check
	}
	if err := w.rotateLocked(ctx, n); err != nil {
		check.Result, check.Fix = api.CheckNeedsYou, "df -h "+n.dir
		check.Text = "not replaced for more than a day, so what was deleted may still be readable: " + err.Error()
		return check
	}
	check.Result, check.Text = api.CheckRepaired, "replaced now; what was deleted before is unreadable"
	return check
}

// ChangeSecret makes to what opens the vault in dir, instead of from. No node
// may run there: store.ErrLocked. Other errors: vault.ErrWrongSecret,
// vault.ErrNoVault; in each case nothing has changed.
func ChangeSecret(dir string, from, to vault.Secret, log *slog.Logger) error {
	v, err := vault.Open(dir, from)
	if err != nil {
		return fmt.Errorf("unlock %s: %w", dir, err)
	}
	db, err := openBadger(dir, log)
	if err != nil {
		return err
	}
	defer db.Close() // nothing was written
	return v.ChangeSecret(to)
}
