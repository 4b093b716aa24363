package rpz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
)

// Resolver is a resolver that is asked which names it blocks.
type Resolver struct {
	Addr string // host:port, of UDP and TCP

	// How it answers a blocked name. Any of these may be empty. An extended error in the answer is enough, too.
	Page      string       // a CNAME of that name
	Addresses []netip.Addr // these addresses
	Zones     []string     // NXDOMAIN or NODATA, under the SOA of one of these zones
	Absent    bool         // NXDOMAIN or NODATA without an SOA of the name's own zone or one above
}

const (
	askPatience = 5 * time.Second
	askTries    = 2
)

// Blocked is a Judge. A resolver that does not answer, or fails, is an error: the name may be blocked or not.
func (r Resolver) Blocked(ctx context.Context, name []byte) (bool, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(blocklist.NameText(name)), dns.TypeA)
	q.SetEdns0(ednsSize, false)
	var m *dns.Msg
	var err error
	for range askTries {
		if m, err = r.exchange(ctx, q); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("ask %s: %w", r.Addr, err)
	}
	if blocked := r.means(m, q.Question[0].Name); blocked {
		return true, nil
	}
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return false, fmt.Errorf("ask %s: it answered %s", r.Addr, dns.RcodeToString[m.Rcode])
	}
	return false, nil
}

func (r Resolver) exchange(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network, Timeout: askPatience, Dialer: &net.Dialer{Timeout: askPatience}}
		m, _, err := c.ExchangeContext(ctx, q, r.Addr)
		if err != nil {
			return nil, err
		}
		if !m.Truncated {
			return m, nil
		}
	}
	return nil, errors.New("its answer is truncated")
}

// means reports whether an answer means that the name is blocked.
func (r Resolver) means(m *dns.Msg, name string) bool {
	if opt := m.IsEdns0(); opt != nil && slices.ContainsFunc(opt.Option, saysBlocked) {
		return true
	}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.CNAME:
			if r.Page != "" && dns.CanonicalName(rr.Target) == dns.CanonicalName(r.Page) {
				return true
			}
		case *dns.A:
			if addr, ok := netip.AddrFromSlice(rr.A); ok && slices.Contains(r.Addresses, addr.Unmap()) {
				return true
			}
		}
	}
	if len(m.Answer) > 0 || m.Rcode != dns.RcodeNameError && m.Rcode != dns.RcodeSuccess {
		return false
	}
	authority := false
	for _, rr := range append(m.Ns[:len(m.Ns):len(m.Ns)], m.Extra...) { // some resolvers put the SOA into the additional section
		soa, ok := rr.(*dns.SOA)
		if !ok {
			continue
		}
		if slices.ContainsFunc(r.Zones, func(z string) bool { return dns.CanonicalName(soa.Hdr.Name) == dns.CanonicalName(z) }) {
			return true
		}
		authority = authority || dns.IsSubDomain(soa.Hdr.Name, name)
	}
	return r.Absent && !authority
}

// saysBlocked reports whether an option is an extended error that the answer was blocked, censored or filtered (RFC 8914 sections 4.16 to 4.18).
func saysBlocked(o dns.EDNS0) bool {
	e, ok := o.(*dns.EDNS0_EDE)
	return ok && (e.InfoCode == dns.ExtendedErrorCodeBlocked || e.InfoCode == dns.ExtendedErrorCodeCensored || e.InfoCode == dns.ExtendedErrorCodeFiltered)
}
