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
	over    *Snapshot // its records of a name replace those of base; nil for none
	version uint64
	names   int // distinct
	hold    *hold
	twins   []int // by source of over: the number of the same source in base, -1 for none

	suspended bool
	revision  uint16
}

// hold represents the bytes of a snapshot; every view on the snapshot keeps it alive.
type hold struct{ of *Snapshot }

// NewView returns the view of a snapshot. release, which may be nil, is called some time after the last holder of the view, and of views made of it, released
// it: then the snapshot's bytes may be freed.
func NewView(s *Snapshot, release func()) *View {
	v := &View{base: s, version: s.info.Version, names: s.count, hold: &hold{s}}
	if release != nil {
		runtime.AddCleanup(v.hold, func(f func()) { f() }, release)
	}
	return v
}

// OpenView is Open and NewView in one: release, which may be nil, is called at once if data is refused.
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

// Snapshot returns the snapshot of the view. It must not be used after the view was released.
func (v *View) Snapshot() *Snapshot { return v.base }

// Info returns the description of the view: the overlay's, if there is one.
func (v *View) Info() Info {
	if v.over != nil {
		return v.over.info
	}
	return v.base.info
}

// Version returns the number of this state.
func (v *View) Version() uint64 { return v.version }

// Stamp returns a number that differs between any two views that a Set had within a process: version and revision.
func (v *View) Stamp() uint64 { return v.version<<16 | uint64(v.revision) }

// Suspend returns the same view with enforcement suspended or not. Its verdicts do not change: the caller decides about enforcement.
func (v *View) Suspend(yes bool) *View {
	n := *v
	n.suspended = yes
	return &n
}

// Suspended reports whether an operator suspended enforcement.
func (v *View) Suspended() bool { return v.suspended }

// Revise returns the same view as the next revision of its version, after a change that concerns this machine only.
func (v *View) Revise(after *View) *View {
	n := *v
	if n.revision = 0; after.version == n.version {
		n.revision = after.revision + 1
	}
	return &n
}

// holdsPass reports whether a name below the name with that hash passes.
func (v *View) holdsPass(hash uint64) bool {
	if v.over == nil && len(v.base.above) == 0 { // most sets contain no name that passes
		return false
	}
	if _, ok := slices.BinarySearch(v.base.above, hash); ok || v.over == nil {
		return ok
	}
	_, ok := slices.BinarySearch(v.over.above, hash)
	return ok
}

// sameSource reports whether a source of the overlay, or of the snapshot, is the source with the other number in the other one.
func (v *View) sameSource(source uint16, over bool, other uint16) bool {
	if !over {
		source, other = other, source
	}
	return v.twins[source] == int(other)
}

// Entry is the entry that decided a verdict, for people to read.
type Entry struct {
	Name      string // text form; of an address, the prefix
	Scope     Scope
	Category  Category
	Mark      Mark
	Since     int64 // Unix seconds of the first source's day; 0: unknown
	Start     int64 // Unix seconds, 0: always
	Expiry    int64 // Unix seconds, 0: never
	ID        string
	Decision  Decision
	HasQuorum bool // enough of its sources agree
	Sources   []string
}

// Explain returns the entry that decided a verdict of this view on name; false for a pass.
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

// Entries returns the number of distinct claims in the view.
func (v *View) Entries() int {
	if v.over == nil {
		return v.base.factCount()
	}
	return v.base.factCount() + v.over.factCount()
}

// EntryNumber returns the number of the claim that decided a verdict of the view. It is at least 0 and below Entries.
func (v *View) EntryNumber(verdict Verdict) int {
	if verdict.over {
		return v.base.factCount() + int(verdict.fact)
	}
	return int(verdict.fact)
}

// Claims returns all claims of the view about a canonical name itself, in force or not.
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

// lookup finds the facts of a key and the snapshot that contains them: if the overlay contains the key, only its facts apply.
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

// entry returns a fact in words.
func (t *tables) entry(f fact) Entry {
	e := Entry{
		Scope: f.Scope, Category: f.Category, Mark: f.Mark, Since: f.since.unix(), Start: f.Start, Expiry: f.Expiry,
		ID: f.ID, Decision: f.Decision, HasQuorum: !f.muted,
	}
	for _, src := range t.sources(f.set) {
		e.Sources = append(e.Sources, t.sourceList[src].Name)
	}
	return e
}

// Set is the present set of malicious names: readers load one pointer, one writer replaces it.
type Set struct {
	view atomic.Pointer[View]
}

// NewSet returns a set whose state is v.
func NewSet(v *View) *Set {
	s := &Set{}
	s.view.Store(v)
	return s
}

// View returns the set's present state. Load it once per batch.
func (s *Set) View() *View { return s.view.Load() }

// Replace puts v in force. It has one caller at a time. A version that is not higher is refused, except for the next revision of the same version.
func (s *Set) Replace(v *View) error {
	if have := s.View(); have != nil && v.Stamp() <= have.Stamp() {
		return fmt.Errorf("version %d of the set does not follow version %d, which is in force", v.Version(), have.Version())
	}
	s.view.Store(v)
	return nil
}

// Stats are the statistics of a view.
type Stats struct {
	Names   int // distinct
	Overlay int // entries that differ from the snapshot's
	Bytes   int // of the snapshot
	Version uint64
	Created time.Time
}

// Stats returns the statistics of the view.
func (v *View) Stats() Stats {
	st := Stats{Names: v.names, Bytes: v.base.size, Version: v.version, Created: v.base.info.Created}
	if v.over != nil {
		st.Overlay = v.over.records
		st.Created = v.over.info.Created
	}
	return st
}
