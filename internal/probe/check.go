// Package probe holds what the resolver and the pages share about the names by which a browser checks whether its device uses this server, and how.
//
// The name NONCE.CHECK.ZONE has an address only for a client to which the check applies: a browser that reaches it there shows a sign. NONCE is any label, so that
// no cache has the name. ZONE is REMPART_PROBE, which this server answers itself. Nothing is stored.
package probe

import (
	"bytes"
	"crypto/rand"
	"strings"

	"rempart/internal/wire"
)

// Check is a question about a client.
type Check uint8

const (
	Protected Check = iota // the client's queries arrive here
	Plain                  // without encryption
	TLS
	HTTPS
	QUIC
	IPv4
	IPv6
	Other // the client also uses a resolver that is not this server: only the public DNS has an address for it
	Checks
)

// labels are the labels next to the zone.
var labels = [Checks]string{"any", "plain", "tls", "https", "quic", "ipv4", "ipv6", "other"}

func (c Check) String() string { return labels[c] }

// Of returns the check of a canonical name in a zone; ok is false for other names. It allocates nothing.
func Of(name, zone []byte) (c Check, ok bool) {
	rest := len(name) - len(zone)
	if rest <= 0 || name[0] == 0 || !bytes.Equal(name[rest:], zone) {
		return 0, false
	}
	at := 1 + int(name[0])
	if at >= rest || at+1+int(name[at]) != rest {
		return 0, false
	}
	for c, label := range labels {
		if string(name[at+1:rest]) == label {
			return Check(c), true
		}
	}
	return 0, false
}

// Applies reports whether a check applies to the client of a query.
func (c Check) Applies(q *wire.Query) bool {
	switch c {
	case Protected:
		return true
	case Plain:
		return q.Transport == wire.UDP || q.Transport == wire.TCP
	case TLS:
		return q.Transport == wire.TLS
	case HTTPS:
		return q.Transport == wire.HTTPS
	case QUIC:
		return q.Transport == wire.QUIC
	case IPv4:
		return q.Client.Unmap().Is4()
	case IPv6:
		return !q.Client.Unmap().Is4()
	}
	return false
}

// Host returns the name of a check in a zone in text form.
func (c Check) Host(nonce, zone string) string { return nonce + "." + labels[c] + "." + zone }

// NewNonce returns a new first label of such names.
func NewNonce() string { return strings.ToLower(rand.Text()[:16]) }

// IsPublic reports whether the public DNS can have names in a zone in text form, so that Other can apply.
func IsPublic(zone string) bool {
	for _, private := range []string{".internal", ".test", ".invalid", ".local", ".localhost", ".arpa", ".example", ".onion", ".alt"} {
		if strings.HasSuffix("."+zone, private) {
			return false
		}
	}
	return true
}
