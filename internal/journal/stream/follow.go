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

// pollInterval is the time between two requests of a follower without wake-ups. If wake-ups fail, records arrive at most this late.
const pollInterval = 5 * time.Second

// The time that a follower waits after a request failed, or after the server did not return a record that it announced. It is doubled from minRetry to
// maxRetry.
const (
	minRetry = 2 * time.Millisecond
	maxRetry = time.Second
)

// maxMissing is how often a record must be missing before it is reported as lost: a server of a cluster that is starting may lack some for a moment.
const maxMissing = 12

// Follow calls each with each record after a sequence, in order and without gaps: first the existing records, then new ones. It continues after lost
// connections and restarts of servers. It returns the error of ctx when ctx ends, the first error of each, ErrClosed if the Reader is closed, or ErrLost if the
// journal lacks a record.
func (r *Reader) Follow(ctx context.Context, after uint64, each func(Record) error) error {
	w, err := r.newWaiter(newRecords)
	if err != nil {
		return err
	}
	defer w.stop()
	var callbackErr error // the error of each
	for retry, missing := minRetry, 0; ; {
		start := after
		more, err := r.fetchBatch(ctx, journalStream, query{Sequence: after + 1}, func(m message) error {
			if m.sequence != after+1 {
				return fmt.Errorf("follow the journal: %w: record %d follows record %d", ErrLost, m.sequence, after)
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
				r.log.Debug("journal: reading failed; trying again", "err", err)
			}
			w.wait(ctx, retry)
			retry = min(2*retry, maxRetry)
			w.forgetUnseen(after, retry)
		default:
			retry, missing = minRetry, 0
			w.wait(ctx, pollInterval) // a record that arrived meanwhile has already woken the waiter
		}
	}
}

// FollowBeats calls each with the newest heartbeat, and then with new ones. If several arrive at once, it passes the newest. It returns like Follow.
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

// waiter waits for new messages in a stream, and for changes of the connection.
type waiter struct {
	seen    atomic.Uint64 // highest sequence that a wake-up named
	woken   chan struct{} // has a buffer of one
	sub     *nats.Subscription
	nc      *nats.Conn
	changed chan nats.Status
}

// newWaiter subscribes to a stream's wake-ups.
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

// wait waits for a wake-up, a change of the connection, or d.
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

// forgetUnseen gives up on a record that a wake-up named and that never arrived: wake-ups are not authenticated.
func (w *waiter) forgetUnseen(after uint64, retry time.Duration) {
	if retry >= maxRetry {
		w.seen.Store(after)
	}
}

// stop ends the subscription.
func (w *waiter) stop() {
	w.sub.Unsubscribe()
	w.nc.RemoveStatusListener(w.changed)
}
