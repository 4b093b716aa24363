package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// PublishLists publishes the differences between the lists in a view and the lists in the journal: as a change set that key signs, or as a snapshot if the
// differences are too large. Sources for which keep returns false, and operators' changes, stay as they are in the journal. It must not be called concurrently.
// The receipt is zero if there is no difference.
func (c *Control) PublishLists(ctx context.Context, view *blocklist.View, keep func(source string) bool, key *signing.SecretKey) (Receipt, error) {
	keep = notOperator(keep)
	if err := c.state.Wait(ctx, c.State().Version); err != nil { // the last snapshot may still be on its way
		return Receipt{}, err
	}
	st := c.State()
	before, after := st.View().Input().Only(keep), view.Input().Only(keep)
	set := &journal.ChangeSet{ID: fmt.Sprintf("lists-%d-%d", time.Now().UnixNano(), view.Version()), Time: time.Now().Unix()}
	if sameSources(before.Sources(), after.Sources()) {
		changes, fits, err := diffForRecord(before, after, set)
		if err != nil || fits && len(changes) == 0 {
			return Receipt{}, err
		}
		if fits {
			payload, err := journal.Encode(set, changes)
			if err != nil {
				return Receipt{}, err
			}
			if len(payload) <= journal.MaxChangeSet {
				return c.Publish(ctx, Draft{Kind: journal.RecordChanges, By: "lists", Body: signing.Seal(signing.KindChanges, payload, key)})
			}
		}
	}
	return c.PublishSnapshot(ctx, SnapshotDraft{By: "lists", Compile: func(w io.Writer, st *journal.State) error {
		return blocklist.Compile(w, st.ViewInfo(), after, st.View().Input().Only(func(source string) bool { return !keep(source) }))
	}})
}

func notOperator(keep func(string) bool) func(string) bool {
	return func(source string) bool { return source != journal.Operator && (keep == nil || keep(source)) }
}

// sameSources reports whether the sources that both sides have also have the same weight and quorum, so that changes of listings suffice.
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

// diffForRecord returns the changes from before to after, and adds their sources to set. fits is false if they do not fit into a record.
func diffForRecord(before, after *blocklist.Input, set *journal.ChangeSet) (changes []journal.Change, fits bool, err error) {
	failed := error(nil)
	err = blocklist.Diff(before, after, func(c blocklist.Change) bool {
		if len(changes) == journal.MaxChanges {
			failed = errTooManyChanges
			return false
		}
		change := journal.FromListing(c)
		if _, err := change.Listing(); err != nil { // the text form would be another listing: only a snapshot can hold it
			failed = errTooManyChanges
			return false
		}
		if !slices.ContainsFunc(set.Sources, func(l journal.ListSource) bool { return l.Name == c.Source.Name }) {
			l := journal.ListSource{Name: c.Source.Name, Weight: c.Source.Weight, Quorum: c.Source.Quorum}
			if !c.Source.Fetched.IsZero() {
				l.Fetched = c.Source.Fetched.Unix()
			}
			set.Sources = append(set.Sources, l)
		}
		changes = append(changes, change)
		return true
	})
	if failed != nil || len(set.Sources) > journal.MaxSources {
		return nil, false, nil
	}
	return changes, err == nil, err
}
