package journal

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"rempart/blocklist"
)

// State is where a follower stands in the journal, and what is in force there. It is not changed once made.
type State struct {
	Epoch     uint64
	Version   uint64
	Hash      string // of the record that made it
	Time      int64  // Unix milliseconds at which control made that
	Sequence  uint64 // of it in the stream, 0 where there is none
	Suspended bool
	Scoped    []Scoped // what counts for some nodes only
	ring      *keyRing
	view      *blocklist.View
}

// Node is what of a node decides which changes count for it.
type Node struct {
	ID       string
	Country  string
	Operator string
	Control  bool // nothing scoped counts: what snapshots are made of
}

// counts reports whether something scoped counts for the node. Which share of the nodes it belongs to is different from change set to
// change set.
func (n Node) counts(s Scoped) bool {
	if n.Control || !s.Change.For(n.Country, n.Operator) {
		return false
	}
	return s.Share == 0 || share(s.Set, n.ID) < s.Share
}

// share is where, from 0 to 1, a node stands among all for a change set.
func share(set, node string) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", set, node)
	x := h.Sum64() // its last octets change little: mix them
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// Effect is what a record did to a view.
type Effect struct {
	Record  Record
	Set     *Set     // nil for none
	Changes []Change // those that count
	All     bool     // the whole view may have changed
	Applied []blocklist.Change
	Jumped  bool // over records that were not seen
}

// next is the state after a record, but for what a snapshot holds.
func (st *State) next(c *checked, sequence uint64, node Node) (*State, *Effect, error) {
	n := *st
	n.Epoch, n.Version, n.Hash, n.Time, n.Sequence = c.Epoch, c.Version, c.hash, c.Time, sequence
	effect := &Effect{Record: c.Record, Set: c.set, Changes: c.changes}
	var here []Change // what counts on this node
	set := c.set
	switch c.Kind {
	case RecordSuspend:
		n.Suspended = true
	case RecordResume:
		n.Suspended = false
	case RecordRing:
		n.ring = c.ring
	case RecordAdvance:
		set = &Set{}
		n.Scoped, here = advanced(st.Scoped, c.Record.Set, node)
	case RecordChanges:
		n.Scoped, here = scoped(current(st.Scoped, c.Time/1000), c.set, c.changes, node)
		if len(n.Scoped) > maxScoped {
			return nil, nil, fmt.Errorf("%w: more than %d changes would be in force on some nodes only", ErrChanges, maxScoped)
		}
	case RecordSnapshot: // what it holds is in force already, or comes when it was fetched
		n.ring = c.ring
	}
	var err error
	if len(here) > 0 {
		if effect.Applied, err = translate(st.view, set, here); err != nil {
			return nil, nil, err
		}
	}
	if n.view, err = st.view.With(n.info(), effect.Applied); err != nil {
		return nil, nil, err
	}
	n.view = n.view.Suspend(n.Suspended)
	return &n, effect, nil
}

// scoped splits a change set into what counts for all nodes, or for this one, and what is to be remembered as scoped. What it says of a
// name for all replaces what was scoped there.
func scoped(before []Scoped, set *Set, changes []Change, node Node) (after []Scoped, here []Change) {
	after = slices.Clone(before)
	for _, c := range changes {
		if c.Source != "" {
			here = append(here, c)
			continue
		}
		s := Scoped{Set: set.ID, Change: c}
		if set.Stage != nil {
			s.Share = set.Stage.Share
		}
		if set.Stage == nil && (c.Everywhere() || c.Do == Withdraw) {
			after = slices.DeleteFunc(after, func(o Scoped) bool { return overrides(c, o.Change) })
			here = append(here, c)
			continue
		}
		after = append(slices.DeleteFunc(after, func(o Scoped) bool { return o.Share == 0 && s.renews(o) }), s)
		if node.counts(s) {
			here = append(here, c)
		}
	}
	return after, here
}

// overrides reports whether a change leaves nothing of an earlier one.
func overrides(c, earlier Change) bool {
	scope := func(c Change) string { return cmp.Or(c.Scope, blocklist.Subtree.String()) }
	return c.Name == earlier.Name && (c.Do == Withdraw && c.Scope == "" || scope(c) == scope(earlier))
}

