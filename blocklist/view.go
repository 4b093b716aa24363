package blocklist

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/internal/wire"
)

// Action is what a verdict asks for.
type Action uint8

const (
	Pass      Action = iota // nothing reaches the name
	Allowed                 // the operator's allow does
	BlockedBy               // a block does
	Actions                 // how many there are
)

func (a Action) String() string { return [...]string{"pass", "allow", "block"}[a] }

// Forever is a Verdict's Until when nothing will change it.
const Forever int64 = math.MaxInt64

// Verdict is what a view says of a name: plain numbers, meaningful with the view that gave it.
type Verdict struct {
	Action    Action
	Scope     Scope
	Category  Category
	Mark      Mark
	HoldsPass bool   // the deciding subtree holds a name that passes: by an allow, or its source's exception
	At        uint8  // octet of the judged name at which the deciding entry's name begins
	fact      uint32 // the deciding record's
	Until     int64  // Unix seconds at which time alone may change it
}

// View is a state of the set: immutable, safe for concurrent use.
type View struct {
	snapshot *Snapshot
}

// NewView returns the view of a snapshot. release, which may be nil, is run some time after the last
// holder of the view let go of it: the snapshot's bytes may go then.
func NewView(s *Snapshot, release func()) *View {
	v := &View{s}
	if release != nil {
		runtime.AddCleanup(v, func(f func()) { f() }, release)
	}
	return v
}

// Snapshot is what the view was made of. It must not be used once the view was let go.
func (v *View) Snapshot() *Snapshot { return v.snapshot }

// Version is the number of this state.
func (v *View) Version() uint64 { return v.snapshot.info.Version }

// Match judges a canonical name at now (Unix seconds) under a policy that enforces those
// categories. It walks the name's suffixes from the longest: an allow that reaches the name wins
// at any length; among blocks the longest decides, at equal length an exact one.
// It allocates nothing.
func (v *View) Match(name []byte, enforced Categories, now int64) Verdict {
	s := v.snapshot
	m := matching{enforced: enforced, now: now, verdict: Verdict{Until: Forever}}
	rest := wire.Labels(name)
	for at := 0; rest > 0; at, rest = at+1+int(name[at]), rest-1 {
		if rest > s.depth {
			continue
		}
		suffix := name[at : len(name)-1]
		hash := xxhash.Sum64(suffix)
		locs := filterLocations(hash, s.lines)
		if !s.filter.TestLocations(locs[:]) {
			continue
		}
		if m.judge(s, hash, suffix, at) {
			break
		}
	}
	runtime.KeepAlive(v) // the snapshot's bytes are gone once nobody holds the view
	return m.verdict
}

// matching is one Match under way.
type matching struct {
	enforced Categories
	now      int64
	verdict  Verdict
	excepted [16]uint16 // distinct sources whose own exceptions reach the name; more are as good as none
	excepts  int
}

// judge weighs what the snapshot holds of suffix, which begins at octet at of the name. It
// reports whether the verdict is final.
func (m *matching) judge(s *Snapshot, hash uint64, suffix []byte, at int) (final bool) {
	need := Below
	if at == 0 {
		need = Exact
	}
	bucket := scale(hash, uint64(len(s.index)-1))
	end := int(s.index[bucket+1])
	for p := int(s.index[bucket]); p < end; {
		name, id, next := record(s.names, p)
		if next == 0 {
			break
		}
		p = next
		if string(name) != string(suffix) {
			continue
		}
		f := &s.facts[id]
		if f.Scope&need == 0 || !m.inForce(f) {
			continue
		}
		switch {
		case f.Decision == Allow:
			m.decide(Allowed, f, id, at)
			return true
		case f.Decision == Except:
			m.except(s.sets[f.set])
		case m.verdict.Action == Pass && m.enforced&(1<<f.Category) != 0 && !m.cancelled(s.sets[f.set]):
			m.decide(BlockedBy, f, id, at)
		}
	}
	return false
}

func (m *matching) decide(a Action, f *fact, id uint32, at int) {
	until := m.verdict.Until
	m.verdict = Verdict{a, f.Scope, f.Category, f.Mark, f.holdsPass, uint8(at), id, until}
}

// inForce reports whether a fact counts now, and notes when that changes.
func (m *matching) inForce(f *fact) bool {
	if f.Start > m.now {
		m.verdict.Until = min(m.verdict.Until, f.Start)
		return false
	}
	if f.Expiry == 0 {
		return true
	}
	if f.Expiry <= m.now {
		return false
	}
	m.verdict.Until = min(m.verdict.Until, f.Expiry)
	return true
}

func (m *matching) except(sources []uint16) {
	for _, s := range sources {
		if m.excepts < len(m.excepted) && !slices.Contains(m.excepted[:m.excepts], s) {
			m.excepted[m.excepts] = s
			m.excepts++
		}
	}
}

// cancelled reports whether every source of a block has an exception of its own for the name.
func (m *matching) cancelled(sources []uint16) bool {
	for _, s := range sources {
		if !slices.Contains(m.excepted[:m.excepts], s) {
			return false
		}
	}
	return true
}

// Entry is what decided a verdict, for people to read.
type Entry struct {
	Name     string // text form
	Scope    Scope
	Category Category
	Mark     Mark
	Start    int64 // Unix seconds, 0 for always
	Expiry   int64 // Unix seconds, 0 for never
	Sources  []string
}

// Explain returns the entry that decided a verdict that this view gave of name; false for a pass.
func (v *View) Explain(name []byte, verdict Verdict) (Entry, bool) {
	if verdict.Action == Pass {
		return Entry{}, false
	}
	s := v.snapshot
	f := s.facts[verdict.fact]
	e := Entry{
		Name: NameText(name[verdict.At:]), Scope: f.Scope, Category: f.Category, Mark: f.Mark,
		Start: f.Start, Expiry: f.Expiry,
	}
	for _, src := range s.sets[f.set] {
		e.Sources = append(e.Sources, s.sources[src].Name)
	}
	return e, true
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

// Replace puts v in force. It has one caller at a time; a version that is not higher is refused.
func (s *Set) Replace(v *View) error {
	if have := s.View(); have != nil && v.Version() <= have.Version() {
		return fmt.Errorf("version %d of the set does not follow version %d, which is in force", v.Version(), have.Version())
	}
	s.view.Store(v)
	return nil
}

// Stats is what a view holds.
type Stats struct {
	Names   int // distinct
	Bytes   int // of the snapshot
	Version uint64
	Created time.Time
}

// Stats tells it.
func (v *View) Stats() Stats {
	s := v.snapshot
	return Stats{s.count, s.size, s.info.Version, s.info.Created}
}
