package journal

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"rempart/blocklist"
	"rempart/internal/setfile"
	"rempart/internal/signing"
)

// State is a follower's position in the journal and the views in force there. It is immutable.
type State struct {
	Epoch     uint64
	Version   uint64
	Hash      string // of the last record
	Time      int64  // of the last record, Unix milliseconds
	Sequence  uint64 // of the last record in the stream; 0 if the source has no sequences
	Suspended bool
	Scoped    []Scoped // changes that apply to some nodes only
	ring      *signing.ParsedRing
	base      *blocklist.View // applies to all nodes
	view      *blocklist.View // base with the scoped changes that apply to this node
}

// Node holds the properties of a node that decide which changes apply to it.
type Node struct {
	ID       string
	Country  string
	Operator string
	Control  bool // no scoped change applies, because snapshots are made from control's view
}

// applies reports whether a scoped change applies to the node. The nodes in a stage's share are different for each change set.
func (n Node) applies(s Scoped) bool {
	if n.Control || !s.Change.AppliesTo(n.Country, n.Operator) {
		return false
	}
	return s.Share == 0 || nodeShare(s.ChangeSetID, n.ID) < s.Share
}

// nodeShare returns a node's position, from 0 to 1, among all nodes for a change set.
func nodeShare(changeSetID, node string) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s", changeSetID, node)
	x := h.Sum64() // FNV hardly changes the high bits for the last bytes: mix them
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}

// Effect is the change that a record made to a view.
type Effect struct {
	Record     Record
	ChangeSet  *ChangeSet // nil for none
	Changes    []Change   // the changes that apply
	All        bool       // the whole view may have changed
	Applied    []blocklist.Change
	Jumped     bool // over records that were not seen
	Incomplete bool // an announced snapshot is not in force yet, so that the view lacks a part of its version
}

// next returns the state after a record, without the content of a snapshot.
func (st *State) next(c *checked, sequence uint64, node Node) (*State, *Effect, error) {
	n := *st
	n.Epoch, n.Version, n.Hash, n.Time, n.Sequence = c.Epoch, c.Version, c.hash, c.Time, sequence
	effect := &Effect{Record: c.Record, ChangeSet: c.changeSet, Changes: c.changes}
	var all []Change // changes that apply to all nodes
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
	case RecordSnapshot: // its content is in force already, or is put in force when it was fetched
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
	if n.base, err = st.base.With(n.ViewInfo(), applied); err != nil {
		return nil, nil, err
	}
	if effect.Applied, err = n.nodeChanges(st, applied, touchedNames(c, st.Scoped), node); err != nil {
		return nil, nil, err
	}
	n.view = n.base
	if slices.ContainsFunc(n.Scoped, node.applies) {
		if n.view, err = st.view.With(n.ViewInfo(), effect.Applied); err != nil {
			return nil, nil, err
		}
	}
	n.view = n.view.Suspend(n.Suspended)
	return &n, effect, nil
}