// renews reports whether something scoped leaves nothing of an earlier one: it counts wherever that did.
func (s Scoped) renews(o Scoped) bool {
	return s.Share == 0 && overrides(s.Change, o.Change) && slices.Equal(s.Change.Countries, o.Change.Countries) && slices.Equal(s.Change.Operators, o.Change.Operators)
}

// current are those that are not over at that time (Unix seconds).
func current(all []Scoped, at int64) (left []Scoped) {
	for _, s := range all {
		if s.Change.Expiry == 0 || s.Change.Expiry > at {
			left = append(left, s)
		}
	}
	return left
}

// advanced takes a change set out of what is scoped by share: it counts for all, or for all there.
func advanced(before []Scoped, set string, node Node) (after []Scoped, here []Change) {
	for _, s := range before {
		switch {
		case s.Set != set || s.Share == 0:
			after = append(after, s)
		case s.Change.Everywhere() || s.Change.Do == Withdraw:
			here = append(here, s.Change)
			after = slices.DeleteFunc(after, func(o Scoped) bool { return overrides(s.Change, o.Change) }) // those before it
		default:
			s.Share = 0
			after = append(slices.DeleteFunc(after, func(o Scoped) bool { return o.Share == 0 && s.renews(o) }), s)
			if node.counts(s) {
				here = append(here, s.Change)
			}
		}
	}
	return after, here
}

// begin is the state that a snapshot announces, over a view of that snapshot.
func begin(c *checked, sequence uint64, view *blocklist.View, node Node) (*State, error) {
	st := &State{
		Epoch: c.Epoch, Version: c.Version, Hash: c.hash, Time: c.Time, Sequence: sequence,
		Suspended: c.Snapshot.Suspended, Scoped: c.Snapshot.Scoped, ring: c.ring, view: view,
	}
	return st.settle(node)
}

// settle is a state whose view is a snapshot's, with what is scoped to this node over it, numbered as the state is.
func (st *State) settle(node Node) (*State, error) {
	n := *st
	var here []Change
	for _, s := range n.Scoped {
		if node.counts(s) {
			here = append(here, s.Change)
		}
	}
	applied, err := translate(n.view, &Set{}, here)
	if err != nil {
		return nil, err
	}
	if n.view, err = n.view.With(n.info(), applied); err != nil {
		return nil, err
	}
	n.view = n.view.Suspend(n.Suspended)
	return &n, nil
}

// info is what its view says of itself.
func (st *State) info() blocklist.Info {
	return blocklist.Info{Version: st.Version, Created: time.UnixMilli(st.Time), Expiry: st.view.Info().Expiry}
}

// stateFile is a state as it is kept beside its snapshot.
type stateFile struct {
	Epoch, Version, Sequence uint64
	Hash                     string
	Time                     int64
	Suspended                bool
	Scoped                   []Scoped
	Ring                     []byte
	Snapshot                 *Snapshot // whose objects hold the view
}

func (st *State) encode(snapshot *Snapshot) ([]byte, error) {
	return json.Marshal(stateFile{
		Epoch: st.Epoch, Version: st.Version, Sequence: st.Sequence, Hash: st.Hash, Time: st.Time, Suspended: st.Suspended,
		Scoped: st.Scoped, Ring: st.ring.sealed, Snapshot: snapshot,
	})
}

// Signers are the keys that signed something and have one of the roles at that time (Unix seconds), by the key ring in force.
func (st *State) Signers(kind Kind, digest []byte, signatures []Signature, at int64, roles ...Role) []string {
	if st.ring == nil {
		return nil
	}
	return st.ring.signers(kind, digest, signatures, at, roles...)
}

// Threshold is what the key ring in force asks for under many changes.
func (st *State) Threshold() Threshold {
	if st.ring == nil {
		return Threshold{}
	}
	return st.ring.Threshold
}

// Roots are the keys that may sign orders and the next key ring.
func (st *State) Roots() []PublicKey {
	if st.ring == nil {
		return nil
	}
	return st.ring.roots
}

// Staged reports whether a node is in the share of nodes that a change set goes to first.
func Staged(set, node string, of float64) bool { return share(set, node) < of }
