package journal

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Role is what a key may sign.
type Role string

// The roles.
const (
	RoleControl  Role = "control"  // records and heartbeats
	RoleAuthor   Role = "author"   // change sets
	RoleApprover Role = "approver" // change sets of others, beside their author
	RoleFeeds    Role = "feeds"    // what lists say, under their names
)

// Ring says which keys may do what. A root key signs it; every edge knows a root.
type Ring struct {
	Serial    uint64    `json:"serial"` // never lower than that of the ring before
	Roots     []string  `json:"roots"`  // who may sign the next one
	Keys      []RingKey `json:"keys"`
	Threshold Threshold `json:"threshold,omitzero"`
}

// RingKey is a key and what it may do, and when.
type RingKey struct {
	Key   string `json:"key"` // in text form
	Roles []Role `json:"roles"`
	From  int64  `json:"from,omitempty"`  // Unix seconds; 0 is always
	Until int64  `json:"until,omitempty"` // from then on no more; 0 is never
}

// Threshold asks for the signatures of that many authors and approvers under more changes than that. Its zero value asks for none.
type Threshold struct {
	Changes int `json:"changes"`
	Keys    int `json:"keys"`
}

const maxRing = 1 << 20

// keyRing is a ring ready to check with.
type keyRing struct {
	Ring
	sealed []byte
	roots  []PublicKey
	keys   map[string]parsedKey // by ID
}

type parsedKey struct {
	RingKey
	public PublicKey
}

// OpenRing checks that a ring is signed by one of roots and sound.
func OpenRing(sealed []byte, roots []PublicKey) (*Ring, error) {
	r, err := openRing(sealed, roots)
	if err != nil {
		return nil, err
	}
	return &r.Ring, nil
}

func openRing(sealed []byte, roots []PublicKey) (*keyRing, error) {
	if len(sealed) > maxRing {
		return nil, fmt.Errorf("key ring: %w: of more than %d octets", ErrSeal, maxRing)
	}
	s, err := Unseal(KindRing, sealed)
	if err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	if !slices.ContainsFunc(roots, s.SignedBy) {
		return nil, fmt.Errorf("key ring: %w: no root key that is trusted here signed it", ErrSeal)
	}
	r := &keyRing{sealed: slices.Clone(sealed), keys: map[string]parsedKey{}}
	if err := json.Unmarshal(s.Payload, &r.Ring); err != nil {
		return nil, fmt.Errorf("key ring: %w", err)
	}
	for _, text := range r.Roots {
		k, err := ParsePublicKey(text)
		if err != nil {
			return nil, fmt.Errorf("key ring: root: %w", err)
		}
		r.roots = append(r.roots, k)
	}
	if len(r.roots) == 0 {
		return nil, fmt.Errorf("key ring: it names no root: nobody could ever change it")
	}
	seen := map[string]bool{}
	for _, rk := range r.Keys {
		k, err := ParsePublicKey(rk.Key)
		if err != nil {
			return nil, fmt.Errorf("key ring: %w", err)
		}
		if _, twice := r.keys[k.ID()]; twice || seen[string(k.key)] { // under another name it would sign as two, each by the other's signature
			return nil, fmt.Errorf("key ring: key %s is in it twice", k.ID())
		}
		seen[string(k.key)] = true
		r.keys[k.ID()] = parsedKey{rk, k}
	}
	return r, nil
}

// Seal signs the ring.
func (r *Ring) Seal(roots ...*SecretKey) ([]byte, error) {
	payload, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return Seal(KindRing, append(payload, '\n'), roots...), nil
}

// may reports whether the key has the role at that time.
func (k parsedKey) hasRole(role Role, at int64) bool {
	return slices.Contains(k.Roles, role) && at >= k.From && (k.Until == 0 || at < k.Until)
}

// signers are the keys that have the role at that time and signed.
func (r *keyRing) signers(kind Kind, digest []byte, signatures []Signature, at int64, roles ...Role) (names []string) {
	for _, s := range signatures {
		k, ok := r.keys[s.Key]
		allowed := slices.ContainsFunc(roles, func(role Role) bool { return k.hasRole(role, at) })
		if ok && allowed && signedBy(kind, digest, []Signature{s}, k.public) {
			names = append(names, s.Key)
		}
	}
	return names
}

// signed is the key that signed it, which has that role at that time. Nobody else must have: records are chained by a hash of their octets, and whoever
// hands one on must not be able to add a signature that does not count, leave one out that does, or put two in another order.
func (r *keyRing) soleSigner(s *Sealed, at int64, role Role) (parsedKey, error) {
	if len(s.Signatures) != 1 {
		return parsedKey{}, fmt.Errorf("%s: %w: it has %d signatures instead of one", s.Kind, ErrSeal, len(s.Signatures))
	}
	names := r.signers(s.Kind, s.Digest, s.Signatures, at, role)
	if len(names) == 0 {
		return parsedKey{}, fmt.Errorf("%s: %w: no key signed it that has the role %s at that time", s.Kind, ErrSeal, role)
	}
	return r.keys[names[0]], nil
}
