package fetch

import (
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"strings"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/tsig"
)

// Transaction signatures (RFC 8945), the client's side of a zone transfer.

const (
	tsigFudge   = 300 // seconds by which the clocks may differ (RFC 8945 section 10)
	maxUnsigned = 99  // consecutive messages without a signature (RFC 8945 section 5.3.1)
)

// tsigKey is a secret shared with a primary.
type tsigKey struct {
	name      string // canonical, absolute
	algorithm string // canonical, absolute
	hash      func() hash.Hash
	secret    []byte
}

// parseTSIG parses "[algorithm:]name:secret". Errors quote no part of text except the algorithm.
func parseTSIG(text string) (*tsigKey, error) {
	parts := strings.Split(text, ":")
	if len(parts) == 2 {
		parts = append([]string{"hmac-sha256"}, parts...)
	}
	if len(parts) != 3 {
		return nil, errors.New(`a TSIG key is "[algorithm:]name:secret", the secret in base64`)
	}
	algorithm, err := tsig.ParseAlgorithm(parts[0])
	if err != nil {
		return nil, err
	}
	if !isHostText(strings.TrimSuffix(parts[1], ".")) {
		return nil, errors.New("the name of the TSIG key is not a domain name")
	}
	secret, err := tsig.ParseSecret(parts[2])
	if err != nil {
		return nil, err
	}
	return &tsigKey{name: dns.CanonicalName(parts[1]), algorithm: algorithm.Name + ".", hash: algorithm.Hash, secret: secret}, nil
}

// isHostText reports whether name, without its trailing dot, is a domain name of letters, digits, hyphens and underscores.
func isHostText(name string) bool {
	for _, c := range []byte(name) {
		isLetter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !isLetter && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	_, ok := dns.IsDomainName(name)
	return ok && name != ""
}

// Generate and Verify implement dns.TsigProvider, which sign uses for queries. Verify always fails: tsigVerifier verifies answers.
func (k *tsigKey) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) {
	h := hmac.New(k.hash, k.secret)
	h.Write(msg)
	return h.Sum(nil), nil
}

func (k *tsigKey) Verify([]byte, *dns.TSIG) error { return dns.ErrKeyAlg }

// sign returns q packed and signed, and the signatures value that verifies its answer.
func (k *tsigKey) sign(q *dns.Msg) ([]byte, *signatures, error) {
	q.SetTsig(k.name, k.algorithm, tsigFudge, time.Now().Unix())
	packed, mac, err := dns.TsigGenerateWithProvider(q, k, "", false)
	if err != nil {
		return nil, nil, err
	}
	s := &signatures{key: k}
	return packed, s, s.startSum(mac)
}

// signatures verifies the messages of one answer, in order. The first and the last message must be signed, and at least one message in a
// hundred; each signature covers all messages since the previous signature (RFC 8945 section 5.3.1).
type signatures struct {
	key      *tsigKey
	mac      string    // the MAC of the previous signed message, hexadecimal
	sum      hash.Hash // the sum over mac and the unsigned messages after it
	unsigned int       // messages since the previous signature
	signed   bool      // a message of the answer was signed
}

// startSum starts the sum for the next signature; mac is the MAC of the previous one (RFC 8945 sections 4.3.1 and 5.3.1).
func (s *signatures) startSum(mac string) error {
	previous, err := hex.DecodeString(mac)
	if err != nil {
		return err
	}
	s.mac, s.unsigned, s.sum = mac, 0, hmac.New(s.key.hash, s.key.secret)
	s.sum.Write([]byte{byte(len(previous) >> 8), byte(len(previous))})
	s.sum.Write(previous)
	return nil
}

// verify verifies the next message. It overwrites packed.
func (s *signatures) verify(packed []byte, t *dns.TSIG) error {
	switch {
	case t == nil && !s.signed:
		return errors.New("the answer is not signed")
	case t == nil:
		if s.unsigned++; s.unsigned > maxUnsigned {
			return fmt.Errorf("more than %d messages in a row are not signed", maxUnsigned)
		}
		s.sum.Write(packed)
		return nil
	case dns.CanonicalName(t.Hdr.Name) != s.key.name || dns.CanonicalName(t.Algorithm) != s.key.algorithm:
		return errors.New("the answer is signed with another key")
	}
	err := dns.TsigVerifyWithProvider(packed, tsigVerifier{s}, s.mac, s.signed)
	if errors.Is(err, dns.ErrTime) {
		return errors.New("the signing time of the answer is too far from this machine's time; set both clocks")
	}
	if err != nil {
		return errors.New("the answer's signature is wrong")
	}
	s.signed = true
	return s.startSum(t.MAC)
}

// complete reports whether the last verified message was signed, as the last message of an answer must be.
func (s *signatures) complete() bool { return s.signed && s.unsigned == 0 }

// tsigVerifier implements dns.TsigProvider for the messages of an answer.
type tsigVerifier struct{ s *signatures }

func (v tsigVerifier) Generate([]byte, *dns.TSIG) ([]byte, error) { return nil, dns.ErrKeyAlg }

// Verify compares the MAC of t with the sum over the signed bytes. These begin with the length (2 bytes) and the bytes of the previous MAC,
// which the sum already contains, followed by the unsigned messages.
func (v tsigVerifier) Verify(signed []byte, t *dns.TSIG) error {
	v.s.sum.Write(signed[2+len(v.s.mac)/2:])
	mac, err := hex.DecodeString(t.MAC)
	if err != nil || !hmac.Equal(mac, v.s.sum.Sum(nil)) { // the whole MAC: truncated ones (RFC 8945 section 5.2.2.1) are refused
		return dns.ErrSig
	}
	return nil
}
