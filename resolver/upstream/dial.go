package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"rempart/internal/wire"
)

// DialContext connects to a host and port as net.Dialer does, but finds the host's addresses through
// this pool: a machine whose only resolver is this process can fetch its lists before it serves.
func (p *Pool) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return dial(ctx, network, address, p.lookup)
}

// dial connects to a host whose addresses lookup finds.
func dial(ctx context.Context, network, address string, lookup Lookup) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return d.DialContext(ctx, network, address)
	}
	found, err := lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", host, err)
	}
	return dialEach(ctx, found.List, func(ctx context.Context, a netip.Addr) (net.Conn, error) {
		return d.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
	})
}

const (
	maxAddresses = 8               // of an answer are tried
	maxDial      = 5 * time.Second // spent on one of them
)

// dialEach connects to the first of addrs that accepts the connection. Each gets an equal share of the time left, and maxDial at most, so that a dead address
// does not use up the time of the others.
func dialEach(ctx context.Context, addrs []netip.Addr, dial func(context.Context, netip.Addr) (net.Conn, error)) (net.Conn, error) {
	var failure error // of the first address
	for i, a := range addrs {
		share := maxDial
		if end, limited := ctx.Deadline(); limited {
			share = min(share, time.Until(end)/time.Duration(len(addrs)-i))
		}
		attempt, cancel := context.WithTimeout(ctx, share)
		conn, err := dial(attempt, a)
		cancel()
		if err == nil {
			return conn, nil
		}
		if failure = cmp.Or(failure, err); ctx.Err() != nil {
			break
		}
	}
	return nil, failure
}

// lookup returns the addresses of host in the order in which they are to be tried, and the time for which all of them are valid.
func (p *Pool) lookup(ctx context.Context, host string) (Addresses, error) {
	name, err := wire.AppendName(nil, strings.TrimSuffix(host, "."))
	if err != nil {
		return Addresses{}, err
	}
	var families [2][]netip.Addr
	var failure error // the first error: the second is mostly the same
	ttl := maxLookupEvery
	for i, typ := range [...]uint16{wire.TypeAAAA, wire.TypeA} {
		a, err := p.Exchange(ctx, Question{Name: name, Type: typ, Class: wire.ClassIN})
		if err != nil {
			failure = cmp.Or(failure, err)
			continue
		}
		families[i], ttl = addressesOf(a.Packed, typ, ttl)
	}
	addrs := interleave(families[0], families[1])
	if len(addrs) == 0 {
		return Addresses{}, cmp.Or(failure, errors.New("the name has no address"))
	}
	return Addresses{addrs[:min(len(addrs), maxAddresses)], ttl}, nil
}

// interleave takes from a and b in turn, a first: if one family of addresses does not work, the other is tried next (RFC 8305 section 4, without the race).
func interleave(a, b []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(a)+len(b))
	for i := range max(len(a), len(b)) {
		if i < len(a) {
			out = append(out, a[i])
		}
		if i < len(b) {
			out = append(out, b[i])
		}
	}
	return out
}

// addressesOf reads the addresses of an answer, and lowers ttl to the shortest TTL of its records.
func addressesOf(msg []byte, typ uint16, ttl time.Duration) ([]netip.Addr, time.Duration) {
	var addrs []netip.Addr
	r := wire.ReadRecords(msg)
	var rr wire.Record
	for r.Next(&rr) {
		if rr.Section != wire.SectionAnswer {
			continue
		}
		ttl = min(ttl, time.Duration(rr.TTL)*time.Second)
		a, ok := netip.AddrFromSlice(msg[rr.Data:rr.End])
		if a = a.Unmap(); ok && rr.Type == typ && !a.IsUnspecified() && !a.IsMulticast() { // some filters answer 0.0.0.0 or ::ffff:0.0.0.0
			addrs = append(addrs, a)
		}
	}
	return addrs, ttl
}
