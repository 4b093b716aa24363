package resolver_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest/scenario"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

const (
	structuredOption = 65001
	usualUpstream    = "udp://192.0.2.53"
)

// TestScenarios plays the files of testdata/scenarios against a resolver with a real cache and a real pool of upstreams. Their settings are:
//
//	block: NAME or PREFIX, and exact, below, from=DURATION, until=DURATION (since the beginning)
//	allow: NAME
//	upstream: ENDPOINT               default udp://192.0.2.53; several in order of preference
//	forward: ZONE ENDPOINT           the upstream of a zone
//	page: ADDRESS                    of the warning page; default 192.0.2.66 and 2001:db8::66
//	style: page, nxdomain, nodata, refused or null
//	nat64: PREFIX
//	client: PREFIX                   clients that may ask; default all
//	deny-below: yes
//	refuse-rebinding: yes
//	observe: yes
//	maintain: yes                    upstreams are probed, as they are in the program
//
// CHANGE replaces all blocks and allows.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.rpl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".rpl"), func(t *testing.T) {
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s, err := scenario.Parse(file, f)
			if err != nil {
				t.Fatal(err)
			}
			scenario.Play(t, s, startServer)
		})
	}
}

// server makes a resolver the server of a scenario.
type server struct {
	resolver *resolver.Resolver
	worker   *resolver.Worker
	set      *blocklist.Set
	begun    time.Time
	version  uint64
	pools    []*upstream.Pool
	maintain bool
	run      context.Context
	end      context.CancelFunc
	ended    chan error // one value per pool
}

func startServer(settings []scenario.Setting, dial scenario.Dial) (scenario.Server, error) {
	s := &server{begun: time.Now()}
	view, err := s.view(settings)
	if err != nil {
		return nil, err
	}
	s.set = blocklist.NewSet(view)
	store, err := cache.New(cache.MinBytes)
	if err != nil {
		return nil, err
	}
	c := resolver.Config{Set: s.set, Cache: store, StructuredOption: structuredOption, Identity: "0123abcd",
		PageIPv4: netip.MustParseAddr("192.0.2.66"), PageIPv6: netip.MustParseAddr("2001:db8::66")}
	if err := s.configure(&c, settings, dial); err != nil {
		return nil, err
	}
	if s.resolver, err = resolver.New(c); err != nil {
		return nil, err
	}
	s.worker = s.resolver.NewWorker()
	s.run, s.end = context.WithCancel(context.Background())
	s.ended = make(chan error, len(s.pools))
	if s.maintain {
		s.runPools()
	}
	return s, nil
}

func (s *server) runPools() {
	for _, p := range s.pools {
		go func() { s.ended <- p.Run(s.run) }()
	}
}

// configure applies all settings except blocks and allows.
func (s *server) configure(c *resolver.Config, settings []scenario.Setting, dial scenario.Dial) error {
	var endpoints []transport.Endpoint
	for _, set := range settings {
		var err error
		switch words := strings.Fields(set.Value); set.Key {
		case "block", "allow":
		case "upstream":
			var e transport.Endpoint
			e, err = transport.ParseEndpoint(set.Value)
			endpoints = append(endpoints, e)
		case "forward":
			err = s.forward(c, words, dial)
		case "page":
			var addr netip.Addr
			if addr, err = netip.ParseAddr(set.Value); addr.Is4() {
				c.PageIPv4 = addr
			} else {
				c.PageIPv6 = addr
			}
		case "style":
			style, ok := map[string]resolver.Style{"page": resolver.Page, "nxdomain": resolver.NXDomain, "nodata": resolver.NoData,
				"refused": resolver.Refused, "null": resolver.Null}[set.Value]
			if c.Style = style; !ok {
				err = errors.New("no such style")
			}
		case "nat64":
			var prefix netip.Prefix
			prefix, err = netip.ParsePrefix(set.Value)
			c.NAT64 = append(c.NAT64, prefix)
		case "client":
			var prefix netip.Prefix
			prefix, err = netip.ParsePrefix(set.Value)
			c.Clients = append(c.Clients, prefix)
		case "deny-below":
			c.DenyBelow = set.Value == "yes"
		case "refuse-rebinding":
			c.RefuseRebinding = set.Value == "yes"
		case "observe":
			c.Observe = set.Value == "yes"
		case "maintain":
			s.maintain = set.Value == "yes"
		default:
			err = errors.New("no such setting")
		}
		if err != nil {
			return set.Errorf("%w", err)
		}
	}
	if len(endpoints) == 0 {
		e, err := transport.ParseEndpoint(usualUpstream)
		if err != nil {
			return err
		}
		endpoints = append(endpoints, e)
	}
	p, err := s.pool(dial, c.Identity, endpoints)
	c.Upstreams = p
	return err
}

