package journal

import "iter"

// UndoPlan holds the changes that undo a change set.
type UndoPlan struct {
	Changes      iter.Seq[Change]
	Skipped      []string // names that later change sets changed again, which stay as they are; at most maxSkipped
	SkippedCount int      // number of these names
}

const maxSkipped = 1000

// Undoer finds the changes that undo one change set: it follows the operators' claims about the names of the change set through the journal. Its owner calls AddName
// for each name of the change set, then ApplyChange and ApplyAdvance for the records of the whole journal, in order, and then Plan. An
// Undoer must not be used concurrently.
type Undoer struct {
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

// NewUndoer returns an Undoer for the change set of an ID, which the record r published.
func NewUndoer(id string, r *Record) *Undoer {
	return &Undoer{id: id, record: r, names: map[string]*undoneName{}, staged: map[string][]*undoneName{}}
}

// AddName adds a name that the change set changes. Changes that a guard refused are not added.
func (u *Undoer) AddName(name string) { u.names[name] = &undoneName{} }

// ApplyChange applies a change of set, which r published. It must not be called for a change that a guard refused.
func (u *Undoer) ApplyChange(r *Record, set *ChangeSet, c Change) {
	n := u.names[c.Name]
	if n == nil || c.Source != "" {
		return
	}
	own := r.Version == u.record.Version && r.Epoch == u.record.Epoch
	switch {
	case own && !n.reached:
		n.before, n.reached = n.current, true
	case own:
	case set.ID == u.id: // the same change set in an earlier epoch
		return
	case n.reached:
		n.later = true
		return
	}
	n.current.expire(r.Time / 1000)
	n.current.apply(set, c)
	if set.Stage != nil {
		u.staged[set.ID] = append(u.staged[set.ID], n)
	}
}

// ApplyAdvance applies the record that extends a staged change set to all nodes.
func (u *Undoer) ApplyAdvance(r *Record) {
	for _, n := range u.staged[r.ChangeSetID] {
		n.current.expire(r.Time / 1000)
		if n.reached && r.ChangeSetID != u.id && n.current.scoped.isStaged(r.ChangeSetID) {
			n.later = true
		}
		n.current.advance(r.ChangeSetID)
	}
	delete(u.staged, r.ChangeSetID)
}

// Plan returns the changes that undo the change set. Changes that expired by that time (Unix seconds) are not made again. The Undoer must not be used
// afterwards.
func (u *Undoer) Plan(at int64) *UndoPlan {
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
