package journal

import (
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
	base      *blocklist.View // what counts for all nodes
	view      *blocklist.View // what counts here: what is scoped to this node stands over the base
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
func (n Node) applies(s Scoped) bool {
	if n.Control || !s.Change.AppliesTo(n.Country, n.Operator) {
		return false
	}
	return s.Share == 0 || nodeShare(s.ChangeSetID, n.ID) < s.Share
}

// share is where, from 0 to 1, a node stands among all for a change set.
func nodeShare(changeSetID, node string) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", changeSetID, node)
	x := h.Sum64() // its last octets change little: mix them
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// Effect is what a record did to a view.
type Effect struct {
	Record     Record
	ChangeSet  *ChangeSet // nil for none
	Changes    []Change   // those that count
	All        bool       // the whole view may have changed
	Applied    []blocklist.Change
	Jumped     bool // over records that were not seen
	Incomplete bool // a snapshot that was announced is not in force yet: the view is not all that its version stands for
}

// next is the state after a record, but for what a snapshot holds.
func (st *State) next(c *checked, sequence uint64, node Node) (*State, *Effect, error) {
	n := *st
	n.Epoch, n.Version, n.Hash, n.Time, n.Sequence = c.Epoch, c.Version, c.hash, c.Time, sequence
	effect := &Effect{Record: c.Record, ChangeSet: c.changeSet, Changes: c.changes}
	var all []Change // what counts for all nodes
	var err error
	if n.Scoped, all, err = st.rescope(c); err != nil {
		return nil, nil, err
	}
	switch c.Kind {
	case RecordSuspend:
		n.Suspended = true
	case RecordResume:
		n.Suspended = false
	case RecordRing:
		n.ring = c.ring
	case RecordSnapshot: // what it holds is in force already, or comes when it was fetched
		n.ring = c.ring
	}
	set := c.changeSet
	if set == nil {
		set = &ChangeSet{}
	}
	applied, err := translate(st.base, set, all)
	if err != nil {
		return nil, nil, err
	}
	if n.base, err = st.base.With(n.viewInfo(), applied); err != nil {
		return nil, nil, err
	}
	if effect.Applied, err = n.nodeChanges(st, applied, touchedNames(c, st.Scoped), node); err != nil {
		return nil, nil, err
	}
	n.view = n.base
	if slices.ContainsFunc(n.Scoped, node.applies) {
		if n.view, err = st.view.With(n.viewInfo(), effect.Applied); err != nil {
			return nil, nil, err
		}
	}
	n.view = n.view.Suspend(n.Suspended)
	return &n, effect, nil
}

// rescope returns the scoped changes after a record, and the changes that the record applies to all nodes.
func (st *State) rescope(c *checked) (after []Scoped, all []Change, err error) {
	switch {
	case c.announcesChangeSet(): // it replaced the scoped changes, and lists those that stay
		return c.Snapshot.Scoped, nil, nil
	case c.Kind == RecordSnapshot:
		return st.Scoped, nil, nil
	}
	list := scopedList(st.Scoped).expire(c.Time / 1000)
	switch c.Kind {
	case RecordAdvance:
		list, all = list.advance(c.Record.ChangeSetID)
	case RecordChanges:
		list, all = list.apply(c.changeSet, c.changes...)
	}
	if len(list) > maxScoped {
		err = fmt.Errorf("%w: more than %d changes would be in force on some nodes only: advance or withdraw others first", ErrChanges, maxScoped)
	}
	return list, all, err
}

// largeSet reports whether it is the snapshot of a large change set.
func (c *checked) announcesChangeSet() bool { return c.Snapshot != nil && c.Snapshot.Changes != nil }

// touches are the names of which a record may change what operators claim on a node: those of its changes, and of what was scoped before
// and is over, or goes on to all.
func touchedNames(c *checked, before []Scoped) map[string]bool {
	names := map[string]bool{}
	for _, ch := range c.changes {
		if ch.Source == "" {
			names[ch.Name] = true
		}
	}
	for _, s := range before {
		if s.expired(c.Time/1000) || s.ChangeSetID == c.Record.ChangeSetID || c.announcesChangeSet() {
			names[s.Change.Name] = true
		}
	}
	return names
}

// here is what leads from the view before to this state's, on a node: what was applied to the base and, of the touched names of which something is or was
// scoped to the node, what the base claims by now under what is scoped.
func (st *State) nodeChanges(before *State, applied []blocklist.Change, touched map[string]bool, node Node) (out []blocklist.Change, err error) {
	names := map[string]bool{} // canonical
	var scopedHere []Change
	for i, all := range [][]Scoped{before.Scoped, st.Scoped} {
		for _, s := range all {
			if !touched[s.Change.Name] || !node.applies(s) {
				continue
			}
			l, err := s.Change.Listing()
			if err != nil {
				return nil, err
			}
			names[string(l.Name)] = true
			if i > 0 {
				scopedHere = append(scopedHere, s.Change)
			}
		}
	}
	if len(names) == 0 {
		return applied, nil
	}
	for _, c := range applied {
		if c.Source.Name != Operator || !names[string(c.Listing.Name)] {
			out = append(out, c)
		}
	}
	for name := range names {
		for _, c := range operatorClaims(before.view, []byte(name)) {
			c.Withdraw = true
			out = append(out, c)
		}
		out = append(out, operatorClaims(st.base, []byte(name))...)
	}
	scoped, err := translate(st.base, &ChangeSet{}, scopedHere)
	return append(out, scoped...), err
}

// begin is the state that a snapshot announces, over a view of that snapshot.
func startFrom(c *checked, sequence uint64, view *blocklist.View, node Node) (*State, error) {
	st := &State{
		Epoch: c.Epoch, Version: c.Version, Hash: c.hash, Time: c.Time, Sequence: sequence,
		Suspended: c.Snapshot.Suspended, Scoped: c.Snapshot.Scoped, ring: c.ring, base: view,
	}
	return st.buildViews(node)
}

// settle is a state whose base is a snapshot's, numbered as the state is, with what is scoped to this node over it.
func (st *State) buildViews(node Node) (n *State, err error) {
	numbered := *st
	n = &numbered
	if n.base, err = st.base.With(st.viewInfo(), nil); err != nil {
		return nil, err
	}
	var here []Change
	for _, s := range n.Scoped {
		if node.applies(s) {
			here = append(here, s.Change)
		}
	}
	n.view = n.base
	if len(here) > 0 {
		applied, err := translate(n.base, &ChangeSet{}, here)
		if err != nil {
			return nil, err
		}
		if n.view, err = n.base.With(n.viewInfo(), applied); err != nil {
			return nil, err
		}
	}
	n.view = n.view.Suspend(n.Suspended)
	return n, nil
}

// info is what its views say of themselves.
func (st *State) viewInfo() blocklist.Info {
	return blocklist.Info{Version: st.Version, Created: time.UnixMilli(st.Time), Expiry: st.base.Info().Expiry}
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

// RingSerial returns the serial number of the key ring in force; 0 where there is none.
func (st *State) RingSerial() uint64 {
	if st.ring == nil {
		return 0
	}
	return st.ring.Serial
}

// Roots are the keys that may sign orders and the next key ring.
func (st *State) Roots() []PublicKey {
	if st.ring == nil {
		return nil
	}
	return st.ring.roots
}

// Staged reports whether a node is in the share of nodes that a change set goes to first.
func InStage(changeSetID, node string, of float64) bool { return nodeShare(changeSetID, node) < of }
