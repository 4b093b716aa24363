package signing

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Role is a permission of a key.
type Role string

// The roles.
const (
	RoleControl  Role = "control"  // signs records and heartbeats
	RoleAuthor   Role = "author"   // signs change sets
	RoleApprover Role = "approver" // signs change sets of others, in addition to their author
	RoleFeeds    Role = "feeds"    // signs the changes of lists, under the lists' names
)

// Ring lists the keys and their roles. A root key signs it, and every edge knows a root key.
type Ring struct {
	Serial    uint64    `json:"serial"` // never lower than the previous ring's
	Roots     []string  `json:"roots"`  // keys that may sign the next ring
	Keys      []RingKey `json:"keys"`
	Threshold Threshold `json:"threshold,omitzero"`
}

// RingKey is a key with its roles and its validity.
type RingKey struct {
	Key   string `json:"key"` // in text form
	Roles []Role `json:"roles"`
	From  int64  `json:"from,omitempty"`  // Unix seconds; 0: no start
	Until int64  `json:"until,omitempty"` // Unix seconds at which validity ends; 0: no end
}

// Threshold requires signatures of at least Keys authors and approvers for a change set of more than Changes changes. Its zero value requires one author.
type Threshold struct {
	Changes int `json:"changes"`
	Keys    int `json:"keys"`
}

// MaxRing is the size of the largest sealed ring, in bytes.
const MaxRing = 1 << 20

// ParsedRing is a ring whose signature was checked, with parsed keys. It does not change.
type ParsedRing struct {
	Ring
	Sealed   []byte               // the ring as a root key signed it
	RootKeys []PublicKey          // the keys of Roots
	ByID     map[string]ParsedKey // by the ID of the key
}

// ParsedKey is a key of a ring with its roles.
type ParsedKey struct {
	RingKey
	public PublicKey
}

// OpenRing checks that one of roots signed a ring, and returns the ring.
func OpenRing(sealed []byte, roots []PublicKey) (*Ring, error) {
	r, err := ParseRing(sealed, roots)
	if err != nil {
		return nil, err
	}
	return &r.Ring, nil
}

// ParseRing is OpenRing for callers that check signatures by the ring.
func ParseRing(sealed []byte, roots []PublicKey) (*ParsedRing, error) {
	if len(sealed) > MaxRing {
		return nil, fmt.Errorf("key ring: %w: more than %d bytes", ErrSeal, MaxRing)
	}
	s, err := Unseal(KindRing, sealed)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	if !slices.ContainsFunc(roots, s.SignedBy) {
		return nil, fmt.Errorf("key ring: %w: no root key that is trusted here signed it", ErrSeal)
	}
	r := &ParsedRing{Sealed: slices.Clone(sealed), ByID: map[string]ParsedKey{}}
	if err := json.Unmarshal(s.Payload, &r.Ring); err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	for _, text := range r.Roots {
		k, err := ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("key ring: root: %w", err)
		}
		r.RootKeys = append(r.RootKeys, k)
	}
	if len(r.RootKeys) == 0 {
		return nil, fmt.Errorf("key ring: there is no root key in the ring, so nobody could change the ring")
	}
	seen := map[string]bool{}
	for _, rk := range r.Keys {
		k, err := ParsePublicKey(rk.Key)
		if err != nil {
			return nil, fmt.Errorf("key ring: %w", err)
		}
		if _, twice := r.ByID[k.ID()]; twice || seen[string(k.key)] { // with a second name, one key would pass as two signers
			return nil, fmt.Errorf("key ring: key %s is in the ring twice", k.ID())
		}
		seen[string(k.key)] = true
		r.ByID[k.ID()] = ParsedKey{rk, k}
	}
	return r, nil
}

// UncheckedRoots returns the root keys that a ring names. It checks no signature: use it only for a ring that was checked before it was stored.
func UncheckedRoots(sealed []byte) ([]PublicKey, error) {
	s, err := Unseal(KindRing, sealed)
	if err != nil {
		return nil, err
	}
	var r Ring
	if err := json.Unmarshal(s.Payload, &r); err != nil {
		return nil, err
	}
	var roots []PublicKey
	for _, text := range r.Roots {
		k, err := ParsePublicKey(text)
		if err != nil {
			return nil, err
		}
		roots = append(roots, k)
	}
	return roots, nil
}

// Seal signs the ring with root keys.
func (r *Ring) Seal(roots ...*SecretKey) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return Seal(KindRing, append(payload, '\n'), roots...), nil
}

// HasRole reports whether the key has the role at that time (Unix seconds).
func (k ParsedKey) HasRole(role Role, at int64) bool {
	return slices.Contains(k.Roles, role) && at >= k.From && (k.Until == 0 || at < k.Until)
}

// Signers returns the IDs of the keys that have one of the roles at that time (Unix seconds) and whose signature is valid.
func (r *ParsedRing) Signers(kind Kind, digest []byte, signatures []Signature, at int64, roles ...Role) (names []string) {
	for _, s := range signatures {
		k, ok := r.ByID[s.Key]
		allowed := slices.ContainsFunc(roles, func(role Role) bool { return k.HasRole(role, at) })
		if ok && allowed && signedBy(kind, digest, []Signature{s}, k.public) {
			names = append(names, s.Key)
		}
	}
	return names
}

// SoleSigner returns the key that signed s and has the role at that time (Unix seconds). There must be exactly one signature: records are chained by a hash of
// their bytes, and nobody who forwards a record may be able to add, remove or reorder signatures.
func (r *ParsedRing) SoleSigner(s *Sealed, at int64, role Role) (ParsedKey, error) {
	if len(s.Signatures) != 1 {
		return ParsedKey{}, fmt.Errorf("%s: %w: there are %d signatures instead of one", s.Kind, ErrSeal, len(s.Signatures))
	}
	names := r.Signers(s.Kind, s.Digest, s.Signatures, at, role)
	if len(names) == 0 {
		return ParsedKey{}, fmt.Errorf("%s: %w: no key that has the role %s at that time signed it", s.Kind, ErrSeal, role)
	}
	return r.ByID[names[0]], nil
}
