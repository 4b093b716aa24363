package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"rempart/internal/config"
	"rempart/resolver/listen"
	"rempart/resolver/upstream/transport"
)

// Files that name the system's resolvers. The second lists the resolvers to which systemd-resolved forwards the queries to its stub resolver
// on 127.0.0.53 (systemd-resolved.service(8)).
const (
	resolvConf     = "/etc/resolv.conf"
	stubResolvConf = "/run/systemd/resolve/resolv.conf"
)

// systemEndpoints returns the resolvers in the file at path, without this process itself. If one of them is the stub of systemd-resolved, the resolvers to which
// the stub forwards follow, from the file at behind: the stub may be switched off, or forward to this process. Errors say to set variable, which is the name of
// a setting without its prefix.
func systemEndpoints(c *config.Config, variable, path, behind string) ([]transport.Endpoint, error) {
	all, err := readResolvConf(variable, path)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, isStub) {
		more, err := readResolvConf(variable, behind)
		if err == nil {
			all = append(all, slices.DeleteFunc(more, func(e transport.Endpoint) bool { return slices.Contains(all, e) })...)
		}
	}
	others := slices.DeleteFunc(slices.Clone(all), func(e transport.Endpoint) bool { return listensOn(c, e.Addr) })
	if len(all) > 0 && len(others) == 0 {
		return nil, fmt.Errorf("%s names only this server: Rempart itself answers on %s; set %s to the resolvers to ask",
			path, all[0], config.Prefix+variable)
	}
	if len(others) == 0 {
		return nil, fmt.Errorf("no resolver to ask: %s names no name server; set %s", path, config.Prefix+variable)
	}
	return others, nil
}

func isStub(e transport.Endpoint) bool {
	a := e.Addr.Addr()
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 53}) || a == netip.AddrFrom4([4]byte{127, 0, 0, 54})
}

// readResolvConf returns the resolvers that a file names. Invalid lines are an error only if no line is valid.
func readResolvConf(variable, path string) ([]transport.Endpoint, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no resolver to ask: %s does not exist; set %s, for example to tls://192.0.2.1#name.example", path, config.Prefix+variable)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the system's resolvers: %w; set %s instead", err, config.Prefix+variable)
	}
	defer f.Close()
	all, err := transport.ResolvConf(f)
	if err != nil && len(all) == 0 {
		return nil, fmt.Errorf("reading %s: %w; set %s instead", path, err, config.Prefix+variable)
	}
	return all, nil
}

// listensOn reports whether addr is an address on which this process listens.
func listensOn(c *config.Config, addr netip.AddrPort) bool {
	own, _ := listen.Own(addr.Addr()) // if the interfaces cannot be read, the loop probe still detects a loop
	for _, l := range c.Listen {
		if l.Port() == addr.Port() && (l.Addr() == addr.Addr() || l.Addr().IsUnspecified() && own) {
			return true
		}
	}
	return false
}

func parseEndpoints(variable string, values []string) ([]transport.Endpoint, error) {
	var list []transport.Endpoint
	for _, v := range values {
		e, err := transport.ParseEndpoint(v)
		if err != nil {
			return nil, config.Bad(variable, v, err.Error())
		}
		list = append(list, e)
	}
	return list, nil
}
