package rendezvous

import (
	"context"
	"errors"
	"log/slog"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/embedded"
)

const storeDir = "store" // in the data directory

// openStore opens the durable store below dir. close releases it.
func openStore(ctx context.Context, dir string, log *slog.Logger) (s store.Rendezvous, close func() error, err error) {
	kv, err := badger.Open(badger.Options{Dir: dir, Log: log})
	if err != nil {
		return nil, nil, err
	}
	s, err = embedded.New(ctx, kv)
	if err != nil {
		return nil, nil, errors.Join(err, kv.Close())
	}
	return s, kv.Close, nil
}
