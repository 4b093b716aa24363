package journal

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// RecordKind says what a record does.
type RecordKind string

// The kinds of records.
const (
	RecordChanges  RecordKind = "changes"  // its body is an author's sealed change set
	RecordSnapshot RecordKind = "snapshot" // the whole state, as an object; its body is the sealed key ring
	RecordRing     RecordKind = "ring"     // its body is the next sealed key ring
	RecordSuspend  RecordKind = "suspend"  // nothing is enforced any more
	RecordResume   RecordKind = "resume"   // until here
	RecordAdvance  RecordKind = "advance"  // a staged change set goes on to all nodes
	RecordRenew    RecordKind = "renew"    // nothing but a new version: listings came into force, or ran out
)

// MaxRecord is how many octets a record has at most.
const MaxRecord = 4 << 20

// Record is what control says of one step of the journal: the first line of what it signs. The body follows.
type Record struct {
	Epoch       uint64     `json:"epoch"`    // of the journal; higher when one was begun anew
	Version     uint64     `json:"version"`  // of the state after it; one more than before, but at the begin of an epoch
	Previous    string     `json:"previous"` // SHA-256 of the record before, in hexadecimal
	Time        int64      `json:"time"`     // Unix milliseconds
	Kind        RecordKind `json:"kind"`
	By          string     `json:"by,omitempty"`       // who asked control for it
	Approved    []string   `json:"approved,omitempty"` // who else agreed
	Refused     []int      `json:"refused,omitempty"`  // which changes of the set do not count, from 0, in order
	ChangeSetID string     `json:"set,omitempty"`      // of an advance: the change set's ID
	Reason      string     `json:"reason,omitempty"`   // of a suspension
	Snapshot    *Snapshot  `json:"snapshot,omitempty"`
}

// Snapshot announces the whole state as an object.
type Snapshot struct {
	Object    Object          `json:"object"`
	Overlay   *Object         `json:"overlay,omitempty"` // what changed while it was written
	Count     int             `json:"names"`             // of names
	Same      bool            `json:"same,omitempty"`    // it is the state before: who has that needs it not
	Suspended bool            `json:"suspended,omitempty"`
	Scoped    []Scoped        `json:"scoped,omitempty"`
	Changes   *LargeChangeSet `json:"changes,omitempty"`
}

// Names are the objects' names in the object store.
func (s *Snapshot) Names() []string {
	names := []string{s.Object.SHA256 + snapshotSuffix}
	if s.Overlay != nil {
		names = append(names, s.Overlay.SHA256+overlaySuffix)
	}
	return names
}

// Object is one in the object store, named by its content.
type Object struct {
	SHA256 string `json:"sha256"` // hexadecimal
	Size   int64  `json:"size"`
}

// Scoped is a change in force on some nodes only, which no snapshot holds.
type Scoped struct {
	ChangeSetID string  `json:"set"` // the change set's ID
	Share       float64 `json:"share,omitempty"`
	Change      Change  `json:"change"`
}

// LargeSet is a change set too large for a record: what its author signed is an object of its own.
type LargeChangeSet struct {
	ChangeSet  ChangeSet   `json:"set"`
	Count      int         `json:"count"`
	Object     Object      `json:"object"`
	Digest     []byte      `json:"digest"` // SHA-512 of what was signed
	Signatures []Signature `json:"signatures"`
	Refused    []int       `json:"refused,omitempty"` // which changes of it do not count, from 0, in order; MaxRefused at most
}

// MaxRefused is how many changes of a large set may be refused one by one.
const MaxRefused = 50_000

// Errors of the chain.
var (
	ErrGap      = errors.New("a record is missing")
	ErrFork     = errors.New("the journal is another one: was control restored from an older backup?")
	ErrRollback = errors.New("an older state than the one in force")
)

// maxScoped bounds what is in force on some nodes only: every snapshot's announcement holds it.
const maxScoped = 5000

// seal is the record's octets.
func (r *Record) seal(key *SecretKey, body []byte) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	b.Write(body)
	data := Seal(KindRecord, b.Bytes(), key)
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("a record of %d octets is more than the %d that one may have", len(data), MaxRecord)
	}
	return data, nil
}

// ReadRecord takes a record apart without checking who signed it.
func ReadRecord(data []byte) (*Record, []byte, error) {
	s, err := unsealRecord(data)
	if err != nil {
		return nil, nil, err
	}
	return splitRecord(s)
}

func unsealRecord(data []byte) (*Sealed, error) {
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("record: %w: of more than %d octets", ErrSeal, MaxRecord)
	}
	s, err := Unseal(KindRecord, data)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return s, nil
}

