package journal

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// RecordKind is the kind of a record.
type RecordKind string

// The kinds of records.
const (
	RecordChanges  RecordKind = "changes"  // the body is an author's sealed change set
	RecordSnapshot RecordKind = "snapshot" // the whole state, as an object; the body is the sealed key ring
	RecordRing     RecordKind = "ring"     // the body is the next sealed key ring
	RecordSuspend  RecordKind = "suspend"  // ends enforcement on all nodes
	RecordResume   RecordKind = "resume"   // resumes enforcement
	RecordAdvance  RecordKind = "advance"  // extends a staged change set to all nodes
	RecordRenew    RecordKind = "renew"    // a new version without changes: listings started or expired
)

// MaxRecord is the largest size of a record in bytes.
const MaxRecord = 4 << 20

// Record is the first line of the bytes that control signs for one step of the journal. The body follows it.
type Record struct {
	Epoch       uint64     `json:"epoch"`    // of the journal; a new one begins with a snapshot
	Version     uint64     `json:"version"`  // of the state after the record; rises by one, except at the start of an epoch
	Previous    string     `json:"previous"` // SHA-256 of the previous record, in hexadecimal
	Time        int64      `json:"time"`     // Unix milliseconds
	Kind        RecordKind `json:"kind"`
	By          string     `json:"by,omitempty"`       // who requested it from control
	Approved    []string   `json:"approved,omitempty"` // who approved it
	Refused     []int      `json:"refused,omitempty"`  // indices of the changes that do not apply, from 0, ascending
	ChangeSetID string     `json:"set,omitempty"`      // of an advance
	Reason      string     `json:"reason,omitempty"`   // of a suspension
	Snapshot    *Snapshot  `json:"snapshot,omitempty"`
}

// Snapshot announces the whole state as an object.
type Snapshot struct {
	Object    Object          `json:"object"`
	Overlay   *Object         `json:"overlay,omitempty"` // changes that were applied while the snapshot was written
	Count     int             `json:"names"`             // number of names
	Same      bool            `json:"same,omitempty"`    // the state does not change: a follower that has the version before need not fetch the object
	Suspended bool            `json:"suspended,omitempty"`
	Scoped    []Scoped        `json:"scoped,omitempty"`
	Changes   *LargeChangeSet `json:"changes,omitempty"`
}

// Suffixes of the names of objects in the object store, after the hash of their content.
const (
	SnapshotSuffix  = ".snapshot"
	OverlaySuffix   = ".overlay"
	ChangeSetSuffix = ".set" // of a large change set
)

// Names returns the names of the snapshot's objects in the object store.
func (s *Snapshot) Names() []string {
	names := []string{s.Object.SHA256 + SnapshotSuffix}
	if s.Overlay != nil {
		names = append(names, s.Overlay.SHA256+OverlaySuffix)
	}
	return names
}

// Object identifies an object in the object store by its content.
type Object struct {
	SHA256 string `json:"sha256"` // hexadecimal
	Size   int64  `json:"size"`
}

// Scoped is a change that is in effect on some nodes only. No snapshot object holds it.
type Scoped struct {
	ChangeSetID string  `json:"set"` // of the change's change set
	Share       float64 `json:"share,omitempty"`
	Change      Change  `json:"change"`
}

// LargeChangeSet is a change set that is too large for a record. The bytes that its author signed are an object.
type LargeChangeSet struct {
	ChangeSet  ChangeSet           `json:"set"`
	Count      int                 `json:"count"`
	Object     Object              `json:"object"`
	Digest     []byte              `json:"digest"` // SHA-512 of the signed bytes
	Signatures []signing.Signature `json:"signatures"`
	Refused    []int               `json:"refused,omitempty"` // indices of the changes that do not apply, from 0, ascending; at most MaxRefused
}

// MaxRefused is the largest number of refused changes of a large change set.
const MaxRefused = 50_000

// Errors of the record chain.
var (
	ErrGap      = errors.New("a record is missing")
	ErrFork     = errors.New("the journal has another history: was control restored from an older backup?")
	ErrRollback = errors.New("older than the state in force")
	ErrLost     = stream.ErrLost // stream.ErrLost, for packages that do not import stream
)

// MaxScoped bounds the number of scoped changes, because every snapshot record holds them.
const MaxScoped = 5000

