package rpz

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/bits-and-blooms/bloom/v3"

	"rempart/blocklist"
)

// state is the zones at one version. It is immutable, and any number of transfers may read it.
type state struct {
	view  *blocklist.View
	at    int64 // the time as of which the view is read, Unix seconds: when its version was made
	zones []zoneState
}

// zoneState is the part of a state for one zone that does not follow from its view.
type zoneState struct {
	standIns  map[string]records // by name, wire format with the root
	addresses []record
	leftOut   int
	history   history
}

func (st *state) serial() uint32 { return serialOf(st.view.Version()) }

const (
	maxStandIns = 1 << 18 // of a zone
	maxDue      = 1 << 16 // names whose next change by time is stored
)

// builder makes states, each from the state before. Only one goroutine may use a builder.
type builder struct {
	zones []*zone
	due   dueNames
	tops  *bloom.BloomFilter // the names above a listed name; nil before the first state
}

func newBuilder(zones []*zone) *builder { return &builder{zones: zones} }

// next returns the state of a view as of that time. names are those about which the view may differ from the previous one; nil means any name. For a view that
// is not newer it returns before unchanged.
func (b *builder) next(ctx context.Context, before *state, view *blocklist.View, at int64, names [][]byte) (*state, error) {
	if before != nil && view.Version() <= before.view.Version() {
		return before, nil
	}
	if before != nil {
		at = max(at, before.at) // a clock that was set back does not bring expired listings back
	}
	if before != nil && names != nil && b.due.known(at) && before.view.Suspended() == view.Suspended() {
		if st := b.nearby(before, view, at, append(b.due.popped(at), names...)); st != nil {
			return st, nil
		}
	}
	return b.survey(ctx, before, view, at)
}

// nearby returns the next state from these names only. It is nil if records of other names may have changed too.
func (b *builder) nearby(before *state, view *blocklist.View, at int64, names [][]byte) *state {
	defer runtime.KeepAlive(view)
	st := &state{view: view, at: at, zones: make([]zoneState, len(b.zones))}
	seen := make(map[string]struct{}, len(names))
	deltas := make([]delta, len(b.zones))
	for i := range b.zones {
		st.zones[i] = before.zones[i]
		deltas[i] = delta{from: before.serial(), to: st.serial()}
	}
	for _, name := range names {
		if _, ok := seen[string(name)]; ok {
			continue
		}
		seen[string(name)] = struct{}{}
		if b.tops.Test(name) && (reachesBelow(before.view, name) || reachesBelow(view, name)) {
			return nil // other names may be listed below it now
		}
		due := blocklist.Forever
		was, is := look{before.view, before.at, nil}, look{view, at, &due}
		for i, z := range b.zones {
			from, to := z.records(was, name), z.records(is, name)
			if from == to {
				continue
			}
			if len(name) > 1 && (was.below(z, parent(name)) != passes || is.below(z, parent(name)) != passes) {
				return nil // stand-ins appear or disappear
			}
			from, gone := z.writable(name, from)
			to, left := z.writable(name, to)
			st.zones[i].leftOut += left - gone
			deltas[i].add(name, from, to)
		}
		b.due.add(name, due)
		b.listed(name)
	}
	for i := range deltas {
		st.zones[i].history = before.zones[i].history.after(&deltas[i])
	}
	return st
}

// reachesBelow reports whether a claim about the name reaches the names below it.
func reachesBelow(view *blocklist.View, name []byte) bool {
	for _, e := range view.Claims(name) {
		if e.Scope&blocklist.Below != 0 {
			return true
		}
	}
	return false
}

// listed adds the names above a name to tops.
func (b *builder) listed(name []byte) {
	for n := name; len(n) > 1; {
		n = parent(n)
		b.tops.Add(n)
	}
}