// rescope returns the scoped changes after a record, and the changes that the record applies to all nodes.
func (st *State) rescope(c *checked) (after []Scoped, all []Change, err error) {
	switch {
	case c.announcesChangeSet(): // the snapshot replaced scoped changes, and lists those that stay
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
	if len(list) > MaxScoped {
		err = fmt.Errorf("%w: more than %d changes would be in force on some nodes only: advance or withdraw others first", ErrChanges, MaxScoped)
	}
	return list, all, err
}

// announcesChangeSet reports whether the record is the snapshot of a large change set.
func (c *checked) announcesChangeSet() bool { return c.Snapshot != nil && c.Snapshot.Changes != nil }

// touchedNames returns the names whose operators' claims a record may change on a node: the names of its changes, of the scoped changes that expired, and of
// those that it advances.
func touchedNames(c *checked, before []Scoped) map[string]bool {
	names := map[string]bool{}
	for _, ch := range c.changes {
		if ch.Source == "" {
			names[ch.Name] = true
		}
	}
	for _, s := range before {
		if s.Expired(c.Time/1000) || s.ChangeSetID == c.Record.ChangeSetID || c.announcesChangeSet() {
			names[s.Change.Name] = true
		}
	}
	return names
}

// nodeChanges returns the changes from the view before to this state's view on a node: the changes that were applied to the base and, for each touched name
// with a scoped change on the node before or after, the base's claims with the scoped changes applied.
func (st *State) nodeChanges(before *State, applied []blocklist.Change, touched map[string]bool, node Node) (out []blocklist.Change, err error) {
	names := map[string]bool{} // in canonical form
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

// startFrom returns the state that a snapshot record announces, over a view of that snapshot.
func startFrom(c *checked, sequence uint64, view *blocklist.View, node Node) (*State, error) {
	st := &State{
		Epoch: c.Epoch, Version: c.Version, Hash: c.hash, Time: c.Time, Sequence: sequence,
		Suspended: c.Snapshot.Suspended, Scoped: c.Snapshot.Scoped, ring: c.ring, base: view,
	}
	return st.buildViews(node)
}

// buildViews returns the state with its views: its base gets the state's version, and the scoped changes of the node are applied to it.
func (st *State) buildViews(node Node) (n *State, err error) {
	numbered := *st
	n = &numbered
	if n.base, err = st.base.With(st.ViewInfo(), nil); err != nil {
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
		if n.view, err = n.base.With(n.ViewInfo(), applied); err != nil {
			return nil, err
		}
	}
	n.view = n.view.Suspend(n.Suspended)
	return n, nil
}

// ViewInfo returns the blocklist.Info of the state's views.
func (st *State) ViewInfo() blocklist.Info {
	return blocklist.Info{Version: st.Version, Created: time.UnixMilli(st.Time), Expiry: st.base.Info().Expiry}
}

// stateFile is the content of the file of a state.
type stateFile struct {
	Epoch, Version, Sequence uint64
	Hash                     string
	Time                     int64
	Suspended                bool
	Scoped                   []Scoped
	Ring                     []byte
	Snapshot                 *Snapshot // the objects that hold the view
}

func (st *State) encode(snapshot *Snapshot) ([]byte, error) {
	return json.Marshal(stateFile{
		Epoch: st.Epoch, Version: st.Version, Sequence: st.Sequence, Hash: st.Hash, Time: st.Time, Suspended: st.Suspended,
		Scoped: st.Scoped, Ring: st.ring.Sealed, Snapshot: snapshot,
	})
}

// Signers returns the IDs of the keys that signed and have one of the roles at that time (Unix seconds), by the key ring in force.
func (st *State) Signers(kind signing.Kind, digest []byte, signatures []signing.Signature, at int64, roles ...signing.Role) []string {
	if st.ring == nil {
		return nil
	}
	return st.ring.Signers(kind, digest, signatures, at, roles...)
}

// SoleSigner returns the only key that signed s and has the role at that time (Unix seconds), by the key ring in force. See signing.ParsedRing.SoleSigner.
func (st *State) SoleSigner(s *signing.Sealed, at int64, role signing.Role) (signing.ParsedKey, error) {
	if st.ring == nil {
		return signing.ParsedKey{}, fmt.Errorf("%s: %w: no key ring is known yet", s.Kind, signing.ErrSeal)
	}
	return st.ring.SoleSigner(s, at, role)
}

// Threshold returns the number of signatures that the key ring in force requires for many changes.
func (st *State) Threshold() signing.Threshold {
	if st.ring == nil {
		return signing.Threshold{}
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

// Roots returns the keys that may sign orders and the next key ring.
func (st *State) Roots() []signing.PublicKey {
	if st.ring == nil {
		return nil
	}
	return st.ring.RootKeys
}

// Verify checks the whole content of the state's snapshot against its checksum. It reads all of it.
func (st *State) Verify() error { return setfile.Verify(st.base) }

// maxScopedBytes bounds the encoded scoped changes, because every snapshot record holds them.
const maxScopedBytes = 1 << 20

// CheckAppend returns an error if a follower would refuse the record after this state, or if the record would make the scoped changes larger than maxScopedBytes.
func (st *State) CheckAppend(data []byte, trust []signing.PublicKey) error {
	c, err := st.check(data, trust)
	if err != nil || c.Kind != RecordChanges && c.Kind != RecordAdvance {
		return err
	}
	all, _, err := st.rescope(c)
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(all)
	if err == nil && len(encoded) > maxScopedBytes {
		err = fmt.Errorf("%w: more than %d bytes of changes would be in force on some nodes only: advance or withdraw others first", ErrChanges, maxScopedBytes)
	}
	return err
}

// InStage reports whether a node belongs to the share of the nodes to which a staged change set applies at first.
func InStage(changeSetID, node string, of float64) bool { return nodeShare(changeSetID, node) < of }
