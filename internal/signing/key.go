package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	maxKeyName  = 40
	keyHashLen  = 8 // hexadecimal digits
	secretBegin = "rempart-secret-key "
)

// PublicKey is an Ed25519 key with a name. Its text form is "name+hash+key": the hash binds name and key together, so that a mistyped or mixed-up line is
// detected.
type PublicKey struct {
	name string
	key  ed25519.PublicKey
}

// SecretKey signs. Its holder can sign everything that the key's roles in the ring allow.
type SecretKey struct {
	PublicKey
	key ed25519.PrivateKey
}

// NewKey creates a key. The name consists of lower-case letters, digits, dots and hyphens.
func NewKey(name string) (*SecretKey, error) {
	if err := checkKeyName(name); err != nil {
		return nil, err
	}
	public, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("create a key: %w", err)
	}
	return &SecretKey{PublicKey{name, public}, secret}, nil
}

func checkKeyName(name string) error {
	if name == "" || len(name) > maxKeyName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return fmt.Errorf("%.60q is not a valid key name: use at most %[2]d lower-case letters, digits, dots and hyphens", name, maxKeyName)
	}
	return nil
}

// Name returns the name that people gave the key.
func (k PublicKey) Name() string { return k.name }

// ID returns the name and a hash of the key, by which signatures and rings identify the key.
func (k PublicKey) ID() string {
	sum := sha256.Sum256(append([]byte("rempart key "+k.name+"\n"), k.key...))
	return k.name + "+" + hex.EncodeToString(sum[:])[:keyHashLen]
}

func (k PublicKey) String() string { return k.ID() + "+" + base64.StdEncoding.EncodeToString(k.key) }

// ParsePublicKey parses the text form of a key.
func ParsePublicKey(text string) (PublicKey, error) {
	parts, err := parseKeyText(text)
	if err != nil {
		return PublicKey{}, err
	}
	k := PublicKey{parts.name, parts.key}
	if k.ID() != parts.id() {
		return PublicKey{}, fmt.Errorf("key %.60q: name and key do not belong together: copy the whole line again", parts.name)
	}
	return k, nil
}

// keyText holds the parts of a key's text form "name+hash+key".
type keyText struct {
	name, hash string
	key        []byte
}

func (t *keyText) id() string { return t.name + "+" + t.hash }

func parseKeyText(text string) (*keyText, error) {
	parts := strings.SplitN(strings.TrimSpace(text), "+", 3)
	if len(parts) != 3 {
		return nil, errors.New(`not a key: a key has the form "name+hash+key"`)
	}
	if err := checkKeyName(parts[0]); err != nil {
		return nil, err
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("key %.60q: the part after the hash is not 32 bytes in base64", parts[0])
	}
	return &keyText{parts[0], parts[1], raw}, nil
}

// Text returns the secret key as its file holds it.
func (k *SecretKey) Text() string {
	return secretBegin + k.ID() + "+" + base64.StdEncoding.EncodeToString(k.key.Seed()) + "\n"
}

// ParseSecretKey parses the text of a secret key's file. Its errors contain no part of the text.
func ParseSecretKey(text string) (*SecretKey, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), secretBegin)
	if !ok {
		return nil, errors.New(`not a secret key: such a file is one line that begins with "rempart-secret-key"`)
	}
	parts, err := parseKeyText(body)
	if err != nil {
		return nil, errors.New("not a complete secret key: restore the file from its copy")
	}
	secret := ed25519.NewKeyFromSeed(parts.key)
	k := &SecretKey{PublicKey{parts.name, secret.Public().(ed25519.PublicKey)}, secret}
	if k.ID() != parts.id() {
		return nil, errors.New("not a complete secret key: its name and hash do not belong to the key")
	}
	return k, nil
}

// Sign signs the SHA-512 digest of a payload.
func (k *SecretKey) Sign(kind Kind, digest []byte) Signature {
	signature, err := k.key.Sign(nil, digest, &ed25519.Options{Hash: crypto.SHA512, Context: SealBegin + string(kind)})
	if err != nil {
		panic(err) // only for a digest of another length
	}
	return Signature{k.ID(), signature}
}
