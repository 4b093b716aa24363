package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// How often a follower asks without being woken: where wake-ups fail, records come this late.
const pollInterval = 5 * time.Second

// How long a follower waits before it asks again, where it knows of a record that the asked server does not have yet,
// or where asking failed: doubled from first to last.
const (
	minRetry = 2 * time.Millisecond
	maxRetry = time.Second
)

// maxMissing bounds how often a record is found missing before it counts as lost: a server of a cluster that starts anew may lack some for a moment.
const maxMissing = 12

// Follow hands each record after a sequence to each, in order and without gaps: those there are, then others as they are
// kept. It goes on through lost connections and restarts of servers. It returns when ctx ends, with its error, when each fails, with that error,
// when the Reader is closed, or with ErrLost when the journal lacks a record.
func (r *Reader) Follow(ctx context.Context, after uint64, each func(Record) error) error {
	w, err := r.newWaiter(newRecords)
	if err != nil {
		return err
	}
	defer w.stop()
	var callbackErr error // of each
	for retry, missing := minRetry, 0; ; {
		start := after
		more, err := r.fetchBatch(ctx, journalStream, query{Sequence: after + 1}, func(m message) error {
			if m.sequence != after+1 {
				return fmt.Errorf("follow the journal: %w: %d came after %d", ErrLost, m.sequence, after)
			}
			record, err := m.record()
			if err == nil {
				err = each(record)
			}
			if callbackErr = err; err == nil {
				after = m.sequence
			}
			return err
		})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case callbackErr != nil:
			return callbackErr
		case r.nc.IsClosed():
			return ErrClosed
		case errors.Is(err, ErrLost):
			if missing++; missing >= maxMissing {
				return err
			}
		}
		if after > start {
			retry, missing = minRetry, 0
		}
		switch {
		case err == nil && more > 0 && after > start:
		case err != nil || w.seen.Load() > after:
			if err != nil {
				r.log.Debug("journal: reading fails, and is tried again", "err", err)
			}
			w.wait(ctx, retry)
			retry = min(2*retry, maxRetry)
			w.forgetUnseen(after, retry)
		default:
			retry, missing = minRetry, 0
			w.wait(ctx, pollInterval) // what came meanwhile has woken it
		}
	}
}

// FollowBeats hands the newest heartbeat to each, then others as they come, the newest where several came. It returns as Follow does.
func (r *Reader) FollowBeats(ctx context.Context, each func(data []byte) error) error {
	w, err := r.newWaiter(newBeats)
	if err != nil {
		return err
	}
	defer w.stop()
	var last message
	for retry := minRetry; ; {
		m, err := r.get(ctx, beatsStream, query{Last: beatsSubject})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case r.nc.IsClosed():
			return ErrClosed
		case err != nil && !errors.Is(err, ErrNone):
			w.wait(ctx, retry)
			retry = min(2*retry, maxRetry)
			continue
		case err == nil && (m.sequence != last.sequence || m.time != last.time):
			last = m
			if err := each(m.data); err != nil {
				return err
			}
		}
		retry = minRetry
		w.wait(ctx, pollInterval)
	}
}

// waiter is woken when a stream got a message, and when the connection was made again or closed.
type waiter struct {
	seen    atomic.Uint64 // highest sequence that the servers spoke of
	woken   chan struct{} // holds one
	sub     *nats.Subscription
	nc      *nats.Conn
	changed chan nats.Status
}

// wait begins to listen for a stream's wake-ups.
func (r *Reader) newWaiter(subject string) (*waiter, error) {
	w := &waiter{woken: make(chan struct{}, 1), nc: r.nc}
	sub, err := r.nc.Subscribe(subject, func(m *nats.Msg) {
		sequence, err := strconv.ParseUint(m.Header.Get(sequenceHeader), 10, 64)
		if err != nil {
			return
		}
		for seen := w.seen.Load(); sequence > seen && !w.seen.CompareAndSwap(seen, sequence); seen = w.seen.Load() {
		}
		select {
		case w.woken <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return nil, fmt.Errorf("follow %s: %w", subject, translateError(err))
	}
	w.sub = sub
	w.changed = r.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	return w, nil
}

// wait returns when it is time to ask again, which is in d at the latest.
func (w *waiter) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.woken:
	case <-w.changed:
	case <-timer.C:
	}
}

// forget gives up on a record that was spoken of and never came: a wake-up proves nothing.
func (w *waiter) forgetUnseen(after uint64, retry time.Duration) {
	if retry >= maxRetry {
		w.seen.Store(after)
	}
}

// stop ends listening.
func (w *waiter) stop() {
	w.sub.Unsubscribe()
	w.nc.RemoveStatusListener(w.changed)
}
