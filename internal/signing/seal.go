package signing

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// Kind is the type of sealed bytes. It is signed with them, so that a signature is valid for one kind only.
type Kind string

// The kinds.
const (
	KindRecord    Kind = "record"
	KindHeartbeat Kind = "heartbeat"
	KindChanges   Kind = "changes" // an author's change set
	KindRing      Kind = "ring"    // the roles of keys, signed by a root key
	KindOrder     Kind = "order"   // an order to control, signed by a root key
	KindAudit     Kind = "audit"
	KindAppeal    Kind = "appeal" // a step of an appeal, signed by control
)

const (
	SealBegin     = "rempart/1 " // begins the first line of sealed bytes; the kind follows
	MaxSignatures = 16           // of one Sealed
	maxKeyID      = maxKeyName + 1 + keyHashLen
)

// ErrSeal is wrapped by the error for bytes whose seal is malformed, or not made by an authorized key.
var ErrSeal = errors.New("invalid seal")

// Signature is one key's signature of sealed bytes. The algorithm is Ed25519ph (RFC 8032), so that a change set of a million names can be signed and checked as
// a stream.
type Signature struct {
	Key   string `json:"key"` // the key's ID
	Bytes []byte `json:"signature"`
}

// Sealed holds the parts of sealed bytes. The signatures are not checked yet.
type Sealed struct {
	Kind       Kind
	Signatures []Signature
	Payload    []byte // the exact bytes that were signed
	Digest     []byte // SHA-512 of Payload
}

// Seal signs payload with each key. It returns a line with the kind, one line per signature, an empty line, and the payload unchanged.
func Seal(kind Kind, payload []byte, keys ...*SecretKey) []byte {
	digest := sha512.Sum512(payload)
	var signatures []Signature
	for _, k := range keys {
		signatures = append(signatures, k.Sign(kind, digest[:]))
	}
	return append(SealHead(kind, signatures), payload...)
}

// SealHead returns the bytes before a payload with these signatures.
func SealHead(kind Kind, signatures []Signature) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n", SealBegin, kind)
	for _, s := range signatures {
		fmt.Fprintf(&b, "%s %s\n", s.Key, base64.StdEncoding.EncodeToString(s.Bytes))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Unseal splits sealed bytes of a kind into signatures and payload. Payload is a part of data, not a copy. Signatures are not checked. An error wraps ErrSeal.
func Unseal(kind Kind, data []byte) (*Sealed, error) {
	s := &Sealed{Kind: kind}
	rest, err := s.readHead(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if !bytes.HasPrefix(data, SealHead(kind, s.Signatures)) { // only one encoding is accepted, so that the hash of the whole cannot be changed without a key
		return nil, fmt.Errorf("%w: the signatures are not in canonical form", ErrSeal)
	}
	s.Payload = rest
	digest := sha512.Sum512(rest)
	s.Digest = digest[:]
	return s, nil
}

// readHead reads the signatures, and returns the payload.
func (s *Sealed) readHead(data []byte) (rest []byte, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(SealBegin+string(s.Kind)+"\n"))
	if !ok {
		return nil, fmt.Errorf("the first line is not that of a signed %s", s.Kind)
	}
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, errors.New("the bytes end before the end of the signatures")
		}
		rest = after
		if len(line) == 0 {
			return rest, nil
		}
		id, text, _ := bytes.Cut(line, []byte(" "))
		if len(id) > maxKeyID || len(text) != base64.StdEncoding.EncodedLen(ed25519.SignatureSize) {
			return nil, errors.New("a signature is malformed")
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(string(text))
		if err != nil || len(signature) != ed25519.SignatureSize {
			return nil, errors.New("a signature is malformed")
		}
		if len(s.Signatures) == MaxSignatures {
			return nil, fmt.Errorf("there are more than %d signatures", MaxSignatures)
		}
		if slices.ContainsFunc(s.Signatures, func(o Signature) bool { return o.Key == string(id) }) {
			return nil, fmt.Errorf("key %.60q signed twice", id)
		}
		s.Signatures = append(s.Signatures, Signature{string(id), signature})
	}
}

// SignedBy reports whether key signed s.
func (s *Sealed) SignedBy(key PublicKey) bool {
	return signedBy(s.Kind, s.Digest, s.Signatures, key)
}

func signedBy(kind Kind, digest []byte, signatures []Signature, key PublicKey) bool {
	options := &ed25519.Options{Hash: crypto.SHA512, Context: SealBegin + string(kind)}
	return slices.ContainsFunc(signatures, func(sig Signature) bool {
		return sig.Key == key.ID() && len(digest) == sha512.Size && ed25519.VerifyWithOptions(key.key, digest, sig.Bytes, options) == nil
	})
}
