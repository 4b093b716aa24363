package changeset

import (
	"context"
	"fmt"
	"slices"

	"rempart/internal/journal"
	"rempart/internal/journal/publish"
)

// newStage returns the stage of a change set after its publication, nil if the change set is not staged.
func (l *Lifecycle) newStage(set *journal.ChangeSet, published publish.Receipt) *Stage {
	if set.Stage == nil {
		return nil
	}
	return &Stage{Share: set.Stage.Share, Until: published.Time/1000 + set.Stage.Seconds, Usual: l.cfg.Fleet.Baselines(set.ID, set.Stage.Share)}
}

// Advance extends a staged change set to all nodes now.
func (l *Lifecycle) Advance(ctx context.Context, id string, by By) (*Result, error) {
	var out *Result
	err := l.withLocked(ctx, id, canAdvance, func(r *Stored) error {
		out = &Result{Stored: r}
		return l.advance(ctx, r, by)
	})
	if _, ok := KindOf(err); err != nil && !ok {
		err = Fail("it is not known whether the change set was extended to all servers", err)
	}
	return out, err
}

func canAdvance(r *Stored) error { return r.check(Advance) }

func (l *Lifecycle) advance(ctx context.Context, r *Stored, by By) error {
	published, err := l.publish(ctx, publish.Draft{Kind: journal.RecordAdvance, By: by.Token, ChangeSetID: r.ID})
	if err != nil {
		return err
	}
	if err := r.markAdvanced(published.Version); err != nil {
		return err
	}
	r.updateReach(l.cfg.Fleet)
	l.stats.addAdvanced()
	return l.save(context.WithoutCancel(ctx), r)
}

// startWithdrawal moves a staged change set into the state withdrawing. why is the reason.
func (r *Stored) startWithdrawal(why string) error {
	if err := r.apply(Withdraw); err != nil {
		return err
	}
	r.Stage.Withdrawal, r.Note = why, "control is withdrawing the change set: "+why
	return nil
}

// continueStage continues the stage of a change set after a person rejected its withdrawal. undo is the receipt of the rejected undo.
func (r *Stored) continueStage(undo *Stored) error {
	if err := r.apply(Continue); err != nil {
		return err
	}
	r.Stage.Withdrawal, r.Stage.Usual, r.Stage.UndoID = "", nil, ""
	r.Note = "the stage continues: its withdrawal " + undo.ID + " was rejected by " + undo.Decider
	return nil
}

// checkBlockRates starts the withdrawal of a staged change set if a node has blocked an unusual share of queries since the change set
// was published. It also continues a withdrawal that was started before.
func (l *Lifecycle) checkBlockRates(ctx context.Context, id string) error {
	err := l.withLocked(ctx, id, isStaged, func(r *Stored) error {
		why := l.cfg.Fleet.Unusual(r.Stage.Usual)
		if why == "" || r.state() == withdrawing {
			return nil
		}
		if err := r.startWithdrawal(why); err != nil {
			return err
		}
		l.log.Warn("a staged change set is being withdrawn", "id", id, "why", why)
		return l.save(ctx, r)
	})
	if err != nil {
		return err
	}
	return l.withdraw(ctx, id)
}

func isStaged(r *Stored) error {
	if r.State != Staged {
		return NewError(Conflict, "path.id", "the change set is not staged any more")
	}
	return nil
}

// withdraw undoes a staged change set. If the undo is held, for example because a second key must sign, the receipt names the undo,
// and the stage continues if a person rejects the undo. If later change sets changed all names of the change set, it cannot be undone,
// and stays in force until operators withdraw its names.
func (l *Lifecycle) withdraw(ctx context.Context, id string) error {
	var progress withdrawal
	err := l.withLocked(ctx, id, isStaged, func(r *Stored) (err error) {
		progress, err = l.checkWithdrawal(ctx, r)
		return err
	})
	if err == nil && progress == withdrawalOver {
		l.noteUndone(ctx, id, "")
	}
	if err != nil || progress != withdrawalNeeded {
		return err
	}
	undo, err := l.Undo(ctx, id, control)
	kind, ok := KindOf(err)
	stuck := ok && kind == Conflict
	if !stuck && (err != nil || undo.State != Held) {
		return err
	}
	return l.withLocked(ctx, id, isStaged, func(r *Stored) error {
		if r.Stage.Stuck = stuck; stuck {
			r.Note = fmt.Sprintf("withdraw its names by hand, one by one, because the change set cannot be undone (%s): %s", err.Error(), r.Stage.Withdrawal)
		} else {
			r.Stage.UndoID = undo.ID
			r.Note = fmt.Sprintf("control withdraws the change set when a second person approves %s: %s", undo.ID, r.Stage.Withdrawal)
		}
		l.log.Error("a staged change set stays in force on a share of the servers", "id", id, "why", r.Note)
		return l.save(ctx, r)
	})
}

// withdrawal is the progress of a withdrawal.
type withdrawal int

const (
	withdrawalNeeded withdrawal = iota // the change set must be undone
	withdrawalWaits                    // a person must decide, or the change set cannot be undone
	withdrawalOver                     // no change of the change set is in force any more
)

// checkWithdrawal returns the progress of the withdrawal of a staged change set, and saves a person's decision about the withdrawal.
func (l *Lifecycle) checkWithdrawal(ctx context.Context, r *Stored) (withdrawal, error) {
	if r.state() != withdrawing {
		return withdrawalWaits, nil
	}
	st := l.cfg.Control.State()
	isOver := st.Version >= r.Version && !slices.ContainsFunc(st.Scoped, func(s journal.Scoped) bool { return s.ChangeSetID == r.ID })
	waits, err := l.waitsForUndo(ctx, r)
	switch {
	case err != nil:
		return withdrawalWaits, err
	case isOver:
		return withdrawalOver, nil
	case waits:
		return withdrawalWaits, nil
	}
	return withdrawalNeeded, nil
}

// waitsForUndo reports whether the withdrawal of a staged change set waits for a person. If the undo was rejected, expired or
// refused, it updates and saves the receipt of the staged change set.
func (l *Lifecycle) waitsForUndo(ctx context.Context, r *Stored) (bool, error) {
	if r.Stage.UndoID == "" {
		return r.Stage.Stuck, nil
	}
	undo, err := l.receipt(ctx, r.Stage.UndoID)
	switch {
	case err != nil || undo.State == Held || undo.State == Pending:
		return true, err
	case undo.State == Rejected && undo.Decider != "":
		if err := r.continueStage(undo); err != nil {
			return true, err
		}
		return true, l.save(ctx, r)
	}
	r.Stage.UndoID = "" // nobody decided in time, or the journal refused the undo: another undo is requested
	return false, l.save(ctx, r)
}
