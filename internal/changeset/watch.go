package changeset

import (
	"context"
	"time"

	"rempart/internal/pause"
)

const (
	watchEvery = 2 * time.Second  // time between two checks
	findEvery  = 10 * time.Minute // between two searches for change sets of another control
	retryEvery = 30 * time.Second // after an error with a change set
)

// Run takes the steps that nobody requests, until ctx ends: staged change sets are extended or withdrawn, held ones expire, and
// interrupted ones are finished.
func (l *Lifecycle) Run(ctx context.Context) {
	var found time.Time
	failed := map[string]time.Time{}
	step := func(id string, take func(context.Context, string) error) {
		if time.Since(failed[id]) < retryEvery {
			return
		}
		delete(failed, id)
		if err := take(ctx, id); err != nil && ctx.Err() == nil {
			failed[id] = time.Now()
			l.log.Error("the next step of a change set failed", "id", id, "err", err)
		}
	}
	for turn := 0; ctx.Err() == nil; turn++ {
		if time.Since(found) > findEvery {
			if err := l.findWatched(ctx); err == nil {
				found = time.Now()
			} else if ctx.Err() == nil {
				l.log.Error("receipts cannot be read", "err", err)
			}
		}
		for _, id := range l.watched.ids(Staged, Held) {
			step(id, l.watch)
		}
		if pending := l.watched.ids(Pending); len(pending) > 0 { // one per turn: it may read the whole journal, and stages must not wait
			step(pending[turn%len(pending)], l.finishInterrupted)
		}
		pause.For(ctx, watchEvery)
	}
}

// findWatched adds the change sets that are staged, held or pending to the watchlist.
func (l *Lifecycle) findWatched(ctx context.Context) error {
	_, err := l.newest(ctx, 1, func(r *Stored) bool {
		l.watched.note(r)
		return false
	})
	return err
}

// watch takes the next step of a change set that is staged or held, if one is due.
func (l *Lifecycle) watch(ctx context.Context, id string) error {
	r, err := l.receipt(ctx, id)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	switch state := r.state(); {
	case state == Held && r.Until <= now:
		return l.withLocked(ctx, id, canExpire, func(r *Stored) error { return l.markRejected(ctx, r, Expire, "nobody approved the change set in time") })
	case state == Staged && l.cfg.Fleet.Unusual(r.Stage.Usual) != "":
		return l.checkBlockRates(ctx, id)
	case state == withdrawing:
		return l.withdraw(ctx, id)
	case state == Staged && now >= r.Stage.Until:
		return l.withLocked(ctx, id, canAdvance, func(r *Stored) error { return l.advance(ctx, r, control) })
	}
	l.watched.note(r) // another control may have changed the state
	return nil
}

func canExpire(r *Stored) error { return r.check(Expire) }
