package appeal

import (
	"context"
	"fmt"

	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// Decide records a reviewer's decision. If the policy requires a second person, the decision waits for Confirm. An upheld appeal is published at once. An error is
// a *changeset.Error.
func (d *Desk) Decide(ctx context.Context, number string, by changeset.By, decision Decision) (*Appeal, error) {
	if err := decision.check(); err != nil {
		return nil, err
	}
	a, err := d.step(ctx, number, func(a *Appeal) (*record, error) {
		switch {
		case a.State.IsDecided() && a.Decision == decision && a.Reviewer == by.Token:
			return nil, nil // the same request again
		case a.State.IsDecided():
			return nil, changeset.NewError(changeset.Conflict, "", "the appeal was already "+string(a.State))
		case a.proposals >= maxProposals:
			return nil, changeset.NewError(changeset.Conflict, "", fmt.Sprintf("the decision was changed %d times already: a second person must confirm it", maxProposals))
		case a.State == Second && a.reviewerPerson != by.Person:
			return nil, changeset.NewError(changeset.Conflict, "", a.Reviewer+" decided already: confirm that decision, or ask that person to change it")
		}
		r := &record{Kind: decided, By: by.Token, Person: by.Person, Decision: &decision}
		if d.cfg.Policy().needsSecond(d.blocksOf(a)) {
			r.Kind = proposed
		}
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	return d.finish(ctx, a)
}

// blocksOf returns the blocks that a decision about an appeal concerns: the blocks in force now, which may include an order that is newer than the appeal, and
// the block that was recorded when the appeal was filed.
func (d *Desk) blocksOf(a *Appeal) []Block { return append(d.cfg.Blocks(a.Name), a.Block) }

// Confirm records that a second person confirms a decision. outcome and why are those that this person read: if the decision has others by now, Confirm returns
// an error and records nothing. An error is a *changeset.Error.
func (d *Desk) Confirm(ctx context.Context, number string, by changeset.By, outcome Outcome, why Why) (*Appeal, error) {
	a, err := d.step(ctx, number, func(a *Appeal) (*record, error) {
		switch {
		case a.State.IsDecided() && a.Second == by.Token:
			return nil, nil // the same request again
		case a.State != Second:
			return nil, changeset.NewError(changeset.Conflict, "", "no decision about this appeal waits for a second person: the appeal is "+string(a.State))
		case a.reviewerPerson == by.Person || a.Reviewer == by.Token:
			return nil, changeset.NewError(changeset.Forbidden, "", "the person who decided cannot confirm the decision: a second person must")
		}
		if a.Decision.Outcome != outcome || a.Decision.Why != why {
			return nil, changeset.NewError(changeset.Conflict, "", fmt.Sprintf("the decision was changed to %s, with the reason %s: read the appeal again before you confirm it", a.Decision.Outcome, a.Decision.Why))
		}
		decision := a.Decision
		return &record{Kind: decided, By: by.Token, Person: by.Person, Decision: &decision}, nil
	})
	if err != nil {
		return nil, err
	}
	return d.finish(ctx, a)
}

// MarkProved records that the appellant proved to control the name. An error is a *changeset.Error.
func (d *Desk) MarkProved(ctx context.Context, number string) (*Appeal, error) {
	return d.step(ctx, number, func(a *Appeal) (*record, error) {
		if a.Proved {
			return nil, nil
		}
		return &record{Kind: proved}, nil
	})
}

// finish takes the missing steps of a decision. If one fails, the decision stays recorded, and Run tries again.
func (d *Desk) finish(ctx context.Context, a *Appeal) (*Appeal, error) {
	if !a.State.IsDecided() || a.IsApplied {
		return a, nil
	}
	after, err := d.step(ctx, a.Number, func(a *Appeal) (*record, error) {
		if a.IsApplied {
			return nil, nil
		}
		if a.State == Rejected {
			return &record{Kind: applied}, d.endSuspension(ctx, a)
		}
		id := "appeal-" + a.Number
		version, err := d.cfg.Publish.Publish(ctx, id, "appeal "+a.Number+" was upheld", []journal.Change{change(a)})
		if err != nil {
			return nil, err
		}
		return &record{Kind: applied, ChangeSet: id, Version: version}, nil
	})
	if err != nil {
		d.cfg.Log.Error("the decision about an appeal is recorded, but not in effect yet; control tries again", "appeal", a.Number, "error", err)
		return a, nil
	}
	return after, nil
}

// change returns the change of an upheld appeal. If only operators blocked the name, by an entry of exactly this name, and there is no suspension, the change
// withdraws their block. Otherwise the change allows the name: other names that the entry blocks stay blocked, and so does a blocked name to which this name
// redirects.
func change(a *Appeal) journal.Change {
	c := journal.Change{Do: journal.Allow, Name: a.Name, Reason: "appeal " + a.Number + " was upheld"}
	if b := a.Block; b.Operator && len(b.Lists) == 0 && b.Entry == a.Name && b.Target == "" && a.Suspension == "" {
		c.Do = journal.Withdraw
	}
	return c
}