// survey returns the next state by walking all names of the view and of the previous one. If the records differ too much, the history starts again.
func (b *builder) survey(ctx context.Context, before *state, view *blocklist.View, at int64) (*state, error) {
	st := &state{view: view, at: at, zones: make([]zoneState, len(b.zones))}
	s := &surveyor{builder: b, before: before, st: st, deltas: make([]delta, len(b.zones))}
	for i := range b.zones {
		st.zones[i].standIns = map[string]records{}
		if before != nil {
			s.deltas[i] = delta{from: before.serial(), to: st.serial()}
		}
	}
	stats := view.Stats()
	b.tops = bloom.NewWithEstimates(uint(max(1<<16, stats.Names+stats.Names/2)), 0.01)
	b.due = dueNames{}

	prefixes, more, err := walk(view, func(name []byte) error {
		s.name(name)
		return ctx.Err()
	})
	if err == nil && before != nil {
		_, _, err = walk(before.view, func(name []byte) error {
			if len(view.Claims(name)) == 0 { // otherwise it was compared already
				s.name(name)
			}
			return ctx.Err()
		})
	}
	if err != nil {
		return nil, fmt.Errorf("make zones of version %d: %w", view.Version(), err)
	}
	due := blocklist.Forever
	for i, z := range b.zones {
		of := &st.zones[i]
		of.addresses = z.addresses(look{view, at, &due}, prefixes)
		of.leftOut += more
		if before != nil {
			d := &s.deltas[i]
			d.addMaps(before.zones[i].standIns, of.standIns)
			d.addLists(before.zones[i].addresses, of.addresses)
			of.history = before.zones[i].history.after(d)
		}
	}
	b.due.limit(due) // addresses are judged again with everything else
	runtime.KeepAlive(view)
	return st, nil
}

// surveyor is the state of one survey.
type surveyor struct {
	*builder
	before *state
	st     *state
	deltas []delta
}

func (s *surveyor) name(name []byte) {
	due := blocklist.Forever
	is := look{s.st.view, s.st.at, &due}
	for i, z := range s.zones {
		of := &s.st.zones[i]
		to := z.records(is, name)
		if to != (records{}) {
			z.standIns(is, name, func(n []byte, r records) {
				if _, ok := of.standIns[string(n)]; ok {
					return
				}
				r, left := z.writable(n, r)
				if len(of.standIns) == maxStandIns {
					left, r = left+r.count(), records{}
				}
				of.leftOut += left
				if r != (records{}) {
					of.standIns[string(n)] = r
				}
			})
		}
		to, left := z.writable(name, to)
		of.leftOut += left
		if s.before != nil {
			from, _ := z.writable(name, z.records(look{s.before.view, s.before.at, nil}, name))
			s.deltas[i].add(name, from, to)
		}
	}
	s.due.add(name, due)
	s.listed(name)
}

// dueNames are the names that change at a known time, the earliest first.
type dueNames struct {
	names   []dueName // a heap, the latest first
	horizon int64     // from then on there are more due names than are stored; 0 for never
}

type dueName struct {
	at   int64
	name string
}

func (d *dueNames) Len() int           { return len(d.names) }
func (d *dueNames) Less(i, j int) bool { return d.names[i].at > d.names[j].at }
func (d *dueNames) Swap(i, j int)      { d.names[i], d.names[j] = d.names[j], d.names[i] }
func (d *dueNames) Push(x any)         { d.names = append(d.names, x.(dueName)) }
func (d *dueNames) Pop() any {
	last := d.names[len(d.names)-1]
	d.names = d.names[:len(d.names)-1]
	return last
}

func (d *dueNames) add(name []byte, at int64) {
	if at == blocklist.Forever || d.horizon > 0 && at >= d.horizon {
		return
	}
	heap.Push(d, dueName{at, string(name)})
	if len(d.names) > maxDue {
		d.limit(heap.Pop(d).(dueName).at)
	}
}

// limit records that from at on, all names must be judged.
func (d *dueNames) limit(at int64) {
	if at != blocklist.Forever && (d.horizon == 0 || at < d.horizon) {
		d.horizon = at
	}
}

// known reports whether all names that are due by now are stored.
func (d *dueNames) known(now int64) bool { return d.horizon == 0 || now < d.horizon }

// next returns the time of the next change, Unix seconds; math.MaxInt64 for never.
func (d *dueNames) next() int64 {
	at := int64(math.MaxInt64)
	if d.horizon > 0 {
		at = d.horizon
	}
	for _, n := range d.names {
		at = min(at, n.at)
	}
	return at
}

// popped removes and returns the names that are due.
func (d *dueNames) popped(now int64) (names [][]byte) {
	kept := d.names[:0]
	for _, n := range d.names {
		if n.at <= now {
			names = append(names, []byte(n.name))
		} else {
			kept = append(kept, n)
		}
	}
	d.names = kept
	heap.Init(d)
	return names
}
