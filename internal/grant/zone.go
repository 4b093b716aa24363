// Package grant defines the names and tokens by which the warning page asks the resolver for a grant. A grant lets one client reach one blocked name, and the names
// below it, for a limited time, after a person has read the warning and chosen to continue.
//
// For a blocked name NAME, the warning page links to the host NAME.ask.ZONE. The page at that host asks for a confirmation. Its form is sent to the host
// TOKEN.NAME.go.ZONE. The browser's DNS query for this host carries the token to the server that answers the client's queries, and that server stores the grant.
// ZONE is the zone of REMPART_PROBE, whose names Rempart answers itself.
package grant

import (
	"bytes"

	"rempart/internal/wire"
)

// Kind is the purpose of a name in a Zone.
type Kind uint8

const (
	Other Kind = iota // any other name
	Ask               // NAME.ask.ZONE, the host of the page that asks for a confirmation
	Go                // TOKEN.NAME.go.ZONE: a query for it sets a grant
)

// The labels of the names of Ask and Go, next to the zone, in wire format.
const (
	askLabel = "\x03ask"
	goLabel  = "\x02go"
)

// Zone is the zone of the names by which clients continue. It is immutable. Its methods allocate nothing unless they return a new name.
type Zone struct{ apex []byte }

// NewZone returns the zone with a canonical name.
func NewZone(apex []byte) Zone { return Zone{bytes.Clone(apex)} }

// Split returns the parts of a canonical name that is below the zone: its kind; of Ask and Go the name that the client wants to reach, as a slice of full without
// the root at its end; and of Go the token, as a slice of full. Other names are of kind Other.
func (z Zone) Split(full []byte) (kind Kind, token, name []byte) {
	end := len(full) - len(z.apex)
	if end <= 0 || !bytes.Equal(full[end:], z.apex) {
		return Other, nil, nil
	}
	last := -1 // where the label next to the zone begins
	for at := 0; at < end; at += 1 + int(full[at]) {
		last = at
	}
	switch {
	case last+1+int(full[last]) != end: // the zone's bytes begin within a label
		return Other, nil, nil
	case string(full[last:end]) == askLabel && last > 0:
		return Ask, nil, full[:last]
	case string(full[last:end]) == goLabel && last > 1+TokenLen && full[0] == TokenLen && isToken(full[1:1+TokenLen]):
		return Go, full[1 : 1+TokenLen], full[1+TokenLen : last]
	}
	return Other, nil, nil
}

// Offers reports whether a client can be asked about a canonical name: the names of both kinds have at most 255 bytes, and the name consists of letters, digits, hyphens
// and underscores, so that it can be a part of a URL.
func (z Zone) Offers(name []byte) bool {
	if len(name) < 2 || 1+TokenLen+len(name)-1+len(goLabel)+len(z.apex) > wire.MaxName {
		return false
	}
	for at := 0; name[at] != 0; at += 1 + int(name[at]) {
		for _, c := range name[at+1 : at+1+int(name[at])] {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// AskName returns the name at which a client is asked about a name that Offers accepts.
func (z Zone) AskName(name []byte) []byte { return z.join(nil, name, askLabel) }

// GoName returns the name by which a client continues to a name that Offers accepts.
func (z Zone) GoName(token string, name []byte) []byte {
	return z.join(append([]byte{byte(len(token))}, token...), name, goLabel)
}

func (z Zone) join(dst, name []byte, label string) []byte {
	dst = append(dst, name[:len(name)-1]...)
	dst = append(dst, label...)
	return append(dst, z.apex...)
}
