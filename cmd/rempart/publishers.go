package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/config"
	"rempart/resolver/upstream"
)

// hostsFile is where the machine's administrator says which addresses hosts have.
const hostsFile = "/etc/hosts"

// maxHostsFile is how much of it is read, in bytes.
const maxHostsFile = 1 << 20

// contextDialer connects to a host and port.
type contextDialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// publishers connects to those who publish lists. It finds hosts as queries for them would be forwarded, without the filter: by the
// hosts file, the resolvers of the zone that REMPART_FORWARD names, or the upstreams. It does not ask this server, whose lists may not be there yet.
type publishers struct {
	hosts string // path of the hosts file
	main  contextDialer
	zones []zoneDialer
}

// zoneDialer finds the hosts of a zone.
type zoneDialer struct {
	zone string // wire form
	contextDialer
}

// publishers returns how publishers are reached.
func (f *forwarding) publishers() *publishers {
	p := &publishers{hosts: hostsFile, main: f.main}
	for i, zone := range f.zones {
		p.zones = append(p.zones, zoneDialer{string(zone.Name), f.pools[i]})
	}
	return p
}

// controlPublishers returns how a control alone in its process reaches publishers: by the system's resolver, except in the zones of
// REMPART_FORWARD. The pools, if any, must run.
func controlPublishers(c *config.Config, log *slog.Logger) (contextDialer, []*upstream.Pool, error) {
	system := &net.Dialer{Timeout: 10 * time.Second}
	if len(c.Forward) == 0 {
		return system, nil, nil
	}
	f, err := newForwarding(c, log)
	if err != nil {
		return nil, nil, err
	}
	p := f.publishers()
	p.main = system
	return p, f.pools, nil
}

// DialContext connects as net.Dialer does. Only the way hosts are found differs.
func (p *publishers) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	addrs := p.inHostsFile(host)
	if len(addrs) == 0 {
		return p.finder(host).DialContext(ctx, network, address)
	}
	var failure error
	for _, a := range addrs {
		conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		failure = err
	}
	return nil, failure
}

// finder returns who finds a host: the innermost zone that it is in.
func (p *publishers) finder(host string) contextDialer {
	best, longest := p.main, 0
	name, err := blocklist.AppendName(nil, strings.TrimSuffix(host, "."))
	if err != nil {
		return best // which says why
	}
	for at := 0; at < len(name)-1; at += 1 + int(name[at]) {
		for _, z := range p.zones {
			if string(name[at:]) == z.zone && len(z.zone) > longest {
				best, longest = z.contextDialer, len(z.zone)
			}
		}
	}
	return best
}

// maxHostAddresses is how many addresses of a host in the hosts file are tried.
const maxHostAddresses = 4

// inHostsFile returns the addresses that the hosts file gives a host. A file that cannot be read gives none.
func (p *publishers) inHostsFile(host string) (addrs []netip.Addr) {
	f, err := os.Open(p.hosts)
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxHostsFile))
	if err != nil {
		return nil
	}
	host = strings.TrimSuffix(host, ".")
	for line := range bytes.Lines(text) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.IsUnspecified() { // a name that is blocked here
			continue
		}
		for _, name := range fields[1:] {
			if strings.EqualFold(strings.TrimSuffix(name, "."), host) && len(addrs) < maxHostAddresses {
				addrs = append(addrs, addr)
				break
			}
		}
	}
	return addrs
}
