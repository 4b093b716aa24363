package changeset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
)

// claimTime is the time for which other controls leave a pending change set to the control that claimed it.
const claimTime = 2 * time.Minute

// claim writes the receipt of a change set before any other step, so that the receipt exists after a crash. If the change set already
// has a receipt, and no step is missing, claim returns that receipt. The caller holds the lock of the ID.
func (l *Lifecycle) claim(ctx context.Context, r *Stored) (done *Stored, err error) {
	if err := r.apply(Claim); err != nil {
		return nil, err
	}
	if err = l.create(ctx, r); err == nil {
		return nil, nil
	}
	if !errors.Is(err, stream.ErrExists) {
		return nil, Fail("the change set was not accepted", err)
	}
	old, err := l.receipt(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	if old.Content != r.Content && old.Content != "" { // the content of a recovered change set is not known
		return nil, errOtherSet()
	}
	if old.State != Pending {
		return old, nil
	}
	if unpublished, err := l.resolve(ctx, old); err != nil || !unpublished {
		return old, err
	}
	r.revision = old.revision // the call that claimed the change set was interrupted: this call continues its work
	return nil, l.saveClaim(ctx, r)
}

// saveClaim writes the receipt of a change set whose processing this call continues.
func (l *Lifecycle) saveClaim(ctx context.Context, r *Stored) error {
	switch err := l.save(ctx, r); {
	case errors.Is(err, stream.ErrBehind):
		return errInProgress()
	case err != nil:
		return Fail("the change set was not accepted", err)
	}
	return nil
}

// errOtherSet returns the error for a change set whose ID another change set already has.
func errOtherSet() error {
	return NewError(Conflict, "id", "another change set has this ID: choose another ID")
}

// errInProgress returns the error of a change set that another control is processing, or was processing when it ended.
func errInProgress() error {
	e := NewError(InProgress, "id", "this change set is being published: push it again in a moment")
	e.After = 10 * time.Second
	return e
}

// isStale reports whether the control that claimed a pending change set has abandoned it.
func (r *Stored) isStale() bool { return time.Since(time.Unix(r.Touched, 0)) > claimTime }

// resolve searches the journal for a pending change set. If the journal holds it, resolve updates the receipt. Otherwise it reports
// that the change set is unpublished, and that no call is about to publish it.
func (l *Lifecycle) resolve(ctx context.Context, r *Stored) (unpublished bool, err error) {
	record, set, err := l.cfg.Control.FindChangeSet(ctx, r.ID)
	if errors.Is(err, stream.ErrNone) {
		if r.Instance == l.instance || r.isStale() {
			return true, nil
		}
		return false, errInProgress()
	}
	if err != nil {
		return false, Fail("the journal cannot be read", err)
	}
	published := publish.Receipt{Version: record.Version, Time: record.Time}
	if err := r.markPublished(published, l.newStage(set, published)); err != nil {
		return false, err
	}
	if err := l.save(ctx, r); err != nil && !errors.Is(err, stream.ErrBehind) {
		return false, Fail("the receipt was not written; the change set is published", err)
	}
	if r.Undoes != "" {
		l.noteUndone(ctx, r.Undoes, r.ID)
	}
	return false, nil
}

// finishInterrupted ends the processing of a change set that a crash interrupted. Such a change set has been pending for a long time,
// and no call processes it.
func (l *Lifecycle) finishInterrupted(ctx context.Context, id string) error {
	r, err := l.receipt(ctx, id)
	switch {
	case err != nil:
		return err
	case r.State != Pending:
		l.watched.note(r) // another control finished the change set
		return nil
	case !r.isStale() || l.locks.isLocked(id): // a call may need a long time for the change set: do not wait for it
		return nil
	}
	return l.withLocked(ctx, id, isPending, func(r *Stored) error {
		unpublished, err := l.resolve(ctx, r)
		if err != nil {
			return err
		}
		if !unpublished {
			l.deleteHeld(ctx, id, true)
			return nil
		}
		_, _, err = l.holds.Get(ctx, id)
		switch {
		case err == nil && time.Since(time.Unix(r.Touched, 0)) < claimTime+largeTime:
			return nil // another control may still be publishing a large one
		case err == nil: // an approval was interrupted
			r.Approved = nil
			err = r.apply(Reopen)
		case errors.Is(err, stream.ErrNone):
			err = r.apply(Abandon)
		}
		if err != nil {
			return err
		}
		return l.save(ctx, r)
	})
}

func isPending(r *Stored) error {
	if r.State != Pending {
		return NewError(Conflict, "path.id", "the change set is not pending any more")
	}
	return nil
}

// withLocked locks a change set, reads its receipt, and calls do with it unless check returns an error.
func (l *Lifecycle) withLocked(ctx context.Context, id string, check, do func(*Stored) error) error {
	unlock, err := l.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	r, err := l.receipt(ctx, id)
	if err == nil {
		err = check(r)
	}
	if err != nil {
		return err
	}
	return do(r)
}

// claimPush claims a pushed change set. split says that changes which guards hold are to be held separately: the push then replaces
// a held change set that was pushed before as a whole. done is the receipt of the earlier push if nothing is left to do.
func (l *Lifecycle) claimPush(ctx context.Context, u *Upload, r *Stored, split bool) (done *Stored, err error) {
	if r.HeldAs != "" {
		if err := l.checkHeldID(ctx, r); err != nil {
			return nil, err
		}
	}
	done, err = l.claim(ctx, r)
	if err != nil || done == nil || done.State != Held || !split {
		return done, err
	}
	if u.accepted == 0 || u.holds > 0 && r.HeldAs == "" { // nothing would be left of it, or the rest would be held all the same
		return done, nil
	}
	return nil, l.replaceHeld(ctx, done, r)
}

// checkHeldID returns an error if the ID for the separately held changes of r already belongs to another change set.
func (l *Lifecycle) checkHeldID(ctx context.Context, r *Stored) error {
	other, err := l.receipt(ctx, r.HeldAs)
	if kind, ok := KindOf(err); ok && kind == NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if other.Content != heldContent(r) {
		return errOtherSet()
	}
	return nil
}

// heldContent returns the content hash of the change set that holds the held changes of r.
func heldContent(r *Stored) string { return r.Content + " held" }

// holdSeparately holds the changes of u as a change set of their own, linked with the one with which they were pushed. Called again
// with the same content, it does nothing.
func (l *Lifecycle) holdSeparately(ctx context.Context, u *Upload, with *Stored, by By) error {
	r := &Stored{Content: heldContent(with), Owner: by.Person}
	r.PartOf = with.ID
	if err := l.sign(u, r); err != nil {
		return err
	}
	r.describe(u, by)
	r.updateReach(l.cfg.Fleet)
	unlock, err := l.lock(ctx, r.ID)
	if err != nil {
		return err
	}
	defer unlock()
	done, err := l.claim(ctx, r)
	if err != nil || done != nil {
		return err
	}
	return l.process(ctx, u, r)
}

// replaceHeld puts r in the place of old, a held change set with the same ID and content that was pushed as a whole. The caller
// holds the lock of the ID. Old and its separately held changes are never held at the same time. A crash between the two steps leaves
// a pending change set, which the client must push again.
func (l *Lifecycle) replaceHeld(ctx context.Context, old, r *Stored) error {
	if old.Owner != r.Owner {
		return NewError(Conflict, "id", fmt.Sprintf("the change set is held, and %s pushed it: only the person who pushed it can push it again without the held changes. Other people must push it with a new id", old.By))
	}
	if err := old.apply(Replace); err != nil {
		return err
	}
	switch err := l.save(ctx, old); { // after this step nobody can approve or reject it
	case errors.Is(err, stream.ErrBehind):
		return NewError(Conflict, "id", "the change set was approved or rejected at the same time: read its receipt")
	case err != nil:
		return Fail("the change set was not accepted", err)
	}
	l.deleteHeld(ctx, r.ID, false)
	r.revision = old.revision
	return l.saveClaim(ctx, r)
}
