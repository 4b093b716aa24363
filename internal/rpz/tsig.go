package rpz

import (
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/tsig"
)

// Key is a secret shared with secondaries (RFC 8945).
type Key struct {
	Name      string // a domain name
	Algorithm string // hmac-sha256, hmac-sha384 or hmac-sha512
	Secret    []byte
}

const (
	tsigFudge = 300 // seconds by which clocks may differ (RFC 8945 section 10)
	minSecret = 16  // bytes
)

// key is a Key, checked.
type key struct {
	name      []byte // canonical wire form
	algorithm []byte // canonical wire form
	hash      func() hash.Hash
	secret    []byte
}

// newKey checks a key. Its errors contain no secret.
func newKey(k Key) (*key, error) {
	wire, err := blocklist.AppendName(nil, k.Name)
	if err != nil || len(wire) == 1 {
		return nil, fmt.Errorf("the name of the TSIG key %q is not a domain name", k.Name)
	}
	algorithm, err := tsig.ParseAlgorithm(k.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("TSIG key %s: %w", k.Name, err)
	}
	if len(k.Secret) < minSecret {
		return nil, fmt.Errorf("TSIG key %s: the secret has %d bytes; make one of at least %d, better 32", k.Name, len(k.Secret), minSecret)
	}
	return &key{name: wire, algorithm: wireName(algorithm.Name), hash: algorithm.Hash, secret: k.Secret}, nil
}

// Generate and Verify make a key a dns.TsigProvider; the time is checked by its caller.
func (k *key) Generate(msg []byte, _ *dns.TSIG) ([]byte, error) { return k.sum(msg), nil }

// Verify requires the whole signature: truncation (RFC 8945 section 5.2.2.1) is not used.
func (k *key) Verify(msg []byte, t *dns.TSIG) error {
	mac, err := hex.DecodeString(t.MAC)
	if err != nil || !hmac.Equal(mac, k.sum(msg)) {
		return dns.ErrSig
	}
	return nil
}

func (k *key) sum(parts ...[]byte) []byte {
	h := hmac.New(k.hash, k.secret)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// verify checks a message's signature. prior is the signature of the query that it answers, nil for a query. It returns the error of
// RFC 8945 section 3, and the signature.
func (k *key) verify(packed []byte, t *dns.TSIG, prior []byte) (tsigError int, mac []byte) {
	mac, err := hex.DecodeString(t.MAC)
	if err == nil {
		err = dns.TsigVerifyWithProvider(packed, k, hex.EncodeToString(prior), false)
	}
	switch {
	case errors.Is(err, dns.ErrTime):
		return dns.RcodeBadTime, mac
	case err != nil:
		return dns.RcodeBadSig, nil
	}
	return dns.RcodeSuccess, mac
}

// signer signs the messages of one answer in order, each over the signature before (RFC 8945 sections 5.3 and 5.3.1).
type signer struct {
	key   *key // nil signs nothing
	prior []byte
	begun bool
}

// sign appends the signature to a message.
func (s *signer) sign(msg []byte) []byte {
	if s.key == nil {
		return msg
	}
	now := time.Now().Unix()
	var timers [8]byte
	putTime(timers[:6], now)
	binary.BigEndian.PutUint16(timers[6:], tsigFudge)
	var mac []byte
	prior := s.prior
	if prior != nil {
		prior = append(binary.BigEndian.AppendUint16(nil, uint16(len(prior))), prior...)
	}
	if s.begun {
		mac = s.key.sum(prior, msg, timers[:])
	} else {
		mac = s.key.sum(prior, msg, s.key.variables(now, 0, nil))
	}
	s.prior, s.begun = mac, true
	return appendTSIG(msg, s.key.name, s.key.algorithm, now, mac, 0, nil)
}

// variables returns the signed part of the record (RFC 8945 section 4.3.3).
func (k *key) variables(now int64, tsigError uint16, other []byte) []byte {
	b := append([]byte(nil), k.name...)
	b = binary.BigEndian.AppendUint16(b, dns.ClassANY)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, k.algorithm...)
	b = appendTime(b, now)
	b = binary.BigEndian.AppendUint16(b, tsigFudge)
	b = binary.BigEndian.AppendUint16(b, tsigError)
	b = binary.BigEndian.AppendUint16(b, uint16(len(other)))
	return append(b, other...)
}

// refuse appends to a message why the query's signature was refused: unsigned, except for a wrong time, which the client must be able to trust (RFC 8945
// section 5.2).
func refuse(msg []byte, t *dns.TSIG, k *key, requestMAC []byte, tsigError uint16) []byte {
	name, algorithm := wireName(t.Hdr.Name), wireName(t.Algorithm)
	if tsigError != dns.RcodeBadTime {
		return appendTSIG(msg, name, algorithm, int64(t.TimeSigned), nil, tsigError, nil)
	}
	other := appendTime(nil, time.Now().Unix())
	prior := append(binary.BigEndian.AppendUint16(nil, uint16(len(requestMAC))), requestMAC...)
	mac := k.sum(prior, msg, k.variables(int64(t.TimeSigned), tsigError, other))
	return appendTSIG(msg, name, algorithm, int64(t.TimeSigned), mac, tsigError, other)
}

// appendTSIG appends the record (RFC 8945 section 4.2) and counts it in the header.
func appendTSIG(msg, name, algorithm []byte, now int64, mac []byte, tsigError uint16, other []byte) []byte {
	id := binary.BigEndian.Uint16(msg)
	binary.BigEndian.PutUint16(msg[10:], binary.BigEndian.Uint16(msg[10:])+1)
	msg = append(msg, name...)
	msg = binary.BigEndian.AppendUint16(msg, dns.TypeTSIG)
	msg = binary.BigEndian.AppendUint16(msg, dns.ClassANY)
	msg = binary.BigEndian.AppendUint32(msg, 0)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(algorithm)+16+len(mac)+len(other)))
	msg = append(msg, algorithm...)
	msg = appendTime(msg, now)
	msg = binary.BigEndian.AppendUint16(msg, tsigFudge)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(mac)))
	msg = append(msg, mac...)
	msg = binary.BigEndian.AppendUint16(msg, id)
	msg = binary.BigEndian.AppendUint16(msg, tsigError)
	msg = binary.BigEndian.AppendUint16(msg, uint16(len(other)))
	return append(msg, other...)
}

func appendTime(b []byte, unix int64) []byte {
	var t [6]byte
	putTime(t[:], unix)
	return append(b, t[:]...)
}

func putTime(b []byte, unix int64) {
	binary.BigEndian.PutUint16(b, uint16(unix>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(unix))
}

// wireName returns the wire format of a name that was checked before.
func wireName(text string) []byte {
	name, err := blocklist.AppendName(nil, text)
	if err != nil {
		return []byte{0}
	}
	return name
}
