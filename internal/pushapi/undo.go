package pushapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

type undoOutput struct {
	Status int
	Body   UndoResult
}

// UndoResult is the receipt of the change set that undoes another, and what it left.
type UndoResult struct {
	Receipt
	Left  []string `json:"left,omitempty" doc:"Names that later change sets changed again, and that stay as they are: the first thousand."`
	Lefts int      `json:"lefts" doc:"How many those are."`
}

// undoBegin begins the IDs of change sets that undo others.
const undoBegin = "undo-"

// undoID is the ID of what undoes a change set, the nth time: a set that undoes one can be rejected, and is then made anew.
func undoID(id string, n int) string {
	undo := undoBegin + id
	if n > 0 {
		undo = fmt.Sprintf("%s%s~%d", undoBegin, id, n+1)
	}
	if len(undo) > 100 {
		undo = undoBegin + journal.HashOf([]byte(undo))[:32]
	}
	return undo
}

func (a *API) undo(ctx context.Context, in *idInput) (*undoOutput, error) {
	return a.undoing(ctx, in.ID, callerOf(ctx))
}

// undoing publishes what leads back from a change set.
func (a *API) undoing(ctx context.Context, id string, c *caller) (*undoOutput, error) {
	leave, err := a.enter(ctx, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	k, err := a.receipt(ctx, id)
	if err != nil {
		return nil, err
	}
	if k.Kind != "" {
		return nil, problem(http.StatusConflict, "path.id", "it is no change set: suspending ends with rempart resume, and the other way round")
	}
	if k.State == Undone && k.UndoneBy != "" { // asked again
		n, err := a.receipt(ctx, k.UndoneBy)
		if err != nil {
			return nil, err
		}
		return n.undoing(http.StatusOK), nil
	}
	if k.State == Pending {
		if _, err := a.resolve(ctx, k); err != nil {
			return nil, err
		}
	}
	if k.State != Published && k.State != Staged {
		return nil, problem(http.StatusConflict, "path.id", "it is not in force but "+string(k.State))
	}
	n, last, err := a.lastUndo(ctx, id)
	if err != nil {
		return nil, err
	}
	if last != nil && last.State == Held { // it waits for a second person already
		return last.undoing(http.StatusOK), nil
	}
	return a.publishUndo(ctx, id, n, c)
}

// lastUndo is which time it is that a change set is undone, and the receipt of what undoes it; nil for none yet.
func (a *API) lastUndo(ctx context.Context, id string) (n int, k *kept, err error) {
	for ; n < maxUndos; n++ {
		data, _, err := a.receipts.Get(ctx, undoID(id, n))
		if errors.Is(err, stream.ErrNone) {
			return n, nil, nil
		}
		k, err := readKept(data, err)
		if err != nil {
			return 0, nil, a.unavailable("receipts cannot be read", err)
		}
		if k.State != Rejected && k.State != Refused && k.State != Undone {
			return n, k, nil
		}
	}
	return 0, nil, problem(http.StatusConflict, "path.id", "what undoes it was rejected, or undone itself, too often: push what is to be")
}

// maxUndos is how often what undoes a change set may be rejected or undone.
const maxUndos = 20

// publishUndo makes the change set that leads back, the nth time, and publishes or holds it.
func (a *API) publishUndo(ctx context.Context, id string, n int, c *caller) (*undoOutput, error) {
	leave, err := a.enter(ctx, undoID(id, n)) // somebody may be approving it
	if err != nil {
		return nil, err
	}
	defer leave()
	end, err := a.turn(ctx, a.undos, "it was not undone") // it takes memory by the names of the set
	if err != nil {
		return nil, err
	}
	defer end()
	back, err := a.cfg.Control.Undo(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusConflict, "path.id", "its record is not in this journal, which was begun anew since: withdraw its names instead (rempart unblock)")
	}
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	guards, err := a.cfg.Guards()
	if err != nil {
		return nil, a.unavailable("the guards' lists cannot be read", err)
	}
	j := &judging{view: a.cfg.Control.State().View(), guards: guards, now: time.Now().Unix(), most: 4 * a.cfg.MaxChanges}
	u, err := a.write(&journal.Set{ID: undoID(id, n), Time: j.now, Comment: "undoes " + id})
	defer u.close()
	line := 0
	if err == nil {
		for ch := range back.Changes {
			line++
			if err = j.take(u, line, ch, nil, false); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, a.unavailable("what leads back was not made", err)
	}
	if line == 0 {
		return nil, problem(http.StatusConflict, "path.id", fmt.Sprintf("later change sets touched all of its %d names: there is nothing to undo", back.Lefts))
	}
	k := &kept{Content: "undo of " + id, Owner: c.Owner, Left: back.Left, Lefts: back.Lefts}
	k.Undoes = id
	if err := a.signed(u, k); err != nil {
		return nil, err
	}
	k.describe(u, c)
	done, err := a.claim(ctx, k)
	if err != nil {
		return nil, err
	}
	if done != nil {
		return done.undoing(http.StatusOK), nil
	}
	a.counts.acts(j.acts)
	r, err := a.settle(ctx, u, k)
	if err != nil {
		return nil, err
	}
	return k.undoing(r.Status), nil
}

// undoing is the answer about a change set that undoes another.
func (k *kept) undoing(status int) *undoOutput {
	return &undoOutput{status, UndoResult{Receipt: k.Receipt, Left: k.Left, Lefts: k.Lefts}}
}

// undone notes by which change set another was undone. What that one had undone is in force again, and so on.
func (a *API) undone(ctx context.Context, id, by string) {
	for again := false; id != ""; again = !again {
		undoes := ""
		noted := a.amend(ctx, id, func(k *kept) bool {
			undoes = k.Undoes
			switch {
			case !again:
				k.back(by, &a.counts)
			case k.State != Undone || k.UndoneBy != by:
				return false
			case k.Share > 0:
				k.Note = "its undo, " + by + ", was undone, which does not bring back what was staged: push it again"
			default:
				k.State, k.UndoneBy, k.Note = Published, "", "in force again: "+by+" was undone"
			}
			return true
		})
		if !noted {
			return
		}
		id, by = undoes, id
	}
}

// back is a receipt of what was undone.
func (k *kept) back(by string, counts *counts) {
	if k.Stage != nil {
		k.Share = k.Stage.Share
	}
	if k.Stage != nil && k.Stage.Back != "" {
		k.Note = "withdrawn by itself: " + k.Stage.Back
		counts.stage("withdrawn")
	}
	k.State, k.UndoneBy, k.Stage = Undone, by, nil
	counts.set(Undone)
}

// amend changes a receipt that others may be changing, which change says it does. It does not enter the ID: its caller has another one's.
func (a *API) amend(ctx context.Context, id string, change func(*kept) bool) bool {
	for range 10 {
		k, err := a.receipt(ctx, id)
		if err == nil && !change(k) {
			return false
		}
		if err == nil {
			err = a.save(ctx, k)
		}
		if err == nil {
			return true
		}
		if !errors.Is(err, stream.ErrBehind) {
			a.log.Error("a receipt was not written", "id", id, "err", err)
			return false
		}
	}
	return false
}
