// Package probe defines the names by which a browser checks whether its device uses this server, and by which transport and address family. The resolver answers
// queries for these names, and a page contains pictures at them.
//
// A check has the name NONCE.CHECK.ZONE. The resolver returns an address for it only if the check applies to the client, so the browser loads the picture only
// then. NONCE is any label; pages use a new random one, so that no cache holds the name. ZONE is the zone of REMPART_PROBE, whose names this server answers
// itself. Nothing is stored.
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
	Other // the client also uses another resolver: this server returns no address for the name, and the public DNS does
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

// NewNonce returns a random label for Host, of 80 bits.
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
