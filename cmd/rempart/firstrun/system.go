package firstrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"rempart/cmd/rempart/machine"
	"rempart/internal/durable"
)

// system is what setup changes besides its own files. Tests use a folder in place of the root, and another run.
type system struct {
	root string
	run  func(ctx context.Context, name string, args ...string) error
}

func newSystem() system {
	return system{root: "/", run: func(ctx context.Context, name string, args ...string) error {
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	}}
}

func (s system) path(name string) string { return filepath.Join(s.root, name) }

// hasSystemd reports whether systemd runs here (sd_booted(3)).
func (s system) hasSystemd() bool {
	_, err := os.Stat(s.path("run/systemd/system"))
	return err == nil
}

// hasUnit reports whether Rempart's unit is installed.
func (s system) hasUnit() bool {
	return slices.ContainsFunc([]string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}, func(dir string) bool {
		_, err := os.Stat(s.path(filepath.Join(dir, "rempart.service")))
		return err == nil
	})
}

// ownersOf returns the programs, except Rempart, whose sockets leave no room for a listener at one of the addresses.
func (s system) ownersOf(addrs []netip.AddrPort) ([]string, error) {
	m := machine.Machine{Root: s.root}
	var taken []machine.Socket
	for _, addr := range addrs {
		sockets, err := m.Sockets(addr.Port())
		if err != nil {
			return nil, err
		}
		taken = append(taken, slices.DeleteFunc(sockets, func(other machine.Socket) bool { return !collide(addr.Addr(), other.At.Addr()) })...)
	}
	return m.Holders(taken).Others, nil
}

// collide reports whether sockets with the same port cannot be bound to both addresses. A socket of all IPv6 addresses often receives IPv4 as well.
func collide(a, b netip.Addr) bool {
	all := func(one, other netip.Addr) bool { return one.IsUnspecified() && (one.Is6() || other.Is4()) }
	return a == b || all(a, b) || all(b, a)
}

// resolvedDropIn turns the stub resolver of systemd-resolved off, which takes port 53 (resolved.conf(5)).
const (
	resolvedDropIn     = "etc/systemd/resolved.conf.d/rempart.conf"
	resolvedDropInText = "# Written by \"rempart setup\": port 53 belongs to Rempart.\n[Resolve]\nDNSStubListener=no\n"
	stubLink           = "etc/resolv.conf"
	realResolvers      = "/run/systemd/resolve/resolv.conf"
)

// freePort makes systemd-resolved leave port 53. If resolv.conf leads to the stub resolver, it leads to the file of the real resolvers afterwards.
func (s system) freePort(ctx context.Context) error {
	if err := makeFolder(filepath.Dir(s.path(resolvedDropIn))); err != nil {
		return err
	}
	if err := durable.WriteMode(s.path(resolvedDropIn), []byte(resolvedDropInText), 0o644); err != nil {
		return err
	}
	if target, err := os.Readlink(s.path(stubLink)); err == nil && strings.HasSuffix(target, "stub-resolv.conf") {
		fresh := s.path(stubLink) + ".rempart"
		_ = os.Remove(fresh) // of a run that was interrupted
		if err := errors.Join(os.Symlink(realResolvers, fresh), os.Rename(fresh, s.path(stubLink))); err != nil {
			return err
		}
	}
	return s.run(ctx, "systemctl", "restart", "systemd-resolved")
}

// start starts the unit, now and at every boot.
func (s system) start(ctx context.Context) error {
	if _, err := exec.LookPath("systemd-sysusers"); err == nil { // the user of the unit; packages have made it
		if err := s.run(ctx, "systemd-sysusers"); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", "rempart"}, {"restart", "rempart"}} {
		if err := s.run(ctx, "systemctl", args...); err != nil {
			return err
		}
	}
	return nil
}

// homeAddress returns the IPv4 address of this machine in the network of its default route. It sends nothing. The result is not valid without such a route.
func homeAddress() netip.Addr {
	c, err := net.Dial("udp4", "192.0.2.1:53")
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// provePatience is how long setup waits for the first blocked answer.
const provePatience = 15 * time.Second

// prove asks the server at an address for a test name until the name is blocked, and returns the answer in words.
func prove(ctx context.Context, at string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, provePatience)
	defer cancel()
	for {
		m, _, askErr := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, new(dns.Msg).SetQuestion("phishing.test.", dns.TypeA), at)
		if askErr == nil && m.Rcode == dns.RcodeSuccess { // the name does not exist unless it is blocked
			for _, rr := range m.Answer {
				if a, ok := rr.(*dns.A); ok {
					return "the address of the warning page, " + a.A.String(), nil
				}
			}
			return "no address", nil
		}
		if err = askErr; err == nil {
			err = errors.New("the test name phishing.test is not blocked")
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-time.After(200 * time.Millisecond):
		}
	}
}
