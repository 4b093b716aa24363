package setup

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/internal/journal"
	"rempart/internal/rpz"
	"rempart/internal/tsig"
	"rempart/resolver/listen"
)

// Zones serves the set as response policy zones.
type Zones struct {
	config *config.Config
	log    *slog.Logger
	Server *rpz.Server
	due    chan struct{} // signals that listings started or expired
	behind bool          // a change in force is not in the zones yet; used by the caller of Changed only
}

// NewZones returns the configured policy zones, or nil if REMPART_RPZ_LISTEN and REMPART_RPZ_TLS_LISTEN are empty.
func NewZones(c *config.Config, log *slog.Logger, secure *tls.Config, view func() *blocklist.View) (*Zones, error) {
	if len(c.RPZListen)+len(c.RPZTLSListen) == 0 {
		return nil, nil
	}
	z := &Zones{config: c, log: log, due: make(chan struct{}, 1)}
	rc := rpz.Config{View: view, Log: log, Renew: WakeFunc(z.due), Keyless: c.RPZKeyless}
	var err error
	if rc.Keys, err = tsigKeys(c.RPZKeys); err != nil {
		return nil, err
	}
	if rc.Zones, err = zoneConfigs(c); err != nil {
		return nil, err
	}
	if rc.Secondaries, err = secondaries(c); err != nil {
		return nil, err
	}
	if len(c.RPZTLSListen) > 0 {
		rc.TLS = secure
	}
	if z.Server, err = rpz.New(rc); err != nil {
		return nil, fmt.Errorf("%w (REMPART_RPZ_ZONES, REMPART_RPZ_KEYS, REMPART_RPZ_NOTIFY)", err)
	}
	return z, nil
}

// zoneConfigs parses the zones of REMPART_RPZ_ZONES.
func zoneConfigs(c *config.Config) (all []rpz.ZoneConfig, err error) {
	for _, zone := range c.RPZZones {
		made := rpz.ZoneConfig{Name: zone.Name, Categories: blocklist.AllCategories, Page: c.RPZPage}
		made.Action = map[string]rpz.Action{"page": rpz.ActionPage, "nxdomain": rpz.ActionNXDOMAIN, "nodata": rpz.ActionNODATA}[zone.Answer]
		if len(zone.Categories) > 0 {
			var unknown string
			if made.Categories, unknown = blocklist.ParseCategories(zone.Categories); unknown != "" {
				return nil, config.Bad("RPZ_ZONES", zone.Name, fmt.Sprintf("unknown category %q", unknown))
			}
		}
		all = append(all, made)
	}
	return all, nil
}

// secondaries parses the servers of REMPART_RPZ_NOTIFY.
func secondaries(c *config.Config) (all []rpz.Secondary, err error) {
	for _, text := range c.RPZNotify {
		addr, key, _ := strings.Cut(text, "#")
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, config.Bad("RPZ_NOTIFY", text, "must be an address with a port, like 192.0.2.1:53, and optionally # and a key name")
		}
		all = append(all, rpz.Secondary{Addr: to, Key: key})
	}
	return all, nil
}

// tsigKeys reads a file of TSIG keys. Errors do not contain secrets.
func tsigKeys(path string) (keys []rpz.Key, err error) {
	if path == "" {
		return nil, nil
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("REMPART_RPZ_KEYS: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, secrets.MaxFile))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 3 {
			return nil, fmt.Errorf("REMPART_RPZ_KEYS: %s: line %d: must hold a name, an algorithm and a secret, separated by spaces", path, n)
		}
		secret, err := tsig.ParseSecret(fields[2])
		if err != nil {
			return nil, fmt.Errorf("REMPART_RPZ_KEYS: %s: line %d: %w", path, n, err)
		}
		keys = append(keys, rpz.Key{Name: fields[0], Algorithm: fields[1], Secret: secret})
	}
	return keys, lines.Err()
}

// Run serves the zones until ctx ends. It calls renew after listings started or expired.
func (z *Zones) Run(ctx context.Context, renew func(context.Context)) error {
	var l rpz.Listeners
	LogAbsent(z.log, "REMPART_RPZ_LISTEN", z.config.RPZListen)
	LogAbsent(z.log, "REMPART_RPZ_TLS_LISTEN", z.config.RPZTLSListen)
	for _, addr := range z.config.RPZListen {
		tcp, err := listen.Stream(addr)
		if err != nil {
			return fmt.Errorf("policy zones cannot be served (REMPART_RPZ_LISTEN): %w", err)
		}
		udp, err := listen.Packet(netip.AddrPortFrom(addr.Addr(), uint16(tcp.Addr().(*net.TCPAddr).Port)))
		if err != nil {
			tcp.Close()
			return fmt.Errorf("policy zones cannot be served (REMPART_RPZ_LISTEN): %w", err)
		}
		l.Stream, l.Packet = append(l.Stream, tcp), append(l.Packet, udp)
	}
	for _, addr := range z.config.RPZTLSListen {
		tcp, err := listen.Stream(addr)
		if err != nil {
			return fmt.Errorf("policy zones cannot be served (REMPART_RPZ_TLS_LISTEN): %w", err)
		}
		l.TLS = append(l.TLS, tcp)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return z.Server.Run(ctx, l) })
	g.Go(func() error {
		for {
			select {
			case <-z.due:
				renew(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	})
	return g.Wait()
}

// Changed updates the zones after a change came into force. While a snapshot is incomplete, it leaves the update to the next call, because a serial must identify
// one content.
func (z *Zones) Changed(before, after *blocklist.View, e journal.Effect) {
	if e.Incomplete {
		z.behind = true
		return
	}
	e.All = e.All || z.behind
	z.behind = false
	names := [][]byte{}
	for _, c := range e.Applied {
		if c.Listing.Prefix.IsValid() {
			z.Server.Changed(before, after, nil)
			return
		}
		names = append(names, c.Listing.Name)
	}
	if e.All {
		names = nil
	}
	z.Server.Changed(before, after, names)
}

// Names returns the names of the zones, separated by commas.
func (z *Zones) Names() string {
	var all []string
	for _, zone := range z.config.RPZZones {
		all = append(all, zone.Name)
	}
	return strings.Join(all, ", ")
}
