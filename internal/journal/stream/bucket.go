package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Bucket holds values by key. A key has 1 to 128 bytes. Bucket is safe for concurrent use. Writes are as durable as those of Append, and return its errors.
type Bucket struct {
	kv   jetstream.KeyValue
	s    *Stream
	name string
}

// Bucket returns one of the buckets Tokens, Holds, Receipts, Nodes and Appeals. It panics for other names.
func (s *Stream) Bucket(name string) *Bucket {
	b := s.buckets[name]
	if b == nil {
		panic("stream: no bucket " + name)
	}
	return b
}

// Get returns the value of a key and its revision for Update, or ErrNone.
func (b *Bucket) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	t, err := b.token(key)
	if err != nil {
		return nil, 0, err
	}
	entry, err := b.kv.Get(ctx, t)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		err = ErrNone
	}
	if err != nil {
		return nil, 0, b.error(err)
	}
	return entry.Value(), entry.Revision(), nil
}

// Create sets the value of a new key. It returns ErrExists if the key exists.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	return b.write(ctx, key, value, func(ctx context.Context, t string) (uint64, error) {
		return b.kv.Create(ctx, t, value)
	})
}

// Update sets the value of a key with the given revision. It returns ErrBehind if the key has another revision.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.write(ctx, key, value, func(ctx context.Context, t string) (uint64, error) {
		return b.kv.Update(ctx, t, value, revision)
	})
}

// Put sets the value of a key.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) (revision uint64, err error) {
	return b.write(ctx, key, value, func(ctx context.Context, t string) (uint64, error) {
		return b.kv.Put(ctx, t, value)
	})
}

// Delete removes a key. It is no error if the key does not exist.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	_, err := b.write(ctx, key, nil, func(ctx context.Context, t string) (uint64, error) {
		return 0, b.kv.Delete(ctx, t)
	})
	return err
}

// Each calls f with every key and its value, in no order. It returns after the last one, or with the first error of f.
func (b *Bucket) Each(ctx context.Context, f func(key string, value []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := b.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, open := <-w.Updates():
			if !open {
				return fmt.Errorf("%s: %w", b.name, ErrClosed)
			}
			if entry == nil { // the end of the existing values
				return nil
			}
			key, ok := untoken(entry.Key())
			if !ok {
				continue // not written by this package
			}
			if err := f(key, entry.Value()); err != nil {
				return err
			}
		}
	}
}

// write encodes the key, checks the disk, bounds the time and translates the errors of a write.
func (b *Bucket) write(ctx context.Context, key string, value []byte, do func(context.Context, string) (uint64, error)) (uint64, error) {
	t, err := b.token(key)
	if err == nil {
		err = b.s.checkWrite(len(value))
	}
	if err != nil {
		return 0, err
	}
	ctx, cancel := b.s.writeContext(ctx)
	defer cancel()
	revision, err := do(ctx, t)
	switch {
	case err == nil:
		return revision, nil
	case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
		return 0, b.error(ErrBehind)
	case errors.Is(err, jetstream.ErrKeyExists):
		return 0, b.error(ErrExists)
	}
	return 0, b.error(b.s.writeError(err))
}

func (b *Bucket) token(key string) (string, error) {
	t := token(key)
	if t == "" {
		return "", badName(b.name+": key", key)
	}
	return t, nil
}

// error adds the bucket's name to an error. It leaves out the key, because keys of tokens may be secret.
func (b *Bucket) error(err error) error { return fmt.Errorf("%s: %w", b.name, err) }
