package journal

import (
	"context"
	"fmt"
	"iter"
	"time"

	"rempart/internal/journal/stream"
)

// UndoPlan holds the changes that undo a change set.
type UndoPlan struct {
	Changes      iter.Seq[Change]
	Skipped      []string // names that later change sets changed again, which stay as they are; at most maxSkipped
	SkippedCount int      // number of these names
}

const maxSkipped = 1000

// Undo returns the changes that undo the change set of an ID: each of its names is withdrawn, and the operators' claims about the name before the change set
// are made again. Names that were changed later are skipped. Undo reads the whole journal twice, and holds the names of the change set in memory. The error
// wraps stream.ErrNone if no change set has that ID.
func (c *Control) Undo(ctx context.Context, id string) (*UndoPlan, error) {
	var u *undoer
	err := c.Each(ctx, func(r *Record, body []byte) error {
		if changeSetOf(r, body, id) == nil {
			return nil
		}
		u = newUndoer(id, r) // the last one, if a new epoch published the change set again
		for e, err := range c.changesOf(ctx, r, body, nil) {
			if err != nil {
				return err
			}
			u.addName(e)
		}
		return nil
	})
	if err == nil && u == nil {
		err = fmt.Errorf("change set %.100q: %w", id, stream.ErrNone)
	}
	if err != nil {
		return nil, err
	}
	err = c.Each(ctx, func(r *Record, body []byte) error {
		if r.Kind == RecordAdvance {
			u.applyAdvance(r)
		}
		for e, err := range c.changesOf(ctx, r, body, nil) {
			if err != nil {
				return err
			}
			u.applyChange(e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return u.result(time.Now().Unix()), nil
}

// undoer tracks the operators' claims about the names of one change set through the journal.
type undoer struct {
	id     string
	record *Record // that published the change set
	names  map[string]*undoneName
	staged map[string][]*undoneName // by the ID of a staged change set that was not advanced yet: the names that it changes
}

// undoneName is a name of the change set that is to be undone.
type undoneName struct {
	current nameClaims
	before  nameClaims // claims before the change set
	reached bool       // the change set's record was read
	later   bool       // the name was changed after the change set
}

func newUndoer(id string, r *Record) *undoer {
	return &undoer{id: id, record: r, names: map[string]*undoneName{}, staged: map[string][]*undoneName{}}
}

// addName adds the name of a change of the change set.
func (u *undoer) addName(e HistoryEntry) {
	if e.Applied {
		u.names[e.Change.Name] = &undoneName{}
	}
}

// applyChange applies a change of any record. It must be called in the order of the journal.
func (u *undoer) applyChange(e HistoryEntry) {
	n := u.names[e.Change.Name]
	if n == nil || !e.Applied || e.Change.Source != "" {
		return
	}
	own := e.Record.Version == u.record.Version && e.Record.Epoch == u.record.Epoch
	switch {
	case own && !n.reached:
		n.before, n.reached = n.current, true
	case own:
	case e.ChangeSet.ID == u.id: // the same change set in an earlier epoch
		return
	case n.reached:
		n.later = true
		return
	}
	n.current.expire(e.Record.Time / 1000)
	n.current.apply(e.ChangeSet, e.Change)
	if e.ChangeSet.Stage != nil {
		u.staged[e.ChangeSet.ID] = append(u.staged[e.ChangeSet.ID], n)
	}
}

// applyAdvance applies the record that extends a staged change set to all nodes.
func (u *undoer) applyAdvance(r *Record) {
	for _, n := range u.staged[r.ChangeSetID] {
		n.current.expire(r.Time / 1000)
		if n.reached && r.ChangeSetID != u.id && n.current.scoped.isStaged(r.ChangeSetID) {
			n.later = true
		}
		n.current.advance(r.ChangeSetID)
	}
	delete(u.staged, r.ChangeSetID)
}

// result returns the changes that undo the change set. Changes that expired by that time (Unix seconds) are not made again. The undoer must not be used
// afterwards.
func (u *undoer) result(at int64) *UndoPlan {
	result := &UndoPlan{}
	for name, n := range u.names {
		if !n.later {
			continue
		}
		if result.SkippedCount++; len(result.Skipped) < maxSkipped {
			result.Skipped = append(result.Skipped, name)
		}
		delete(u.names, name)
	}
	result.Changes = func(yield func(Change) bool) {
		for name, n := range u.names {
			if !yield(Change{Do: Withdraw, Name: name}) || !n.before.restore(at, yield) {
				return
			}
		}
	}
	return result
}
