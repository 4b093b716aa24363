package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"rempart/internal/wire"
)

// DialContext connects to a host and port as net.Dialer does, but finds the host's addresses through
// this pool: a machine whose only resolver is this process can fetch its lists before it serves.
func (p *Pool) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return d.DialContext(ctx, network, address)
	}
	addrs, err := p.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("looking up %s: %w", host, err)
	}
	var errs []error
	for _, a := range addrs {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// maxAddresses bounds what of an answer is tried.
const maxAddresses = 8

// lookup returns the addresses of host, IPv4 first: a machine with IPv6 only fails those at once.
func (p *Pool) lookup(ctx context.Context, host string) (addrs []netip.Addr, err error) {
	name, err := wire.AppendName(nil, strings.TrimSuffix(host, "."))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, typ := range []uint16{wire.TypeA, wire.TypeAAAA} {
		a, err := p.Exchange(ctx, Question{Name: name, Type: typ, Class: wire.ClassIN})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		addrs = append(addrs, addressesOf(a.Packed, typ)...)
	}
	if len(addrs) == 0 {
		return nil, errors.Join(append(errs, errors.New("it has no address"))...)
	}
	return addrs[:min(len(addrs), maxAddresses)], nil
}

// addressesOf reads the addresses of an answer.
func addressesOf(msg []byte, typ uint16) (addrs []netip.Addr) {
	r := wire.ReadRecords(msg)
	var rr wire.Record
	for r.Next(&rr) {
		if rr.Section != wire.SectionAnswer || rr.Type != typ {
			continue
		}
		if a, ok := netip.AddrFromSlice(msg[rr.Data:rr.End]); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
