package journal

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

// Kind says what sealed bytes are. It is signed along, so that a signature of one thing is none of another.
type Kind string

// The kinds.
const (
	KindRecord    Kind = "record"
	KindHeartbeat Kind = "heartbeat"
	KindChanges   Kind = "changes" // an author's change set
	KindRing      Kind = "ring"    // a root's, of which keys may do what
	KindOrder     Kind = "order"   // a root's, to control
	KindAudit     Kind = "audit"
)

const (
	sealBegin     = "rempart/1 "
	maxSignatures = 16
	maxKeyID      = maxKeyName + 1 + keyHashLen
)

// ErrSeal is what wraps the refusal of bytes that are not sealed, or not by whom they must be.
var ErrSeal = errors.New("not rightly sealed")

// Signature is one key's over sealed bytes: Ed25519ph (RFC 8032), so that a change set of a million names is signed and checked
// as it streams by.
type Signature struct {
	Key   string `json:"key"` // its ID
	Bytes []byte `json:"signature"`
}

// Sealed are bytes and who signed them, which nobody has checked yet.
type Sealed struct {
	Kind       Kind
	Signatures []Signature
	Payload    []byte // the exact octets that were signed
	Digest     []byte // their SHA-512
}

// Seal signs payload with each key. What it returns is text but for the payload: a line with the kind, a line a signature, an
// empty line, and the payload as it is.
func Seal(kind Kind, payload []byte, keys ...*SecretKey) []byte {
	digest := sha512.Sum512(payload)
	var signatures []Signature
	for _, k := range keys {
		signatures = append(signatures, k.Sign(kind, digest[:]))
	}
	return append(SealHead(kind, signatures), payload...)
}

// SealHead is what stands before a payload with those signatures.
func SealHead(kind Kind, signatures []Signature) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\n", sealBegin, kind)
	for _, s := range signatures {
		fmt.Fprintf(&b, "%s %s\n", s.Key, base64.StdEncoding.EncodeToString(s.Bytes))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// Unseal takes sealed bytes of a kind apart; the payload stays data's. It does not check signatures. Its error wraps ErrSeal.
func Unseal(kind Kind, data []byte) (*Sealed, error) {
	s := &Sealed{Kind: kind}
	rest, err := s.readHead(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if !bytes.HasPrefix(data, SealHead(kind, s.Signatures)) { // one way to write them: a hash of the whole must not change without a key
		return nil, fmt.Errorf("%w: its signatures are not written as they are here", ErrSeal)
	}
	s.Payload = rest
	digest := sha512.Sum512(rest)
	s.Digest = digest[:]
	return s, nil
}

// head reads what stands before the payload.
func (s *Sealed) readHead(data []byte) (rest []byte, err error) {
	rest, ok := bytes.CutPrefix(data, []byte(sealBegin+string(s.Kind)+"\n"))
	if !ok {
		return nil, fmt.Errorf("it does not begin as a sealed %s does", s.Kind)
	}
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, errors.New("it ends among its signatures")
		}
		rest = after
		if len(line) == 0 {
			return rest, nil
		}
		id, text, _ := bytes.Cut(line, []byte(" "))
		if len(id) > maxKeyID || len(text) != base64.StdEncoding.EncodedLen(ed25519.SignatureSize) {
			return nil, errors.New("one of its signatures is no signature")
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(string(text))
		if err != nil || len(signature) != ed25519.SignatureSize {
			return nil, errors.New("one of its signatures is no signature")
		}
		if len(s.Signatures) == maxSignatures {
			return nil, fmt.Errorf("it has more than %d signatures", maxSignatures)
		}
		if slices.ContainsFunc(s.Signatures, func(o Signature) bool { return o.Key == string(id) }) {
			return nil, fmt.Errorf("key %.60q signed twice", id)
		}
		s.Signatures = append(s.Signatures, Signature{string(id), signature})
	}
}

// SignedBy reports whether key signed.
func (s *Sealed) SignedBy(key PublicKey) bool {
	return signedBy(s.Kind, s.Digest, s.Signatures, key)
}

func signedBy(kind Kind, digest []byte, signatures []Signature, key PublicKey) bool {
	options := &ed25519.Options{Hash: crypto.SHA512, Context: sealBegin + string(kind)}
	return slices.ContainsFunc(signatures, func(sig Signature) bool {
		return sig.Key == key.ID() && len(digest) == sha512.Size && ed25519.VerifyWithOptions(key.key, digest, sig.Bytes, options) == nil
	})
}
