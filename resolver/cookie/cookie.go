// Package cookie makes and checks the server cookies of DNS clients (RFC 7873, RFC 9018).
package cookie

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"

	"rempart/internal/secret"
	"rempart/internal/wire"
)

const (
	version = 1 // RFC 9018 section 4.1
	hashAt  = 8 // offset of the hash in a server cookie: after version, reserved bytes and timestamp

	// Ages in seconds (RFC 9018 section 4.3).
	oldest    = 3600 // an older cookie is not valid
	newest    = -300 // a cookie from the future is valid for clocks that differ by this much
	renewFrom = 1800 // an older cookie is valid, and the answer has a new one
)

// Secrets are the secrets of server cookies: the first one makes them, all are accepted. Servers with the same secrets accept each other's cookies. Secrets never
// change, and the methods are safe for concurrent use. They allocate nothing.
type Secrets struct{ keys []key }

// key is the key of SipHash-2-4.
type key struct{ k0, k1 uint64 }

// Of returns the secrets of a server that has one.
func Of(one secret.Secret) *Secrets { return &Secrets{[]key{newKey(one)}} }

// Parse reads the secrets in the text of a file, in the format of package secret: the first one makes cookies. The error never contains a secret.
func Parse(text []byte) (*Secrets, error) {
	all, err := secret.Parse(text)
	if err != nil {
		return nil, err
	}
	s := &Secrets{}
	for _, one := range all {
		s.keys = append(s.keys, newKey(one))
	}
	return s, nil
}

func newKey(s secret.Secret) key {
	return key{binary.LittleEndian.Uint64(s[:]), binary.LittleEndian.Uint64(s[8:])}
}

// Serve checks the server cookie of q, which has a sound COOKIE option and was received at the Unix time now, and makes the answer to q carry a valid one.
func (s *Secrets) Serve(q *wire.Query, now int64) {
	client, got := q.ReadCookies()
	state := wire.ClientCookie
	if len(got) > 0 {
		ok, age := s.check(client, got, q.Client, uint32(now))
		if ok && age <= renewFrom {
			q.ServeCookie(wire.ValidCookie, wire.ServerCookie(got))
			return
		}
		state = wire.WrongCookie
		if ok {
			state = wire.ValidCookie
		}
	}
	var made wire.ServerCookie
	made[0] = version
	binary.BigEndian.PutUint32(made[4:], uint32(now))
	binary.LittleEndian.PutUint64(made[hashAt:], s.keys[0].hash(client, made[:hashAt], q.Client))
	q.ServeCookie(state, made)
}

// check reports whether a server cookie is ours, is for the client and is neither too old nor from the future. age is its age in seconds; that of a cookie which a
// secret other than the first one made is above renewFrom.
func (s *Secrets) check(client, cookie []byte, addr netip.Addr, now uint32) (ok bool, age int32) {
	if len(cookie) != wire.ServerCookieLen || cookie[0] != version {
		return false, 0
	}
	age = int32(now - binary.BigEndian.Uint32(cookie[4:])) // serial number arithmetic (RFC 1982)
	if age < newest || age > oldest {
		return false, age
	}
	sum := binary.LittleEndian.Uint64(cookie[hashAt:])
	for i, k := range s.keys {
		// A comparison in constant time would protect nothing: whoever could measure 8 bytes over a network can guess one cookie, for one address and an hour.
		if k.hash(client, cookie[:hashAt], addr) == sum {
			if i > 0 {
				age = max(age, renewFrom+1)
			}
			return true, age
		}
	}
	return false, age
}

// hash returns the hash of a server cookie (RFC 9018 section 4.4). head is what precedes the hash in the cookie.
func (k key) hash(client, head []byte, addr netip.Addr) uint64 {
	var input [wire.ClientCookieLen + hashAt + 16]byte
	n := copy(input[:], client)
	n += copy(input[n:], head)
	if addr.Is4() {
		a := addr.As4()
		n += copy(input[n:], a[:])
	} else {
		a := addr.As16()
		n += copy(input[n:], a[:])
	}
	return siphash.Hash(k.k0, k.k1, input[:n])
}
