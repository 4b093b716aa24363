package grant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"net/netip"
	"time"

	"rempart/internal/fair"
	"rempart/internal/secret"
)

// Lifetime is the time in which a client can use a token.
const Lifetime = 2 * time.Minute

// encoding is base32 (RFC 4648 section 6) in lower case.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567")

// A token is the time at which it expires and a message authentication code, in base32.
const (
	expiryLen = 4  // Unix seconds
	macLen    = 11 // 88 bits of HMAC-SHA-256, which bind the expiry, the name and the client
	TokenLen  = 24 // bytes of a token: without padding, and without unused bits, so that each token has one text only
)

// purpose begins every message that is authenticated, so that no other use of the same secrets gives a valid token.
const purpose = "rempart continue\x00"

// Secrets authenticate tokens. New tokens use the first secret; Check accepts tokens that were made with any of them. Servers with the same secrets accept each
// other's tokens. A Secrets is immutable, and its methods are safe for concurrent use.
type Secrets struct{ all []secret.Secret }

// Random returns one random secret, for a server that shares its tokens with no other.
func Random() *Secrets {
	return &Secrets{[]secret.Secret{secret.Random()}}
}

// Parse reads the secrets in the text of a file, in the format of package secret. The error never contains a secret.
func Parse(text []byte) (*Secrets, error) {
	all, err := secret.Parse(text)
	if err != nil {
		return nil, err
	}
	return &Secrets{all}, nil
}

// Token returns a token with which a client can continue to a canonical name until now (Unix seconds) and Lifetime have passed. The token is of use to that client
// only: its IPv4 address, or its IPv6 /64 network.
func (s *Secrets) Token(name []byte, client netip.Addr, now int64) string {
	var raw [expiryLen + macLen]byte
	binary.BigEndian.PutUint32(raw[:], uint32(now+int64(Lifetime/time.Second)))
	copy(raw[expiryLen:], mac(s.all[0], raw[:expiryLen], name, client))
	return encoding.EncodeToString(raw[:])
}

// Result is the result of a check of a token.
type Result uint8

const (
	Valid   Result = iota
	Expired        // the token is too old
	Foreign        // the token was made for another client or name, or with another secret, or is forged
)

// Check checks the token of a client for a canonical name at now (Unix seconds). expiry is the time in Unix seconds until which a valid token can be used.
func (s *Secrets) Check(token, name []byte, client netip.Addr, now int64) (result Result, expiry int64) {
	if len(token) != TokenLen {
		return Foreign, 0
	}
	var raw [expiryLen + macLen]byte
	if n, err := encoding.Decode(raw[:], token); err != nil || n != len(raw) {
		return Foreign, 0
	}
	expiry = int64(binary.BigEndian.Uint32(raw[:]))
	if expiry < now {
		return Expired, 0 // before the code is computed, so that old tokens cost nothing
	}
	for _, one := range s.all {
		if hmac.Equal(mac(one, raw[:expiryLen], name, client), raw[expiryLen:]) {
			return Valid, expiry
		}
	}
	return Foreign, 0
}

// mac returns the code of a token.
func mac(key secret.Secret, expiry, name []byte, client netip.Addr) []byte {
	own, _ := fair.Client(client.Unmap().WithZone(""))
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(purpose))
	h.Write(expiry)
	addr := own.Addr().As16()
	h.Write(append(addr[:], byte(own.Bits())))
	h.Write(name)
	return h.Sum(nil)[:macLen]
}

// isToken reports whether all bytes are digits of base32 in lower case.
func isToken(text []byte) bool {
	for _, c := range text {
		if !('a' <= c && c <= 'z' || '2' <= c && c <= '7') {
			return false
		}
	}
	return true
}
