package journal

import (
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// history is a sequence of records that can be published on a fleet with or without one of its change sets.
type history []act

// act is one record of a history.
type act struct {
	set     string // ID of the change set, or of the one that is advanced
	share   float64
	changes []Change // nil: an advance
}

// play publishes the history without the change set of an ID, or all of it for "".
func (h history) play(t rapid.TB, without string) *fleet {
	f := newFleet(t)
	for _, a := range h {
		switch {
		case a.set == without:
			f.publish(t, checked{Record: Record{Kind: RecordRenew}})
		case a.changes == nil:
			f.advance(t, a.set)
		default:
			f.pushAs(t, a.set, a.share, a.changes...)
		}
	}
	return f
}

// undo returns the changes that undo a change set, as control finds them in the journal.
func (h history) undo(id string) *UndoPlan {
	var u *Undoer
	record := func(i int) *Record {
		return &Record{Epoch: 1, Version: uint64(i + 1), Time: 1_000_000_000, ChangeSetID: h[i].set}
	}
	for i, a := range h {
		if a.set == id && a.changes != nil {
			u = NewUndoer(id, record(i))
			for _, c := range a.changes {
				u.AddName(c.Name)
			}
		}
	}
	for i, a := range h {
		if a.changes == nil {
			u.ApplyAdvance(record(i))
		}
		set := &ChangeSet{ID: a.set}
		if a.share > 0 {
			set.Stage = &Stage{Share: a.share, Seconds: 60}
		}
		for _, c := range a.changes {
			u.ApplyChange(record(i), set, c)
		}
	}
	return u.Plan(1_000_000)
}

// drawHistory draws a history. Names of a change set that is still staged are not used in later sets, because an undo cannot stage a change again.
func drawHistory(t *rapid.T) (h history, sets []string) {
	staged := map[string][]Change{}
	busy := func(name string) bool {
		for _, changes := range staged {
			if slices.ContainsFunc(changes, func(c Change) bool { return c.Name == name }) {
				return true
			}
		}
		return false
	}
	for i := range rapid.IntRange(1, 12).Draw(t, "records") {
		var open []string
		for id := range staged {
			open = append(open, id)
		}
		slices.Sort(open)
		if len(open) > 0 && rapid.IntRange(0, 2).Draw(t, "act") == 0 {
			id := rapid.SampledFrom(open).Draw(t, "advanced")
			h = append(h, act{set: id})
			delete(staged, id)
			continue
		}
		a := act{set: fmt.Sprint("set", i), share: rapid.SampledFrom([]float64{0, 0, 0.5}).Draw(t, "share")}
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			c := drawAct(t, 1_000_000)
			if !busy(c.Name) {
				a.changes = append(a.changes, c)
			}
		}
		if len(a.changes) == 0 {
			continue
		}
		if a.share > 0 {
			staged[a.set] = a.changes
		}
		h, sets = append(h, a), append(sets, a.set)
	}
	return h, sets
}

// TestUndoIsAsIfNeverPushed checks with random histories that, after the undo of a change set, every node has the claims that it would have without the change
// set, except for names that were changed later.
func TestUndoIsAsIfNeverPushed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, sets := drawHistory(t)
		if len(sets) == 0 {
			return
		}
		id := rapid.SampledFrom(sets).Draw(t, "undone")
		undoing := h.undo(id)
		f := h.play(t, "")
		changes := slices.Collect(undoing.Changes)
		if len(changes) > 0 {
			f.pushAs(t, "undo-"+id, 0, changes...)
		}
		f.check(t)
		never := h.play(t, id)
		for i, n := range f.nodes {
			for _, name := range modelNames {
				if slices.Contains(undoing.Skipped, name) {
					continue
				}
				if diff := gocmp.Diff(claims(t, never.states[i], name), claims(t, f.states[i], name), undated); diff != "" {
					t.Fatalf("%s of node %q after the undo of %s (-never pushed +undone):\n%s\nhistory: %+v\nundo: %+v", name, n.ID, id, diff, h, changes)
				}
			}
		}
	})
}
