package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/cmd/rempart/cli"
	"rempart/internal/config"
	"rempart/internal/dnstest"
	"rempart/internal/web/lookup"
	"rempart/internal/wire"
)

// lookupNames is the number of names of TestPortalAgreesWithResolver.
const lookupNames = 100_000

// TestPortalAgreesWithResolver checks that the pages say of every name what a client gets: for listed and allowed names and the names around them, special-use names,
// names that redirect to listed ones, and names with addresses of the local network.
func TestPortalAgreesWithResolver(t *testing.T) {
	t.Parallel()
	number := lookupNames
	if testing.Short() {
		number /= 100
	}
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		switch name := strings.ToLower(q.Msg.Question[0].Name); {
		case strings.HasPrefix(name, "alias"):
			dnstest.Answer("@ 300 IN CNAME x.subtree0.example.", "x.subtree0.example. 300 IN A "+origin)(q)
		case strings.HasPrefix(name, "router"):
			dnstest.Answer("@ 300 IN A 192.168.1.1")(q)
		case strings.HasPrefix(name, "missing"):
			q.Send(q.Reply(dns.RcodeNameError))
		default:
			dnstest.Answer("@ 300 IN A " + origin)(q)
		}
	})
	dir := t.TempDir()
	list, allow := filepath.Join(dir, "list.txt"), filepath.Join(dir, "allow.txt")
	var blocked, allowed []string
	for i := range 1000 {
		blocked = append(blocked, fmt.Sprintf("0.0.0.0 exact%d.example", i), fmt.Sprintf("||subtree%d.example^", i))
		allowed = append(allowed, fmt.Sprintf("ok.subtree%d.example", i))
	}
	write(t, list, append(blocked, "||x.onion^", "||bad.test^")...)
	write(t, allow, allowed...)
	s := newTestServer(t, map[string]string{
		"UPSTREAMS": "udp://" + u.Addr.String(), "LISTS": list, "ALLOW": allow, "DATA_DIR": filepath.Join(dir, "data"), "REBINDING": "refuse", "CLIENTS": "0.0.0.0/0",
	})
	forms := []string{
		"exact%d.example", "www.exact%d.example", "subtree%d.example", "a.b.subtree%d.example", "ok.subtree%d.example", "x.ok.subtree%d.example",
		"x%d.onion", "a%d.x.onion", "bad%d.test", "a%d.bad.test", "name%d.localhost", "good%d.example.com", "alias%d.example.com", "router%d.example.com", "missing%d.example.com", "n%d.internal",
	}
	names := newNameLookup(s)
	worker := s.resolver.NewWorker()
	counts := map[lookup.Outcome]int{}
	for i := range number {
		text := fmt.Sprintf(forms[i%len(forms)], i/len(forms)%1000)
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		r := names.lookup(t.Context(), name, netip.MustParseAddr("192.0.2.99"))
		counts[r.Outcome]++
		packed, err := question(text).Pack()
		if err != nil {
			t.Fatal(err)
		}
		batch := []wire.Query{{Packet: packed, Client: netip.MustParseAddr("192.0.2.99"), Out: make([]byte, 0, 4096)}}
		if worker.Fast(batch); batch[0].Outcome == wire.Slow {
			s.resolver.Slow(t.Context(), &batch[0])
		}
		m := new(dns.Msg)
		if err := m.Unpack(batch[0].Out); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if isBlocked := address(m) == "127.0.0.1" && hasError(m, dns.ExtendedErrorCodeForgedAnswer); isBlocked != r.IsBlocked() {
			t.Fatalf("%s: the page says %+v, and the resolver answers %v", text, r, m)
		}
		if isWithheld := len(m.Answer) == 0 && hasError(m, dns.ExtendedErrorCodeFiltered, dns.ExtendedErrorCodeBlocked); isWithheld != (r.Outcome == lookup.Withheld) {
			t.Fatalf("%s: the page says %+v, and the resolver answers %v", text, r, m)
		}
	}
	for _, o := range []lookup.Outcome{lookup.Passes, lookup.Allowed, lookup.Blocked, lookup.Reserved, lookup.Withheld} {
		if counts[o] == 0 {
			t.Errorf("no name has the outcome %d: %v", o, counts)
		}
	}
}

func hasError(m *dns.Msg, codes ...uint16) bool {
	for _, o := range m.IsEdns0().Option {
		if e, ok := o.(*dns.EDNS0_EDE); ok {
			for _, c := range codes {
				if e.InfoCode == c {
					return true
				}
			}
		}
	}
	return false
}

// newTestServer returns a server with its lists in force and its upstreams in use, without listeners. settings are without their prefix.
func newTestServer(t *testing.T, settings map[string]string) *server {
	t.Helper()
	environ := map[string]string{}
	for name, value := range settings {
		environ[config.Prefix+name] = value
	}
	c, err := config.LoadFrom(environ)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(t.Context(), c, slog.New(slog.DiscardHandler), cli.NewProgress(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.lists.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, func(ctx context.Context) error { return s.forward.Run(ctx, s.retry) })
	dnstest.Running(t, s.lists.Run)
	for end := time.Now().Add(time.Minute); s.set().View().Version() == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	return s
}
