package changeset

import (
	"errors"
	"fmt"
	"slices"

	"rempart/blocklist"
	"rempart/blocklist/guard"
	"rempart/internal/journal"
)

// Judge checks the changes of one upload against the guards and against the state to which the changes will apply.
type Judge struct {
	dir    string // of uploads
	view   *blocklist.View
	guards *guard.Guards
	now    int64
	most   int // changes of an upload
	acts   Acts
	split  bool    // changes that a guard holds are held separately
	apart  *Upload // receives those changes; nil: they hold the whole upload
}

// Close removes the upload of changes that are held separately.
func (j *Judge) Close() { j.apart.Close() }

// Create returns an upload that the desk signs. It chooses an ID if the set has none.
func (j *Judge) Create(set *journal.ChangeSet) (*Upload, error) {
	if set.ID == "" {
		set.ID = newID()
	}
	set.Time = j.now
	if err := checkID(set.ID); err != nil {
		return nil, err
	}
	u, err := createUpload(j.dir, set)
	if err != nil || !j.split {
		return u, err
	}
	other := *set
	other.ID = heldID(set.ID)
	j.apart, err = createUpload(j.dir, &other)
	return u, err
}

// IsEmpty reports whether no change of an upload was read.
func (j *Judge) IsEmpty(u *Upload) bool {
	return u.isEmpty() && (j.apart == nil || j.apart.lines == 0)
}

// Take judges a change and adds it to an upload that the desk signs. bad is the reason why it cannot be used, nil for none.
func (j *Judge) Take(u *Upload, line int, c journal.Change, bad error) error {
	return j.take(u, line, c, bad, false)
}

// take judges a change. A refused change stays in the bytes that an author signed, and is skipped there: signed says that an
// author signed them.
func (j *Judge) take(u *Upload, line int, c journal.Change, bad error, signed bool) error {
	if lines := u.lines + u.refusals; lines >= j.most || j.apart != nil && lines+j.apart.lines >= j.most {
		return fmt.Errorf("%w: at most %d are possible in one change set", errTooMany, j.most)
	}
	before, to := tally{u.holds, u.added, u.removed}, u
	refusal := j.judge(u, line, c, bad)
	if j.apart != nil && refusal == nil && u.holds > before.holds {
		u.moveTo(j.apart, before)
		to = j.apart
	}
	if refusal == nil && !signed {
		err := to.encode(&c)
		if errors.Is(err, errLine) {
			refusal = &Refusal{line, Shorten(c.Name), "line", err.Error()}
		} else if err != nil {
			return err
		}
	}
	j.acts.add(c.Do, refusal == nil)
	if refusal == nil {
		to.lines++
		to.accepted++
		to.audience.add(&c)
		to.scoped = to.scoped || !c.AppliesEverywhere()
		return nil
	}
	if signed {
		if len(u.skip) == journal.MaxRefused {
			return fmt.Errorf("%w: more than %d changes are refused, the last one for this reason: %s: %s", errTooMany, journal.MaxRefused, refusal.Guard, refusal.Why)
		}
		u.skip = append(u.skip, u.lines)
		u.lines++
	}
	u.refuse(*refusal)
	return nil
}

// judge returns why a change is refused, nil if it is not, and adds the reasons for which a guard holds it to the upload.
func (j *Judge) judge(u *Upload, line int, c journal.Change, bad error) *Refusal {
	if field := (*journal.FieldError)(nil); errors.As(bad, &field) {
		return &Refusal{line, Shorten(c.Name), field.Name, Shorten(field.Why)}
	} else if bad != nil {
		return &Refusal{line, Shorten(c.Name), "line", Shorten(bad.Error())}
	}
	l, err := c.Listing()
	if err != nil {
		return &Refusal{line, Shorten(c.Name), "line", err.Error()}
	}
	if at := slices.IndexFunc(c.Countries, func(code string) bool { return !journal.IsCountry(code) }); at >= 0 {
		return &Refusal{line, c.Name, "countries", fmt.Sprintf("%q is not a country code of ISO 3166-1: write two capital letters, like FR", Shorten(c.Countries[at]))}
	}
	if l.Expiry != 0 && l.Expiry <= j.now {
		return &Refusal{line, c.Name, "expiry", "the expiry is in the past"}
	}
	switch c.Do {
	case journal.Withdraw:
		if slices.ContainsFunc(j.view.Claims(l.Name), isOperatorsBlock) {
			u.removed++
		}
		return nil
	case journal.Allow:
		switch f := j.guards.CheckAllow(l); f.Outcome {
		case guard.Refuse:
			return &Refusal{line, c.Name, f.Guard.String(), "an allow of this name would unblock names of unrelated owners"}
		case guard.Hold:
			u.hold(Refusal{line, c.Name, f.Guard.String(), f.Explain(l.Name)})
		}
		if j.view.Match(l.Name, blocklist.AllCategories, j.now).Action == blocklist.BlockedBy {
			u.removed++
		}
		return nil
	}
	switch f := j.guards.Check(l); f.Outcome {
	case guard.Refuse:
		return &Refusal{line, c.Name, f.Guard.String(), f.Explain(l.Name)}
	case guard.Hold:
		u.hold(Refusal{line, c.Name, f.Guard.String(), f.Explain(l.Name)})
	}
	if v := j.view.Match(l.Name, blocklist.AllCategories, j.now); v.Action == blocklist.Pass {
		u.added++
	}
	return nil
}

func isOperatorsBlock(e blocklist.Entry) bool {
	return e.Decision == blocklist.Block && slices.Contains(e.Sources, journal.Operator)
}

// checkMassChange holds an upload that would change a large part of the set.
func (j *Judge) checkMassChange(u *Upload) {
	have := j.view.Stats().Names
	for _, after := range []int{have + u.added, max(0, have-u.removed)} {
		if f := guard.MassChange(have, after, guard.Bounds{}); f.Outcome != guard.Pass {
			u.hold(Refusal{Guard: f.Guard.String(), Why: "the set as a whole: " + f.Explain(nil)})
		}
	}
}
