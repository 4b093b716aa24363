package changeset

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"rempart/internal/journal/stream"
)

// receipt reads the receipt of a change set.
func (l *Lifecycle) receipt(ctx context.Context, id string) (*Stored, error) {
	var data []byte
	var revision uint64
	err := error(stream.ErrNone)
	if idPattern.MatchString(id) {
		data, revision, err = l.receipts.Get(ctx, id)
	}
	if errors.Is(err, stream.ErrNone) {
		return nil, NewError(NotFound, "path.id", "no change set with this id was pushed here: \"rempart changesets\" shows the newest ones")
	}
	r, err := parseStored(data, err)
	if err != nil {
		return nil, Fail("receipts cannot be read", err)
	}
	r.revision = revision
	return r, nil
}

// create writes a new receipt. If one with the same ID exists, the error is stream.ErrExists.
func (l *Lifecycle) create(ctx context.Context, r *Stored) (err error) {
	r.Touched, r.Instance = time.Now().Unix(), l.instance
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if r.revision, err = l.receipts.Create(ctx, r.ID, data); err == nil {
		l.watched.note(r)
	}
	return err
}

// save writes a receipt. If it was written by another call or control since it was read, the error is stream.ErrBehind.
func (l *Lifecycle) save(ctx context.Context, r *Stored) error {
	r.Touched, r.Instance = time.Now().Unix(), l.instance
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if r.revision, err = l.receipts.Update(ctx, r.ID, data, r.revision); err == nil {
		l.watched.note(r)
	}
	return err
}

// amendTries bounds how often amend tries again when another call writes the same receipt.
const amendTries = 10

// amend reads a receipt, changes it and saves it, again if another call wrote it meanwhile. change reports whether there is
// something to save. amend reports whether it saved the receipt, and logs errors. It does not lock the ID: its caller holds
// the lock of another one.
func (l *Lifecycle) amend(ctx context.Context, id string, change func(*Stored) (bool, error)) bool {
	for range amendTries {
		r, err := l.receipt(ctx, id)
		if err == nil {
			changed := false
			if changed, err = change(r); err == nil && !changed {
				return false
			}
		}
		if err == nil {
			err = l.save(ctx, r)
		}
		if err == nil {
			return true
		}
		if !errors.Is(err, stream.ErrBehind) {
			l.log.Error("a receipt was not written", "id", id, "err", err)
			return false
		}
	}
	return false
}

// Receipt returns the present receipt of a change set.
func (l *Lifecycle) Receipt(ctx context.Context, id string) (Receipt, error) {
	r, err := l.receipt(ctx, id)
	if err != nil {
		return Receipt{}, err
	}
	l.present(ctx, r)
	return r.Receipt, nil
}

// present sets the fields of a receipt that are not stored: the state of the change set that holds the held changes, and the
// servers that have a staged change set.
func (l *Lifecycle) present(ctx context.Context, r *Stored) {
	if r.State == Staged {
		r.updateReach(l.cfg.Fleet) // other servers report than when it was saved
		r.Nodes = l.cfg.Fleet.Holders(r.ID, &r.Audience, l.cfg.Control.State().Epoch, r.Version)
	}
	if r.HeldAs == "" {
		return
	}
	if other, err := l.receipt(ctx, r.HeldAs); err == nil && other.PartOf == r.ID {
		r.HeldNow = other.State
	}
}

// List returns the newest receipts in a state, "" for any, newest first.
func (l *Lifecycle) List(ctx context.Context, state State, limit int) ([]Receipt, error) {
	leave, err := l.lists.Enter(ctx, "receipts were not read")
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := l.newest(ctx, limit, func(r *Stored) bool { return state == "" || r.State == state })
	if err != nil {
		return nil, Fail("receipts cannot be read", err)
	}
	return found, nil
}

// maxListed bounds the refused and held changes of each listed receipt.
const maxListed = 10

// newest reads all receipts, and returns the newest ones that want selects, newest first.
func (l *Lifecycle) newest(ctx context.Context, most int, want func(*Stored) bool) ([]Receipt, error) {
	var all []Receipt
	order := func(x, y Receipt) int { return y.Time.Compare(x.Time) }
	err := l.receipts.Each(ctx, func(_ string, value []byte) error {
		var r Stored
		if err := json.Unmarshal(value, &r); err != nil || !want(&r) {
			return err
		}
		r.Refused, r.Held = slices.Clone(r.Refused[:min(len(r.Refused), maxListed)]), slices.Clone(r.Held[:min(len(r.Held), maxListed)])
		if all = append(all, r.Receipt); len(all) >= 2*most {
			slices.SortFunc(all, order)
			all = all[:most]
		}
		return nil
	})
	slices.SortFunc(all, order)
	return all[:min(len(all), most)], err
}

// idLocks makes the calls that process one change set run one after another.
type idLocks struct {
	mu sync.Mutex
	by map[string]chan struct{} // closed when the lock is released
}

// lock waits until no other call processes a change set, and keeps others from it until unlock is called.
func (l *Lifecycle) lock(ctx context.Context, id string) (unlock func(), err error) {
	k := &l.locks
	for {
		k.mu.Lock()
		other := k.by[id]
		if other == nil {
			done := make(chan struct{})
			k.by[id] = done
			k.mu.Unlock()
			return func() {
				k.mu.Lock()
				delete(k.by, id)
				k.mu.Unlock()
				close(done)
			}, nil
		}
		k.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, Fail("another call is processing the change set", ctx.Err())
		}
	}
}

// isLocked reports whether a call processes a change set.
func (k *idLocks) isLocked(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.by[id] != nil
}

// watchlist holds the staged, held and pending change sets, which Run watches.
type watchlist struct {
	mu sync.Mutex
	by map[string]State
}

// note adds a change set, or removes it if it is not staged, held or pending.
func (w *watchlist) note(r *Stored) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.state() {
	case Held, Staged, withdrawing, Pending:
		w.by[r.ID] = r.State
	default:
		delete(w.by, r.ID)
	}
}

// ids returns the watched change sets in the given states, in order.
func (w *watchlist) ids(states ...State) (ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, s := range w.by {
		if slices.Contains(states, s) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
