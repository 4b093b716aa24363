package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"rempart/blocklist"
)

// PublishLists publishes what differs between what lists say now, a view, and what the journal holds of them: as a change set that key signs, or as a
// snapshot where that is much. What the journal holds of sources that keep does not want stays as it is, and so does what operators did. One goroutine calls it. What it returns is zero where
// nothing differs.
func (c *Control) PublishLists(ctx context.Context, view *blocklist.View, keep func(source string) bool, key *SecretKey) (Receipt, error) {
	keep = notOperator(keep)
	if err := c.state.Wait(ctx, c.State().Version); err != nil { // the last snapshot may be on its way
		return Receipt{}, err
	}
	st := c.State()
	before, after := st.view.Input().Only(keep), view.Input().Only(keep)
	set := &ChangeSet{ID: fmt.Sprintf("lists-%d-%d", time.Now().UnixNano(), view.Version()), Time: time.Now().Unix()}
	if sameSources(before.Sources(), after.Sources()) {
		changes, fits, err := diffForRecord(before, after, set)
		if err != nil || fits && len(changes) == 0 {
			return Receipt{}, err
		}
		if fits {
			payload, err := Encode(set, changes)
			if err != nil {
				return Receipt{}, err
			}
			if len(payload) <= MaxChangeSet {
				return c.Publish(ctx, Draft{Kind: RecordChanges, By: "lists", Body: Seal(KindChanges, payload, key)})
			}
		}
	}
	return c.PublishSnapshot(ctx, SnapshotDraft{By: "lists", Compile: func(w io.Writer, st *State) error {
		return blocklist.Compile(w, st.viewInfo(), after, st.view.Input().Only(func(source string) bool { return !keep(source) }))
	}})
}

func notOperator(keep func(string) bool) func(string) bool {
	return func(source string) bool { return source != Operator && (keep == nil || keep(source)) }
}

// sameSources reports whether sources that both have weigh the same, so that differences alone lead from one to the other.
func sameSources(before, after []blocklist.Source) bool {
	for _, a := range after {
		i := slices.IndexFunc(before, func(b blocklist.Source) bool { return b.Name == a.Name })
		if i >= 0 && (before[i].Weight != a.Weight || before[i].Quorum != a.Quorum) {
			return false
		}
	}
	return true
}

var errTooManyChanges = errors.New("many")

// differences are the changes from one to the other, if they fit a record, with their sources noted in set.
func diffForRecord(before, after *blocklist.Input, set *ChangeSet) (changes []Change, fits bool, err error) {
	failed := error(nil)
	err = blocklist.Diff(before, after, func(c blocklist.Change) bool {
		if len(changes) == MaxChanges {
			failed = errTooManyChanges
			return false
		}
		change := FromListing(c)
		if _, err := change.Listing(); err != nil { // its text says something else: nothing but a snapshot can carry it
			failed = errTooManyChanges
			return false
		}
		if !slices.ContainsFunc(set.Sources, func(l ListSource) bool { return l.Name == c.Source.Name }) {
			l := ListSource{Name: c.Source.Name, Weight: c.Source.Weight, Quorum: c.Source.Quorum}
			if !c.Source.Fetched.IsZero() {
				l.Fetched = c.Source.Fetched.Unix()
			}
			set.Sources = append(set.Sources, l)
		}
		changes = append(changes, change)
		return true
	})
	if failed != nil || len(set.Sources) > maxSources {
		return nil, false, nil
	}
	return changes, err == nil, err
}
