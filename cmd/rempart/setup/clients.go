package setup

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"rempart/internal/config"
)

// onLinkEvery is the interval at which the machine's own networks are read: the IPv6 prefix of a home network changes from time to time.
const onLinkEvery = time.Second

// ClientWatcher keeps the networks of REMPART_CLIENTS up to date if on-link is one of them, and logs when clients are refused.
type ClientWatcher struct {
	configured config.Clients
	networks   func() ([]netip.Prefix, error) // returns the networks in which this machine has addresses now
	set        func([]netip.Prefix)           // replaces the networks whose clients may send queries
	refused    <-chan string                  // receives each kind of refused address once
	log        *slog.Logger

	onLink []netip.Prefix // as last passed to set
	failed bool           // the interfaces could not be read the last time, and this was logged
}

// NewClientWatcher returns the watcher of the configured networks and applies them. It calls set to replace the networks whose clients may ask; refused
// delivers each kind of refused address once.
func NewClientWatcher(configured config.Clients, set func([]netip.Prefix), refused <-chan string, log *slog.Logger) *ClientWatcher {
	k := &ClientWatcher{configured: configured, networks: networksOnLink, set: set, refused: refused, log: log}
	if configured.OnLink {
		set(configured.Prefixes) // if the interfaces cannot be read and nothing else is configured, all clients are refused
	}
	k.look()
	return k
}

// Run follows the interfaces until ctx ends.
func (k *ClientWatcher) Run(ctx context.Context) error {
	ticker := time.NewTicker(onLinkEvery)
	defer ticker.Stop()
	for {
		select {
		case kind := <-k.refused:
			k.logRefusal(kind)
		case <-ticker.C:
			k.look()
		case <-ctx.Done():
			for len(k.refused) > 0 {
				k.logRefusal(<-k.refused)
			}
			return nil
		}
	}
}

// logRefusal logs that a client was refused, without its address.
func (k *ClientWatcher) logRefusal(kind string) {
	k.log.Warn("a client was refused: REMPART_CLIENTS does not hold its address; if such clients are yours, add their network there (logged once for each kind of address)",
		"kind", kind, "on-link", k.configured.OnLink)
}

// look replaces the networks whose clients may ask if the machine's networks changed.
func (k *ClientWatcher) look() {
	if !k.configured.OnLink {
		return
	}
	now, err := k.networks()
	if err != nil {
		if !k.failed {
			k.log.Warn("reading the addresses of this machine's interfaces failed; clients on its networks may ask as before (on-link in REMPART_CLIENTS)", "error", err)
		}
		k.failed = true
		return
	}
	k.failed = false
	if slices.Equal(now, k.onLink) {
		return
	}
	if k.onLink != nil {
		k.log.Info("this machine's networks changed: their clients may ask from now on (on-link in REMPART_CLIENTS)", "networks", len(now))
	}
	k.onLink = now
	k.set(slices.Concat(k.configured.Prefixes, now))
}

// networksOnLink returns the networks in which the active interfaces of this machine have addresses, sorted.
func networksOnLink() ([]netip.Prefix, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	found := []netip.Prefix{}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface was removed after the list was read
		}
		for _, a := range addrs {
			if p, ok := networkOf(a); ok {
				found = append(found, p)
			}
		}
	}
	slices.SortFunc(found, netip.Prefix.Compare)
	return slices.Compact(found), nil
}

// localRanges are not used on the Internet: a network within one of them is served whatever its size.
var localRanges = [...]netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

// The largest public networks that are served as on-link. Larger ones are access networks of providers, which hold
// clients of other people.
const (
	widestIPv4 = 24
	widestIPv6 = 48
)

// networkOf returns the network of an interface's address, unless it is a public network larger than those that are served.
func networkOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, size := n.Mask.Size()
	addr = addr.Unmap()
	if addr.Is4() && size == 128 {
		bits -= 96
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}, false
	}
	for _, r := range localRanges {
		if r.Contains(addr) && p.Bits() >= r.Bits() {
			return p, true
		}
	}
	if addr.Is4() {
		return p, p.Bits() >= widestIPv4
	}
	return p, p.Bits() >= widestIPv6
}
