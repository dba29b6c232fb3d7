package node

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
)

// openFolder makes the vault in dir if there is none, and opens the store.
func openFolder(dir string, s vault.Secret, log *slog.Logger) (*vault.Store, error) {
	if err := vault.Create(dir, s); err != nil && !errors.Is(err, vault.ErrExists) {
		return nil, fmt.Errorf("make vault: %w", err)
	}
	return openStore(dir, s, log)
}

// openStore opens the vault in dir and the sealed store beside it.
func openStore(dir string, s vault.Secret, log *slog.Logger) (*vault.Store, error) {
	v, err := vault.Open(dir, s)
	if err != nil {
		return nil, fmt.Errorf("unlock %s: %w", dir, err)
	}
	db, err := openBadger(dir, log)
	if err != nil {
		return nil, err
	}
	kv, err := v.Seal(db, engine.Ephemeral)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("unlock %s: %w", dir, err), db.Close())
	}
	return kv, nil
}

func openBadger(dir string, log *slog.Logger) (store.KV, error) {
	db, err := badger.Open(badger.Options{Dir: filepath.Join(dir, storeDir), Log: log})
	if err != nil {
		return nil, fmt.Errorf("open store in %s: %w", dir, err)
	}
	return db, nil
}

const storeDir = "store"
