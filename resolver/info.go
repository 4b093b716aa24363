package resolver

import (
	"strings"

	"rempart/internal/wire"
)

// resolverArpa is the name resolver.arpa, canonical.
const resolverArpa = "\x08resolver\x04arpa\x00"

// reportedErrors are the codes of the extended errors in answers: those of Rempart itself (wire.EDEStale and the others), and those of the upstreams about
// DNSSEC (wire.EDE.DNSSEC), which are passed on.
const reportedErrors = "1-12,15-20,22-24"

// maxString is the largest length of a string in TXT and RESINFO data, in bytes (RFC 1035 section 3.3).
const maxString = 255

// resolverInfo returns the RESINFO data (RFC 9606 section 5). about is the URI of a web page about this resolver; other URIs are not in the data. The key qnamemin
// is absent, because a forwarder sends whole names to its upstreams.
func resolverInfo(about string) (data []byte) {
	add := func(text string) {
		if len(text) <= maxString {
			data = append(append(data, byte(len(text))), text...)
		}
	}
	add("exterr=" + reportedErrors)
	if strings.HasPrefix(about, "https://") {
		add("infourl=" + about)
	}
	return data
}

// answerInfo answers a query for information about this resolver by one of its names (RFC 9606 section 3), and reports whether it did. Clients accept only an
// authoritative answer, which shows that it was not forwarded.
func (r *Resolver) answerInfo(q *wire.Query, d *designation) bool {
	name := q.Name()
	if string(name) != string(d.name) && (string(name) != resolverArpa || r.forwardsResolverArpa(name)) {
		return false
	}
	q.Begin(wire.Success)
	wire.SetFlags(q.Out, wire.Flags(q.Out)|wire.FlagAA)
	q.AddData(wire.SectionAnswer, wire.TypeRESINFO, designatedTTL, r.info)
	q.Finish(wire.Success)
	return true
}
