package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/internal/config"
	"rempart/resolver"
	"rempart/resolver/upstream"
)

// builtIn are the names that let anybody see a block, with no list and no network.
func builtIn() ([]blocklist.Listing, error) {
	var listings []blocklist.Listing
	for _, t := range []struct {
		text     string
		category blocklist.Category
	}{{"malware.test", blocklist.Malware}, {"phishing.test", blocklist.Phishing}} {
		name, err := feed.Name(t.text)
		if err != nil {
			return nil, err
		}
		listings = append(listings, blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: t.category})
	}
	return listings, nil
}

const resolvConf = "/etc/resolv.conf"

// endpoints are the configured upstreams, or the system's by the file at path, but for those that are this
// very process.
func endpoints(c *config.Config, path string) ([]upstream.Endpoint, error) {
	if len(c.Upstreams) > 0 {
		return parseEndpoints("UPSTREAMS", c.Upstreams)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no resolver to forward to: there is no %s; set REMPART_UPSTREAMS, to tls://192.0.2.1#name.example for example", path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the system's resolvers: %w; set REMPART_UPSTREAMS instead", err)
	}
	defer f.Close()
	all, err := upstream.ResolvConf(f) // what lines are sound, and an error about those that are not
	if err != nil && len(all) == 0 {
		return nil, fmt.Errorf("reading %s: %w; set REMPART_UPSTREAMS instead", path, err)
	}
	var others []upstream.Endpoint
	for _, e := range all {
		if !listensOn(c, e.Addr) {
			others = append(others, e)
		}
	}
	if len(all) > 0 && len(others) == 0 {
		return nil, fmt.Errorf("%s leads back here: its only name server, %s, is where Rempart itself answers; set REMPART_UPSTREAMS to the resolvers to forward to",
			path, all[0])
	}
	if len(others) == 0 {
		return nil, fmt.Errorf("no resolver to forward to: %s names none; set REMPART_UPSTREAMS", path)
	}
	return others, nil
}

// listensOn reports whether addr is one that will be answered here.
func listensOn(c *config.Config, addr netip.AddrPort) bool {
	for _, l := range c.Listen {
		if l.Port() == addr.Port() && (l.Addr() == addr.Addr() || l.Addr().IsUnspecified() && addr.Addr().IsLoopback()) {
			return true
		}
	}
	return false
}

func parseEndpoints(variable string, values []string) ([]upstream.Endpoint, error) {
	var list []upstream.Endpoint
	for _, v := range values {
		e, err := upstream.ParseEndpoint(v)
		if err != nil {
			return nil, config.Bad(variable, v, err.Error())
		}
		list = append(list, e)
	}
	return list, nil
}

// forwarding is where queries go: the upstreams, and the zones that have their own.
type forwarding struct {
	identity string
	main     *upstream.Pool
	zones    []resolver.Zone
	pools    []*upstream.Pool // all of them
}

func newForwarding(c *config.Config, log *slog.Logger) (*forwarding, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	f := &forwarding{identity: hex.EncodeToString(id[:])}
	list, err := endpoints(c, resolvConf)
	if err != nil {
		return nil, err
	}
	if f.main, err = f.pool(list, log); err != nil {
		return nil, err
	}
	byZone := map[string][]upstream.Endpoint{}
	var order []string
	for _, z := range c.Forward {
		name, err := blocklist.AppendName(nil, z.Zone)
		if err != nil {
			return nil, config.Bad("FORWARD", z.Zone+"="+z.Upstream, err.Error())
		}
		if len(name) == 1 {
			return nil, config.Bad("FORWARD", z.Zone+"="+z.Upstream, "name a zone below the root: the root's resolvers are those of REMPART_UPSTREAMS")
		}
		one, err := parseEndpoints("FORWARD", []string{z.Upstream})
		if err != nil {
			return nil, err
		}
		if byZone[string(name)] == nil {
			order = append(order, string(name))
		}
		byZone[string(name)] = append(byZone[string(name)], one...)
	}
	for _, name := range order {
		p, err := f.pool(byZone[name], log)
		if err != nil {
			return nil, err
		}
		f.zones = append(f.zones, resolver.Zone{Name: []byte(name), Upstreams: p})
	}
	return f, nil
}

func (f *forwarding) pool(list []upstream.Endpoint, log *slog.Logger) (*upstream.Pool, error) {
	p, err := upstream.New(upstream.Config{Endpoints: list, Identity: f.identity, Log: log})
	if err == nil {
		f.pools = append(f.pools, p)
	}
	return p, err
}

func style(b config.BlockAnswer) resolver.Style {
	return map[config.BlockAnswer]resolver.Style{
		"page": resolver.Page, "nxdomain": resolver.NXDomain, "nodata": resolver.NoData,
		"refused": resolver.Refused, "null": resolver.Null,
	}[b]
}