func splitRecord(s *Sealed) (*Record, []byte, error) {
	first, body, ok := bytes.Cut(s.Payload, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("record: %w: it has no line", ErrSeal)
	}
	var r Record
	if !isBounded(first) {
		return nil, nil, fmt.Errorf("record: %w: it lists more than %d of something", ErrSeal, MaxRefused)
	}
	if err := json.Unmarshal(first, &r); err != nil { // fields of later versions are none of ours; kinds are
		return nil, nil, fmt.Errorf("record: %w", err)
	}
	return &r, body, nil
}

// bounded reports whether no array or object in JSON has more elements than the longest of a record's may have, nor stands deeper. Three octets of an array can
// become hundreds once parsed, and a record is parsed before anybody knows who signed it: its ring and time are in it.
func isBounded(text []byte) bool {
	var commas [16]int // by depth
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[', c == '{':
			if depth++; depth == len(commas) {
				return false
			}
			commas[depth] = 0
		case c == ']', c == '}':
			if depth--; depth < 0 {
				return false
			}
		case c == ',':
			if commas[depth]++; commas[depth] >= MaxRefused {
				return false
			}
		}
	}
	return true
}

// HashOf returns the hash of a record by which the next one is bound to it.
func HashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// checked is a record that is rightly signed and in its place.
type checked struct {
	Record
	hash      string
	key       parsedKey // that signed it
	changeSet *ChangeSet
	changes   []Change // those that count
	ring      *keyRing // of a snapshot or a ring
}

// check checks all there is to check of a record but its effect: signatures, roles, order, dates. It changes nothing.
func (st *State) check(data []byte, trust []PublicKey) (*checked, error) {
	s, err := unsealRecord(data)
	if err != nil {
		return nil, err
	}
	r, body, err := splitRecord(s)
	if err != nil {
		return nil, err
	}
	c := &checked{Record: *r, hash: HashOf(data)}
	fail := func(err error) (*checked, error) {
		return nil, fmt.Errorf("record of version %d: %w", r.Version, err)
	}
	if c.ring, err = st.ringFor(r, body, trust); err != nil {
		return fail(err)
	}
	ring := st.ring
	if r.Kind == RecordSnapshot {
		ring = c.ring // it stands for itself: the first one that an edge sees has nothing before it
	}
	if ring == nil {
		return fail(fmt.Errorf("%w: no key ring came before it", ErrSeal))
	}
	c.key, err = ring.soleSigner(s, r.Time/1000, RoleControl)
	if err != nil && r.Kind == RecordRing { // by a key that a root gave the role in it: the one before may be lost, or replaced
		c.key, err = c.ring.soleSigner(s, r.Time/1000, RoleControl)
	}
	if err == nil {
		err = st.heartbeat().checkKeyAfter(r.Version, r.Time, c.key)
	}
	if err != nil {
		return fail(err)
	}
	if err := st.checkOrder(r); err != nil {
		return fail(err)
	}
	switch r.Kind {
	case RecordChanges:
		err = c.decodeChanges(ring, body)
	case RecordSnapshot:
		err = c.checkSnapshot(ring)
	case RecordRing, RecordSuspend, RecordResume, RecordAdvance, RecordRenew:
	default:
		err = fmt.Errorf("its kind %.40q is not known here: this program is too old for this journal, replace it by a newer one", r.Kind)
	}
	if err != nil {
		return fail(err)
	}
	return c, nil
}

// ringFor is the key ring that a record brings, checked by the one there is; by trusted roots where there is none.
func (st *State) ringFor(r *Record, body []byte, trust []PublicKey) (*keyRing, error) {
	if r.Kind != RecordRing && r.Kind != RecordSnapshot {
		return nil, nil
	}
	if st.ring != nil && bytes.Equal(st.ring.sealed, body) {
		return st.ring, nil
	}
	roots := trust
	if st.ring != nil {
		roots = append(roots[:len(roots):len(roots)], st.ring.roots...)
	}
	ring, err := openRing(body, roots)
	if err != nil {
		return nil, err
	}
	if st.ring != nil && ring.Serial <= st.ring.Serial {
		return nil, fmt.Errorf("key ring %d: %w: ring %d is in force", ring.Serial, ErrRollback, st.ring.Serial)
	}
	return ring, nil
}

