package setup

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
	"rempart/cmd/rempart/setup/descriptors"
	"rempart/internal/config"
)

// hostsFile is the file in which the administrator of the machine sets the addresses of hosts.
const hostsFile = "/etc/hosts"

// maxHostsFile is the largest part of the hosts file that is read, in bytes.
const maxHostsFile = 1 << 20

// contextDialer connects to a host and port.
type contextDialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// publisherDialer connects to the publishers of lists. It resolves a host as a query for it would be forwarded, but without the filter: by the hosts file, the
// resolvers of its zone in REMPART_FORWARD, or the upstreams. It does not ask this server, whose lists may not be loaded yet.
type publisherDialer struct {
	hosts string // path of the hosts file
	main  contextDialer
	zones []zoneDialer
}

// zoneDialer connects to the hosts of a zone.
type zoneDialer struct {
	zone string // in wire format
	contextDialer
}

// Dialer returns the dialer that connects to publishers.
func (f *Forwarding) Dialer() *publisherDialer {
	p := &publisherDialer{hosts: hostsFile, main: f.Main}
	for i, zone := range f.Zones {
		p.zones = append(p.zones, zoneDialer{string(zone.Name), f.ZoneGroups[i]})
	}
	return p
}

// ControlDialer connects to the publishers of lists from a control that runs without a server in its process. It uses the system's resolver,
// except in the zones of REMPART_FORWARD.
type ControlDialer struct {
	contextDialer
	Forwarding *Forwarding // nil if it is not used; the caller runs it
}

// NewControlDialer returns the dialer of a control.
func NewControlDialer(c *config.Config, log *slog.Logger) (*ControlDialer, error) {
	system := &net.Dialer{Timeout: 10 * time.Second}
	if len(c.Forward) == 0 {
		return &ControlDialer{contextDialer: system}, nil
	}
	f, err := NewForwarding(c, log, descriptors.Share(descriptors.Limit()).Questions)
	if err != nil {
		return nil, err
	}
	p := f.Dialer()
	p.main = system
	return &ControlDialer{p, f}, nil
}

// DialContext connects as net.Dialer does, except that it resolves hosts as publisherDialer describes.
func (p *publisherDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
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

// finder returns the dialer for a host: the one of the innermost zone that holds the host, or else the main one.
func (p *publisherDialer) finder(host string) contextDialer {
	best, longest := p.main, 0
	name, err := blocklist.AppendName(nil, strings.TrimSuffix(host, "."))
	if err != nil {
		return best // the error of that dialer says why
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

// maxHostAddresses is the largest number of a host's addresses in the hosts file that are tried.
const maxHostAddresses = 4

// inHostsFile returns the addresses that the hosts file contains for a host. If the file cannot be read, there are none.
func (p *publisherDialer) inHostsFile(host string) (addrs []netip.Addr) {
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
		if err != nil || addr.IsUnspecified() { // 0.0.0.0 and :: block a name
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