// Seal returns the record with its body, signed with control's key.
func (r *Record) Seal(key *signing.SecretKey, body []byte) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return nil, err
	}
	b.Write(body)
	data := signing.Seal(signing.KindRecord, b.Bytes(), key)
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("a record of %d bytes exceeds the limit of %d bytes", len(data), MaxRecord)
	}
	return data, nil
}

// ReadRecord returns a record and its body without checking the signature.
func ReadRecord(data []byte) (*Record, []byte, error) {
	s, err := unsealRecord(data)
	if err != nil {
		return nil, nil, err
	}
	return splitRecord(s)
}

func unsealRecord(data []byte) (*signing.Sealed, error) {
	if len(data) > MaxRecord {
		return nil, fmt.Errorf("record: %w: more than %d bytes", signing.ErrSeal, MaxRecord)
	}
	s, err := signing.Unseal(signing.KindRecord, data)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return s, nil
}

func splitRecord(s *signing.Sealed) (*Record, []byte, error) {
	first, body, ok := bytes.Cut(s.Payload, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("record: %w: the first line is missing", signing.ErrSeal)
	}
	var r Record
	if !isBounded(first) {
		return nil, nil, fmt.Errorf("record: %w: a list in it has more than %d elements", signing.ErrSeal, MaxRefused)
	}
	if err := json.Unmarshal(first, &r); err != nil { // unknown fields are ignored, unknown kinds are not
		return nil, nil, fmt.Errorf("record: %w", err)
	}
	return &r, body, nil
}

// isBounded reports whether the arrays and objects in a JSON text have no more elements, and are nested no deeper, than those of a valid record. Three bytes of
// an array can take hundreds of bytes of memory once parsed, and a record is parsed before its signature is checked, because it holds the ring and the time for
// that check.
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

// HashOf returns the hash of a record, to which the next record is bound.
func HashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// checked is a record with a valid signature and a valid place in the chain.
type checked struct {
	Record
	hash      string
	key       signing.ParsedKey // that signed the record
	changeSet *ChangeSet
	changes   []Change            // the changes that apply
	ring      *signing.ParsedRing // of a snapshot or a ring record
}

// check verifies a record after this state: signatures, roles, order and times. It does not verify the record's effect, and changes nothing.
func (st *State) check(data []byte, trust []signing.PublicKey) (*checked, error) {
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
		ring = c.ring // a snapshot is checked by its own ring, because it may be the first record that an edge sees
	}
	if ring == nil {
		return fail(fmt.Errorf("%w: there is no key ring before it", signing.ErrSeal))
	}
	c.key, err = ring.SoleSigner(s, r.Time/1000, signing.RoleControl)
	if err != nil && r.Kind == RecordRing { // the new ring may give the role to the key that signed: the previous key may be lost or replaced
		c.key, err = c.ring.SoleSigner(s, r.Time/1000, signing.RoleControl)
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
		err = fmt.Errorf("unknown kind %.40q: this program is too old for this journal: install a newer one", r.Kind)
	}
	if err != nil {
		return fail(err)
	}
	return c, nil
}

// ringFor returns the key ring that a record brings, checked by the ring in force, or by the trusted root keys if there is none. It returns nil for records
// without a ring.
func (st *State) ringFor(r *Record, body []byte, trust []signing.PublicKey) (*signing.ParsedRing, error) {
	if r.Kind != RecordRing && r.Kind != RecordSnapshot {
		return nil, nil
	}
	if st.ring != nil && bytes.Equal(st.ring.Sealed, body) {
		return st.ring, nil
	}
	roots := trust
	if st.ring != nil {
		roots = append(roots[:len(roots):len(roots)], st.ring.RootKeys...)
	}
	ring, err := signing.ParseRing(body, roots)
	if err != nil {
		return nil, err
	}
	if st.ring != nil && ring.Serial <= st.ring.Serial {
		return nil, fmt.Errorf("key ring %d: %w: ring %d is in force", ring.Serial, ErrRollback, st.ring.Serial)
	}
	return ring, nil
}

