package badger_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"

	badgerdb "github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
)

// BenchmarkEnqueue is the durable write of 1 KiB by 64 writers: queued for the
// committer, and, to compare with, in one Badger transaction each.
func BenchmarkEnqueue(b *testing.B) {
	value := make([]byte, 1<<10)
	rand.Read(value)
	var seq atomic.Uint64
	key := func() []byte { return store.Key('q', seq.Add(1)) }

	b.Run("GroupCommit", func(b *testing.B) {
		kv, err := open(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		defer kv.Close()
		b.SetParallelism(32) // times 2 CPUs
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				k := key()
				if err := kv.Update(context.Background(), func(tx store.Tx) error { return tx.Set(k, value) }); err != nil {
					b.Error(err)
				}
			}
		})
		report(b)
	})
	b.Run("TransactionEach", func(b *testing.B) {
		db, err := badgerdb.Open(badgerdb.DefaultOptions(b.TempDir()).WithSyncWrites(true).
			WithMemTableSize(16 << 20).WithDetectConflicts(false).WithLogger(nil))
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				k := key()
				if err := db.Update(func(txn *badgerdb.Txn) error { return txn.Set(k, value) }); err != nil {
					b.Error(err)
				}
			}
		})
		report(b)
	})
}

func report(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s") }

// BenchmarkOpen is a start with n messages in the store.
func BenchmarkOpen(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			kv, err := badger.Open(badger.Options{Dir: dir, Ballast: -1})
			if err != nil {
				b.Fatal(err)
			}
			value := make([]byte, 600)
			for i := 0; i < n; i += 1000 {
				err := kv.Update(context.Background(), func(tx store.Tx) error {
					for j := range 1000 {
						rand.Read(value)
						if err := tx.Set(binary.BigEndian.AppendUint64(nil, uint64(i+j)), value); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			kv.Close()
			for b.Loop() {
				kv, err := open(dir)
				if err != nil {
					b.Fatal(err)
				}
				kv.Close()
			}
		})
	}
}
