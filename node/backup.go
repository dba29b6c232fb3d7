package node

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/words"
	"github.com/parley-chat/parley/store"
)

// backupEvery is how old the newest backup may be, or the account without one,
// before the user is reminded.
const backupEvery = 30 * 24 * time.Hour

// Backup writes a backup of the account to w: see package backup. Nothing was
// written if it returns an *api.Error with the code ErrBadInput.
func (n *Node) Backup(ctx context.Context, r api.BackupRequest, w io.Writer) error {
	return answer(n.writeBackup(ctx, r, w))
}

func (n *Node) writeBackup(ctx context.Context, r api.BackupRequest, w io.Writer) error {
	m, err := n.membership(ctx)
	if err != nil {
		return err
	}
	secret, err := backupSecret(r, m)
	if err != nil {
		return err
	}
	if err := backup.Save(ctx, w, secret, n.now(), m, n.kv, n.eng, r.History); err != nil {
		return err
	}
	return n.kv.Update(ctx, func(tx store.Tx) error { return setTime(tx, backupRow, n.now()) })
}

func (n *Node) membership(ctx context.Context) (m engine.Membership, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		m, err = n.eng.Membership(tx)
		return err
	})
	return m, err
}

// backupSecret is what a backup is to be opened with. Words must be this
// account's: others would be lost with the paper they are on.
func backupSecret(r api.BackupRequest, m engine.Membership) (s backup.Secret, err error) {
	switch {
	case (r.Words == "") == (r.Passphrase == ""):
		return s, &api.Error{Code: api.ErrBadInput, Text: "a backup needs a passphrase or the recovery words, and not both"}
	case r.Passphrase != "":
		return backup.FromPassphrase([]byte(r.Passphrase)), nil
	}
	chain, err := account.ParseChain(m.Chain)
	if err != nil {
		return s, err
	}
	rk, err := recoveryKey(r.Words, chain)
	if err != nil {
		return s, err
	}
	return backup.FromWords(rk), nil
}

// recoveryKey reads words, which must be those of the account's recovery key.
func recoveryKey(text string, c *account.Chain) (rk key.RecoveryPrivate, err error) {
	if rk, err = backup.ParseWords(text); err != nil {
		return rk, &api.Error{Code: api.ErrBadInput, Text: err.Error()}
	}
	if rk.Public() != c.Recovery() {
		return rk, &api.Error{Code: api.ErrBadInput, Text: "these are not the recovery words of this account"}
	}
	return rk, nil
}

// Recovery tells whether the recovery words were confirmed, and when the last
// backup was made here.
func (n *Node) Recovery(ctx context.Context) (r api.Recovery, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err = n.recovery(tx)
		return err
	})
	return r, answer(err)
}

func (n *Node) recovery(tx store.Tx) (r api.Recovery, err error) {
	_, known, err := n.eng.RecoverySeed(tx)
	if err != nil {
		return r, err
	}
	r.Confirmed = !known
	last, err := timeIn(tx, backupRow)
	if err != nil {
		return r, fmt.Errorf("last backup: %w", err)
	}
	r.LastBackup = unlessZero(last)
	return r, nil
}

// RecoveryWords returns the recovery words; a conflict once they are confirmed,
// and on a device that was added to an account: it does not have them.
func (n *Node) RecoveryWords(ctx context.Context) (w api.RecoveryWords, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		rk, known, err := n.eng.RecoverySeed(tx)
		if err != nil {
			return err
		}
		if !known {
			return &api.Error{Code: api.ErrConflict, Text: "this device does not have the recovery words: they are shown where the account was made, until you have confirmed them", Hint: "if you have them on paper, parley backup create FILE takes them"}
		}
		w.Words, err = words.Recovery(rk.Bytes())
		return err
	})
	return w, answer(err)
}

// ConfirmRecovery destroys the recovery key on all devices, if the words are its
// own: the user has them.
func (n *Node) ConfirmRecovery(ctx context.Context, r api.ConfirmRequest) error {
	return answer(n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		chain, err := n.eng.OwnChain(tx)
		if err != nil {
			return h, err
		}
		if _, err := recoveryKey(r.Words, chain); err != nil {
			return h, err
		}
		return n.eng.ConfirmRecovery(tx, n.now())
	}))
}

// backupProblem reminds of a backup: there is no way back without one, unless
// the words are somewhere.
func (n *Node) backupProblem(r api.Recovery) (fix, text string) {
	newest := n.self.Created
	if r.LastBackup != nil {
		newest = *r.LastBackup
	}
	if r.Confirmed || n.now().Sub(newest) < backupEvery {
		return "", ""
	}
	return "parley backup create FILE", "If this computer is lost, so is your account: there is no backup of the last 30 days, and you have not written down the recovery words."
}

// backupRow holds when the last backup was made.
var backupRow = store.Key(rowPrefix, "backup")
