package blocklist

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// View is a state of the set: a snapshot, and the difference since. It is immutable and safe for concurrent use.
type View struct {
	base    *Snapshot
	over    *Snapshot // what it holds of a name replaces what base holds; nil for nothing
	version uint64
	names   int // distinct
	hold    *hold
	twins   []int // by source of over: the same source's number in base, -1 for none

	suspended bool
	revision  uint16
}

// hold stands for the bytes of a snapshot; every view on it keeps it.
type hold struct{ of *Snapshot }

// NewView returns the view of a snapshot. release, which may be nil, is run some time after the last
// holder of the view, or of one made of it, let go: the snapshot's bytes may go then.
func NewView(s *Snapshot, release func()) *View {
	v := &View{base: s, version: s.info.Version, names: s.count, hold: &hold{s}}
	if release != nil {
		runtime.AddCleanup(v.hold, func(f func()) { f() }, release)
	}
	return v
}

// OpenView is Open and NewView in one: release, which may be nil, is run at once where data is refused.
func OpenView(data []byte, release func()) (*View, error) {
	s, err := Open(data)
	if err != nil {
		if release != nil {
			release()
		}
		return nil, err
	}
	return NewView(s, release), nil
}

// Snapshot is what the view was made of. It must not be used once the view was let go.
func (v *View) Snapshot() *Snapshot { return v.base }

// Info is what the view says of itself: the overlay's word, where there is one.
func (v *View) Info() Info {
	if v.over != nil {
		return v.over.info
	}
	return v.base.info
}

// Version is the number of this state.
func (v *View) Version() uint64 { return v.version }

// Stamp differs between any two views that a Set held within a process: version and revision.
func (v *View) Stamp() uint64 { return v.version<<16 | uint64(v.revision) }

// Suspend returns the same view, as one that is to be enforced or not. Its verdicts are the same: who asks decides.
func (v *View) Suspend(yes bool) *View {
	n := *v
	n.suspended = yes
	return &n
}

// Suspended reports whether an operator suspended enforcement.
func (v *View) Suspended() bool { return v.suspended }

// Revise returns the same view as the next of that version: what is of this machine alone changed.
func (v *View) Revise(after *View) *View {
	n := *v
	if n.revision = 0; after.version == n.version {
		n.revision = after.revision + 1
	}
	return &n
}

// holdsPass reports whether a name below the one of that hash passes.
func (v *View) holdsPass(hash uint64) bool {
	if v.over == nil && len(v.base.above) == 0 { // most sets hold no name that passes
		return false
	}
	if _, ok := slices.BinarySearch(v.base.above, hash); ok || v.over == nil {
		return ok
	}
	_, ok := slices.BinarySearch(v.over.above, hash)
	return ok
}

// sameSource reports whether a source, of the overlay or not, is the other kind's of that number.
func (v *View) sameSource(source uint16, over bool, other uint16) bool {
	if !over {
		source, other = other, source
	}
	return v.twins[source] == int(other)
}

// Entry is what decided a verdict, for people to read.
type Entry struct {
	Name     string // text form; of an address, the prefix
	Scope    Scope
	Category Category
	Mark     Mark
	Since    int64 // Unix seconds, to the day: the first source's; 0 for unknown
	Start    int64 // Unix seconds, 0 for always
	Expiry   int64 // Unix seconds, 0 for never
	ID       string
	Decision Decision
	Counts   bool // whether enough of its sources agree
	Sources  []string
}

// Explain returns the entry that decided a verdict that this view gave of name; false for a pass.
func (v *View) Explain(name []byte, verdict Verdict) (Entry, bool) {
	if verdict.Action == Pass {
		return Entry{}, false
	}
	s := v.base
	if verdict.over {
		s = v.over
	}
	f, _ := s.fact(verdict.fact)
	e := s.entry(f)
	if len(name) > 0 {
		e.Name = NameText(name[verdict.At:])
	}
	runtime.KeepAlive(v)
	return e, true
}

// Entries is how many distinct claims the view holds, and EntryNumber which of them, from 0, decided a verdict it gave.
func (v *View) Entries() int {
	if v.over == nil {
		return v.base.factCount()
	}
	return v.base.factCount() + v.over.factCount()
}

func (v *View) EntryNumber(verdict Verdict) int {
	if verdict.over {
		return v.base.factCount() + int(verdict.fact)
	}
	return int(verdict.fact)
}

// Claims are all that the view holds of a canonical name itself, in force or not.
func (v *View) Claims(name []byte) []Entry {
	key := name[:len(name)-1]
	var entries []Entry
	s, ids := v.lookup(key)
	for _, id := range ids {
		f, ok := s.fact(id)
		if !ok || f.Decision == gone {
			continue
		}
		e := s.entry(f)
		e.Name = NameText(name)
		entries = append(entries, e)
	}
	runtime.KeepAlive(v)
	return entries
}

// lookup finds the facts of a key, and in which snapshot they stand: what the overlay holds is all there is.
func (v *View) lookup(key []byte) (*Snapshot, []uint32) {
	if v.over != nil {
		if ids := v.over.lookup(key); len(ids) > 0 {
			return v.over, ids
		}
	}
	return v.base, v.base.lookup(key)
}

// lookup finds the facts of a key.
func (s *Snapshot) lookup(key []byte) (ids []uint32) {
	if p, ok := prefixOf(key); ok {
		for i := s.search(p); i < len(s.prefixData)/prefixLen; i++ {
			q, id := s.prefix(i)
			if q != p {
				break
			}
			ids = append(ids, id)
		}
		return ids
	}
	hash := xxhash.Sum64(key)
	at, end := s.bucket(hash)
	at, end = s.narrow(at, end, hash, hash, key)
	for at < end {
		name, id, next := record(s.names, at)
		if next == 0 {
			break
		}
		if at = next; string(name) == string(key) {
			ids = append(ids, id)
		}
	}
	return ids
}

// entry tells a fact in words.
func (t *tables) entry(f fact) Entry {
	e := Entry{
		Scope: f.Scope, Category: f.Category, Mark: f.Mark, Since: f.since.unix(), Start: f.Start, Expiry: f.Expiry,
		ID: f.ID, Decision: f.Decision, Counts: !f.muted,
	}
	for _, src := range t.sources(f.set) {
		e.Sources = append(e.Sources, t.sourceList[src].Name)
	}
	return e
}

// Set is the set of malicious names as it is now: readers load one pointer, one writer replaces it.
type Set struct {
	view atomic.Pointer[View]
}

// NewSet returns a set whose state is v.
func NewSet(v *View) *Set {
	s := &Set{}
	s.view.Store(v)
	return s
}

// View is the set's state now. Load it once a batch.
func (s *Set) View() *View { return s.view.Load() }

// Replace puts v in force. It has one caller at a time; a version that is not higher is refused, but for the next revision of the same.
func (s *Set) Replace(v *View) error {
	if have := s.View(); have != nil && v.Stamp() <= have.Stamp() {
		return fmt.Errorf("version %d of the set does not follow version %d, which is in force", v.Version(), have.Version())
	}
	s.view.Store(v)
	return nil
}

// Stats is what a view holds.
type Stats struct {
	Names   int // distinct
	Overlay int // entries that differ from the snapshot's
	Bytes   int // of the snapshot
	Version uint64
	Created time.Time
}

// Stats tells it.
func (v *View) Stats() Stats {
	st := Stats{Names: v.names, Bytes: v.base.size, Version: v.version, Created: v.base.info.Created}
	if v.over != nil {
		st.Overlay = v.over.records
		st.Created = v.over.info.Created
	}
	return st
}