// checkOrder checks version, epoch, time and previous hash.
func (st *State) checkOrder(r *Record) error {
	switch {
	case r.Epoch == 0 || r.Version == 0 || r.Time <= 0:
		return fmt.Errorf("%w: it has no epoch, version or time", signing.ErrSeal)
	case st.Version == 0 && r.Kind == RecordSnapshot:
		return nil // every snapshot is accepted as the first record
	case r.Epoch < st.Epoch || r.Version <= st.Version:
		return fmt.Errorf("%w: version %d of epoch %d is in force", ErrRollback, st.Version, st.Epoch)
	case r.Epoch > st.Epoch && r.Kind != RecordSnapshot:
		return fmt.Errorf("%w: epoch %d does not begin with this record", ErrGap, r.Epoch)
	case r.Epoch > st.Epoch:
		return nil // at any time, because an epoch may begin when control's clock was ahead
	case r.Time < st.Time: // control's clock is never set back within an epoch; a revoked key could sign with an earlier time
		return fmt.Errorf("%w: its time is %[3]d, before %[2]d (Unix milliseconds)", ErrRollback, st.Time, r.Time)
	case r.Version > st.Version+1:
		return fmt.Errorf("%w: version %d is in force", ErrGap, st.Version)
	case r.Previous != st.Hash:
		return ErrFork
	}
	return nil
}

func (c *checked) decodeChanges(ring *signing.ParsedRing, body []byte) error {
	s, err := signing.Unseal(signing.KindChanges, body)
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

// DecodeChanges returns the change set of a record of changes, and its changes that apply. It checks no signature.
func DecodeChanges(r *Record, body []byte) (*ChangeSet, []Change, error) {
	s, err := signing.Unseal(signing.KindChanges, body)
	if err != nil {
		return nil, nil, err
	}
	set, all, err := Decode(s.Payload)
	if err != nil {
		return nil, nil, err
	}
	applied, err := withoutRefused(all, r.Refused)
	return set, applied, err
}

// withoutRefused returns the changes except those at the refused indices, which ascend from 0.
func withoutRefused(all []Change, refused []int) (left []Change, err error) {
	for i, c := range all {
		if len(refused) > 0 && refused[0] == i {
			refused = refused[1:]
			continue
		}
		left = append(left, c)
	}
	if len(refused) > 0 {
		return nil, fmt.Errorf("%w: it refuses changes that do not exist", ErrChanges)
	}
	return left, nil
}

// checkSigners checks the signatures of a change set. count is the number of changes that apply. changes are nil if they are too many to be read here.
func checkSigners(ring *signing.ParsedRing, kind signing.Kind, digest []byte, signatures []signing.Signature, changes []Change, count int, at int64) error {
	feeds := len(ring.Signers(kind, digest, signatures, at, signing.RoleFeeds)) > 0
	authors := ring.Signers(kind, digest, signatures, at, signing.RoleAuthor)
	lists := len(changes) > 0 && changes[0].Source != ""
	for _, c := range changes {
		if (c.Source != "") != lists || c.Source == Operator {
			return fmt.Errorf("%w: changes of lists and of operators must not be mixed", ErrChanges)
		}
	}
	if lists {
		if !feeds {
			return fmt.Errorf("%s: %w: no key that has the role %s at that time signed it", kind, signing.ErrSeal, signing.RoleFeeds)
		}
		return nil
	}
	if len(authors) == 0 {
		return fmt.Errorf("%s: %w: no key that has the role %s at that time signed it", kind, signing.ErrSeal, signing.RoleAuthor)
	}
	if t := ring.Threshold; t.Keys > 1 && count > t.Changes {
		all := ring.Signers(kind, digest, signatures, at, signing.RoleAuthor, signing.RoleApprover)
		if len(all) < t.Keys {
			return fmt.Errorf("%s: %w: more than %d changes require the signatures of %d keys, and %d signed", kind, signing.ErrSeal, t.Changes, t.Keys, len(all))
		}
	}
	return nil
}

func (c *checked) checkSnapshot(ring *signing.ParsedRing) error {
	s := c.Snapshot
	if s == nil || !s.Object.isValid() || s.Overlay != nil && !s.Overlay.isValid() || len(s.Scoped) > MaxScoped {
		return fmt.Errorf("%w: it names no valid snapshot", signing.ErrSeal)
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
	if len(l.Digest) != sha512.Size || len(l.Signatures) > signing.MaxSignatures || len(l.Refused) > MaxRefused {
		return fmt.Errorf("%w: the digest or the signatures of its change set are invalid", signing.ErrSeal)
	}
	if err := l.ChangeSet.CheckPublishable(c.Time / 1000); err != nil {
		return err
	}
	return checkSigners(ring, signing.KindChanges, l.Digest, l.Signatures, nil, l.Count, c.Time/1000)
}

func (o Object) isValid() bool {
	raw, err := hex.DecodeString(o.SHA256)
	return err == nil && len(raw) == sha256.Size && o.Size > 0
}
