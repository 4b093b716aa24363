package appeal

import (
	"fmt"
	"slices"
	"time"

	"rempart/internal/changeset"
)

// State is the state of an appeal.
type State string

const (
	Open     State = "open"
	Second   State = "second" // a reviewer decided, and a second person must confirm
	Upheld   State = "upheld"
	Rejected State = "rejected"
)

// States returns all states.
func States() []State { return []State{Open, Second, Upheld, Rejected} }

// IsDecided reports whether the state is final.
func (s State) IsDecided() bool { return s == Upheld || s == Rejected }

// Appeal is an appeal as its records describe it.
type Appeal struct {
	Filing
	Number   string
	Code     string // SHA-256 of the appellant's code, in hexadecimal
	State    State
	Filed    time.Time
	Due      time.Time // when an answer is due
	Proved   bool      // the appellant controls the name
	Decision Decision  // of a decided appeal, or the one that a second person must confirm
	Decided  time.Time // zero if it is undecided
	Reviewer string    // token of the person who decided first
	Second   string    // token of the person who confirmed

	Suspension string // ID of the change set that lets the name pass until the decision; "" for none
	ChangeSet  string // ID of the change set of the decision; "" while there is none
	Version    uint64 // of that change set, 0 while it is held
	IsApplied  bool   // the decision took effect, or its change set is held

	reviewerPerson string
	proposals      int
}

// replay returns the appeal that its records describe. An error wraps errDamaged.
func replay(records []record) (*Appeal, error) {
	a := &Appeal{}
	for i, r := range records {
		if (r.Kind == filed) != (i == 0) {
			return nil, fmt.Errorf("%w: record %d has the kind %q; only the first record has the kind %q", errDamaged, i+1, r.Kind, filed)
		}
		if err := a.apply(r); err != nil {
			return nil, fmt.Errorf("%w: record %d: %w", errDamaged, i+1, err)
		}
	}
	return a, nil
}

// apply adds the effect of one record.
func (a *Appeal) apply(r record) error {
	at := time.UnixMilli(r.Time).UTC()
	switch r.Kind {
	case filed:
		if r.Filing == nil {
			return fmt.Errorf("the kind is %q, but the filing is missing", r.Kind)
		}
		a.Filing, a.Number, a.Code, a.Filed, a.Due, a.State = *r.Filing, r.Number, r.Code, at, unixTime(r.Due), Open
	case suspended:
		a.Suspension = r.ChangeSet
	case proved:
		a.Proved = true
	case proposed, decided:
		if r.Decision == nil || a.State.IsDecided() {
			return fmt.Errorf("the kind is %q, but the decision is missing, or an earlier record already decided the appeal", r.Kind)
		}
		a.decide(r, at)
	case applied:
		a.ChangeSet, a.Version, a.IsApplied = r.ChangeSet, r.Version, true
	default:
		return fmt.Errorf("unknown kind %q", r.Kind)
	}
	return nil
}

func (a *Appeal) decide(r record, at time.Time) {
	a.Decision = *r.Decision
	if a.State == Open {
		a.Reviewer, a.reviewerPerson = r.By, r.Person
	} else {
		a.Second = r.By
	}
	if r.Kind == proposed {
		a.proposals++
		a.State, a.Second = Second, ""
		a.Reviewer, a.reviewerPerson = r.By, r.Person
		return
	}
	a.Decided = at
	if a.State = Rejected; a.Decision.Outcome == Uphold {
		a.State = Upheld
	}
}

// check returns an error, a *changeset.Error that names the invalid field, if the decision is invalid.
func (d *Decision) check() error {
	switch {
	case d.Outcome.reasons() == nil:
		return changeset.NewError(changeset.Invalid, "body.outcome", `"upheld" or "rejected"`)
	case !slices.Contains(d.Outcome.reasons(), d.Why):
		return changeset.NewError(changeset.Invalid, "body.why", fmt.Sprintf("for the outcome %q, one of %q", d.Outcome, d.Outcome.reasons()))
	case len(d.Note) > maxNote:
		return changeset.NewError(changeset.Invalid, "body.note", fmt.Sprintf("at most %d bytes", maxNote))
	}
	return nil
}