func (s *server) pool(dial scenario.Dial, identity string, endpoints []transport.Endpoint) (*upstream.Pool, error) {
	p, err := upstream.New(upstream.Config{Endpoints: endpoints, Identity: identity, Dial: dial})
	if err == nil {
		s.pools = append(s.pools, p)
	}
	return p, err
}

// forward adds a zone with an upstream of its own.
func (s *server) forward(c *resolver.Config, words []string, dial scenario.Dial) error {
	if len(words) != 2 {
		return errors.New("a zone and an endpoint are needed")
	}
	name, err := wire.AppendName(nil, words[0])
	if err != nil {
		return err
	}
	e, err := transport.ParseEndpoint(words[1])
	if err != nil {
		return err
	}
	p, err := s.pool(dial, c.Identity, []transport.Endpoint{e})
	c.Forward = append(c.Forward, resolver.Zone{Name: name, Upstreams: p})
	return err
}

// view compiles the blocks and allows of settings.
func (s *server) view(settings []scenario.Setting) (*blocklist.View, error) {
	b := blocklist.NewBuilder()
	for _, set := range settings {
		if set.Key != "block" && set.Key != "allow" {
			continue
		}
		l, err := s.listing(set)
		if err == nil {
			err = b.Add(l)
		}
		if err != nil {
			return nil, set.Errorf("%w", err)
		}
	}
	s.version++
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: s.version}, b.Input(blocklist.Source{Name: "scenario"})); err != nil {
		return nil, err
	}
	snapshot, err := blocklist.Open(buf.Bytes())
	if err != nil {
		return nil, err
	}
	return blocklist.NewView(snapshot, nil), nil
}

// listing reads a listing such as "evil.example exact from=60s until=120s", with a name or a prefix.
func (s *server) listing(set scenario.Setting) (l blocklist.Listing, err error) {
	words := strings.Fields(set.Value)
	l.Scope, l.Category = blocklist.Subtree, blocklist.Phishing
	if set.Key == "allow" {
		l.Decision = blocklist.Allow
	}
	if l.Prefix, err = netip.ParsePrefix(words[0]); err != nil {
		if l.Name, err = blocklist.AppendName(nil, words[0]); err != nil {
			return l, err
		}
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "exact":
			l.Scope = blocklist.Exact
		case "below":
			l.Scope = blocklist.Below
		case "from", "until":
			d, err := time.ParseDuration(value)
			if err != nil {
				return l, err
			}
			if at := s.begun.Add(d).Unix(); key == "from" {
				l.Start = at
			} else {
				l.Expiry = at
			}
		default:
			return l, errors.New("unknown word " + word)
		}
	}
	return l, nil
}

// Answer handles a query as package listen does.
func (s *server) Answer(q scenario.Query) []byte {
	batch := make([]wire.Query, 1)
	w := &batch[0]
	w.Packet, w.Client = q.Packed, q.Client
	if q.TCP {
		w.Transport = wire.TCP
	}
	s.worker.Fast(batch)
	switch {
	case w.Outcome == wire.Slow:
		resolver.Continue(s.run, s.worker, w)
	case w.Renew:
		renewal := *w
		go resolver.Continue(s.run, s.worker, &renewal)
	}
	if w.Outcome != wire.Answered {
		return nil
	}
	return w.Out
}

func (s *server) Change(settings []scenario.Setting) error {
	for _, set := range settings {
		if set.Key != "block" && set.Key != "allow" {
			return set.Errorf("only blocks and allows can change")
		}
	}
	view, err := s.view(settings)
	if err != nil {
		return err
	}
	return s.set.Replace(view)
}

func (s *server) Close() {
	s.end()
	s.resolver.Close()
	if !s.maintain {
		s.runPools() // Run returns at once, and ends every exchange of the pool
	}
	for range s.pools {
		<-s.ended
	}
}
