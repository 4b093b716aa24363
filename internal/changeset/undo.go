package changeset

import (
	"context"
	"errors"
	"fmt"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// undoComment begins the comment of a change set that undoes another; the other one's ID follows.
const undoComment = "undoes "

// maxUndos is the largest number of times that the undo of a change set may be rejected or undone.
const maxUndos = 20

// Undo publishes or holds the change set that undoes another: for its names, the earlier decisions of operators apply again.
// Names that later change sets changed stay as they are.
func (l *Lifecycle) Undo(ctx context.Context, id string, by By) (*Result, error) {
	unlock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := l.receipt(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.Kind != "" {
		return nil, NewError(Conflict, "path.id", "this is not a change set: rempart resume ends a suspension, and rempart suspend starts one")
	}
	if r.State == Undone && r.UndoneBy != "" {
		undo, err := l.receipt(ctx, r.UndoneBy)
		return &Result{Stored: undo, Repeated: true}, err
	}
	if r.State == Pending {
		if _, err := l.resolve(ctx, r); err != nil {
			return nil, err
		}
	}
	if err := r.check(RequestUndo); err != nil {
		return nil, err
	}
	last, err := l.lastUndo(ctx, id)
	if err != nil {
		return nil, err
	}
	if last.receipt != nil && last.receipt.State == Held { // it already waits for a second person
		return &Result{Stored: last.receipt, Repeated: true}, nil
	}
	return l.publishUndo(ctx, id, last.n, by)
}

// undoTry is one of the change sets that undo another.
type undoTry struct {
	n       int     // how many of them were rejected, refused or undone before
	receipt *Stored // nil if it does not exist yet
}

// lastUndo returns the newest of the change sets that undo another.
func (l *Lifecycle) lastUndo(ctx context.Context, id string) (undoTry, error) {
	for n := range maxUndos {
		data, _, err := l.receipts.Get(ctx, undoID(id, n))
		if errors.Is(err, stream.ErrNone) {
			return undoTry{n: n}, nil
		}
		r, err := parseStored(data, err)
		if err != nil {
			return undoTry{}, Fail("receipts cannot be read", err)
		}
		if r.State != Rejected && r.State != Refused && r.State != Undone {
			return undoTry{n, r}, nil
		}
	}
	return undoTry{}, NewError(Conflict, "path.id", fmt.Sprintf("the undo of this change set was rejected or undone %d times: push a new change set with the wanted changes", maxUndos))
}

// publishUndo makes the change set that undoes another for the nth time, and publishes or holds it.
func (l *Lifecycle) publishUndo(ctx context.Context, id string, n int, by By) (*Result, error) {
	unlock, err := l.lock(ctx, undoID(id, n)) // a call may be approving it
	if err != nil {
		return nil, err
	}
	defer unlock()
	leave, err := l.undos.Enter(ctx, "the change set was not undone") // an undo takes memory for each name of the change set
	if err != nil {
		return nil, err
	}
	defer leave()
	back, err := l.cfg.Control.Undo(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return nil, NewError(Conflict, "path.id", "the journal does not hold the record of this change set, because a new epoch began since: withdraw the names of the change set instead (rempart unblock)")
	}
	if err != nil {
		return nil, Fail("the journal cannot be read", err)
	}
	j, err := l.NewJudge(false)
	if err != nil {
		return nil, err
	}
	j.most = 4 * l.cfg.MaxChanges
	u, err := writeUndo(j, &journal.ChangeSet{ID: undoID(id, n), Time: j.now, Comment: undoComment + id}, back)
	if err != nil {
		u.Close()
		return nil, Fail("the change set was not undone", err)
	}
	defer u.Close()
	if u.isEmpty() {
		return nil, NewError(Conflict, "path.id", fmt.Sprintf("later change sets changed all of its %d names: there is nothing to undo", back.SkippedCount))
	}
	r := &Stored{Content: "undo of " + id, Owner: by.Person, Left: back.Skipped, Lefts: back.SkippedCount}
	r.Undoes = id
	if err := l.sign(u, r); err != nil {
		return nil, err
	}
	r.describe(u, by)
	done, err := l.claim(ctx, r)
	if err != nil {
		return nil, err
	}
	if done != nil {
		return &Result{Stored: done, Repeated: true}, nil
	}
	l.stats.addActs(j.acts)
	return &Result{Stored: r}, l.process(ctx, u, r)
}

// writeUndo writes the upload of a change set that undoes another. The caller closes it, also if there is an error.
func writeUndo(j *Judge, set *journal.ChangeSet, back *journal.UndoPlan) (*Upload, error) {
	u, err := createUpload(j.dir, set)
	if err != nil {
		return u, err
	}
	line := 0
	for c := range back.Changes {
		line++
		if err := j.Take(u, line, c, nil); err != nil {
			return u, err
		}
	}
	return u, nil
}

// noteUndone stores that a change set was undone, and the ID of the change set that undid it, "" for none. If that change set was itself an undo, the one that
// it had undone is in force again, and so on.
func (l *Lifecycle) noteUndone(ctx context.Context, id, by string) {
	for restored := false; id != ""; restored = !restored {
		undoes := ""
		saved := l.amend(ctx, id, func(r *Stored) (bool, error) {
			undoes = r.Undoes
			if restored {
				return r.markRestored(by)
			}
			withdrawn, err := r.markUndone(by)
			if err == nil {
				l.stats.addUndone(withdrawn)
			}
			return true, err
		})
		if !saved {
			return
		}
		id, by = undoes, id
	}
}
