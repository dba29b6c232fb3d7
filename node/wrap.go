package node

import (
	"context"
	"fmt"
	"log/slog"
	"time"

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
		damaged, err := n.kv.Rotate(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if damaged > 0 {
			n.log.Error("the store is damaged", "rows of keys and sessions that nobody can read", damaged, "see", "parley keys doctor")
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