// inPlace checks version, epoch and hash.
func (st *State) checkOrder(r *Record) error {
	switch {
	case r.Epoch == 0 || r.Version == 0 || r.Time <= 0:
		return fmt.Errorf("%w: it has no epoch, version or time", ErrSeal)
	case st.Version == 0 && r.Kind == RecordSnapshot:
		return nil // any begin is good
	case r.Epoch < st.Epoch || r.Version <= st.Version:
		return fmt.Errorf("%w: version %d of epoch %d is", ErrRollback, st.Version, st.Epoch)
	case r.Epoch > st.Epoch && r.Kind != RecordSnapshot:
		return fmt.Errorf("%w: epoch %d does not begin with it", ErrGap, r.Epoch)
	case r.Epoch > st.Epoch:
		return nil // at any time: it may begin because control's clock was ahead
	case r.Time < st.Time: // control's clock never goes back; a key that is revoked by now would have it so
		return fmt.Errorf("%w: that is of %d, and the record of %d (Unix milliseconds)", ErrRollback, st.Time, r.Time)
	case r.Version > st.Version+1:
		return fmt.Errorf("%w: version %d is in force", ErrGap, st.Version)
	case r.Previous != st.Hash:
		return ErrFork
	}
	return nil
}

func (c *checked) decodeChanges(ring *keyRing, body []byte) error {
	s, err := Unseal(KindChanges, body)
	if err != nil {
		return err
	}
	set, all, err := Decode(s.Payload)
	if err != nil {
		return err
	}
	at := c.Time / 1000
	if err := set.CheckPublishable(at); err != nil {
		return err
	}
	if err := checkSigners(ring, s.Kind, s.Digest, s.Signatures, all, len(all)-len(c.Refused), at); err != nil {
		return err
	}
	c.changeSet = set
	c.changes, err = withoutRefused(all, c.Refused)
	return err
}

// withoutRefused returns the changes except those at the refused places, which are in order and begin at 0.
func withoutRefused(all []Change, refused []int) (left []Change, err error) {
	for i, c := range all {
		if len(refused) > 0 && refused[0] == i {
			refused = refused[1:]
			continue
		}
		left = append(left, c)
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%w: it refuses changes that are not there", ErrChanges)
	}
	return left, nil
}

// allowed checks who signed a change set of so many changes that count. changes are nil where they are too many to be read here.
func checkSigners(ring *keyRing, kind Kind, digest []byte, signatures []Signature, changes []Change, count int, at int64) error {
	feeds := len(ring.signers(kind, digest, signatures, at, RoleFeeds)) > 0
	authors := ring.signers(kind, digest, signatures, at, RoleAuthor)
	lists := len(changes) > 0 && changes[0].Source != ""
	for _, c := range changes {
		if (c.Source != "") != lists || c.Source == Operator {
			return fmt.Errorf("%w: what lists say and what operators do must not be mixed", ErrChanges)
		}
	}
	if lists {
		if !feeds {
			return fmt.Errorf("%s: %w: no key signed it that has the role %s at that time", kind, ErrSeal, RoleFeeds)
		}
		return nil
	}
	if len(authors) == 0 {
		return fmt.Errorf("%s: %w: no key signed it that has the role %s at that time", kind, ErrSeal, RoleAuthor)
	}
	if t := ring.Threshold; t.Keys > 1 && count > t.Changes {
		all := ring.signers(kind, digest, signatures, at, RoleAuthor, RoleApprover)
		if len(all) < t.Keys {
			return fmt.Errorf("%s: %w: more than %d changes ask for the signatures of %d keys, and %d signed", kind, ErrSeal, t.Changes, t.Keys, len(all))
		}
	}
	return nil
}

func (c *checked) checkSnapshot(ring *keyRing) error {
	s := c.Snapshot
	if s == nil || !s.Object.isValid() || s.Overlay != nil && !s.Overlay.isValid() || len(s.Scoped) > maxScoped {
		return fmt.Errorf("%w: it does not say of which snapshot it is", ErrSeal)
	}
	for _, sc := range s.Scoped {
		if _, err := sc.Change.Listing(); err != nil {
			return fmt.Errorf("%w: %w", ErrChanges, err)
		}
	}
	l := s.Changes
	if l == nil {
		return nil
	}
	if len(l.Digest) != sha512.Size || len(l.Signatures) > maxSignatures || len(l.Refused) > MaxRefused {
		return fmt.Errorf("%w: its change set's digest is none", ErrSeal)
	}
	if err := l.ChangeSet.CheckPublishable(c.Time / 1000); err != nil {
		return err
	}
	return checkSigners(ring, KindChanges, l.Digest, l.Signatures, nil, l.Count, c.Time/1000)
}

func (o Object) isValid() bool {
	raw, err := hex.DecodeString(o.SHA256)
	return err == nil && len(raw) == sha256.Size && o.Size > 0
}
