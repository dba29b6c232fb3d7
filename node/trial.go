package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/store"
)

// VerifyBackup restores a backup for a trial: into a store of its own, sealed
// under a secret that nobody has, which is gone afterwards. Nothing is sent. It
// returns what that store then held.
func VerifyBackup(ctx context.Context, b *backup.Backup, log *slog.Logger) (r api.BackupReport, err error) {
	dir, err := os.MkdirTemp("", "parley-verify-*")
	if err != nil {
		return r, fmt.Errorf("make a folder for the trial: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	secret := vault.FromPassphrase([]byte(rand.Text()))
	if err := vault.Create(dir, secret); err != nil {
		return r, err
	}
	kv, err := openStore(dir, secret, log)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	eng, err := tryMember(ctx, kv, b)
	if err != nil {
		return r, err
	}
	r = api.BackupReport{
		Name: b.Member.Name, Account: eng.Identity().Account.String(), Created: b.Created, RecoveryKey: b.Member.RK != nil, Devices: []string{},
	}
	return r, countAll(ctx, kv, eng, &r)
}

// tryMember makes the store of a device that nobody will ever hear of.
func tryMember(ctx context.Context, kv store.KV, b *backup.Backup) (*engine.Engine, error) {
	m := b.Member
	newcomer, err := engine.NewNewcomer(time.Now(), "trial")
	if err != nil {
		return nil, err
	}
	chain, err := account.ParseChain(m.Chain)
	if err != nil {
		return nil, err
	}
	if chain, err = engine.CertifyDevice(time.Now(), chain, m.AIK, newcomer.Request()); err != nil {
		return nil, fmt.Errorf("add a device: %w", err)
	}
	m.Chain = chain.Bytes()
	return becomeMember(ctx, kv, newcomer, m, b)
}

// countAll counts what is in a store.
func countAll(ctx context.Context, kv store.KV, eng *engine.Engine, r *api.BackupReport) error {
	return kv.View(ctx, func(tx store.Tx) error {
		devices, err := eng.OwnDevices(tx, time.Now())
		if err != nil {
			return err
		}
		for _, d := range devices {
			if !d.This {
				r.Devices = append(r.Devices, d.Name)
			}
		}
		contacts, err := eng.Contacts(tx)
		for _, c := range contacts {
			r.Contacts++
			if c.Verified {
				r.Verified++
			}
			n, err := countMessages(tx, eng, c)
			if err != nil {
				return err
			}
			r.Messages += n
			if n > 0 {
				r.Conversations++
			}
		}
		return err
	})
}

func countMessages(tx store.Tx, eng *engine.Engine, c engine.Contact) (n int, err error) {
	for after := uint64(0); ; {
		page, err := eng.HistoryAfter(tx, c.Account, after, 0)
		if err != nil || len(page) == 0 {
			return n, err
		}
		n, after = n+len(page), page[len(page)-1].Position
	}
}
