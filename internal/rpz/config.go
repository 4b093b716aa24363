// Package rpz serves the set as response policy zones to resolvers that are not Rempart: zone transfers, whole (RFC 5936) and incremental (RFC 1995), NOTIFY
// (RFC 1996), TSIG (RFC 8945), over TCP and TLS (RFC 9103). A zone holds the set under one policy, and its serial is the set's version.
// One goroutine makes states from views. A state is immutable: a view, the time as of which it is read, and the differences from earlier serials. A transfer
//
// reads the state with which it started.
package rpz

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"rempart/blocklist"
)

// Config configures the zones of a Server and its clients.
type Config struct {
	Zones []ZoneConfig
	Keys  []Key

	// Keyless are the addresses that may transfer without a key. It is for resolvers without TSIG, such as Unbound, on the same machine or behind a tunnel: an
	// address alone proves little.
	Keyless []netip.Prefix

	// View returns the present set; nil while there is none, or none that is whole: Changed then reports the first one. It is called once, when Run starts.
	// Zones show each view as of the time at which its Info says that it was made.
	View func() *blocklist.View

	// Renew asks for a new version of the set with the same content, because listings came into force or expired: a zone does not change under one serial. nil:
	// the zones change with the next version. It must not block.
	Renew func()

	Secondaries []Secondary // get a NOTIFY of each new version
	TLS         *tls.Config // for Listeners.TLS; its certificates are used
	Log         *slog.Logger
}

// ZoneConfig is one policy as a zone.
type ZoneConfig struct {
	Name       string // of the zone, text form
	Categories blocklist.Categories
	Action     Action
	Page       string   // the page's name, for ActionPage
	NoAllows   bool     // allows are not written, except below a block: other policy zones of the resolver may block the name
	Keys       []string // names of the keys that may transfer it; nil for all of Config.Keys
}

// Action is a resolver's answer to a blocked query.
type Action uint8

const (
	ActionPage     Action = iota // CNAME of the page's name: the resolver answers with the page's addresses
	ActionNXDOMAIN               // CNAME "."
	ActionNODATA                 // CNAME "*."
)

// Secondary is a server that gets a NOTIFY of each new version.
type Secondary struct {
	Addr netip.AddrPort // UDP
	Key  string         // the name of the key to sign with; "" for none
}

const (
	maxZones       = 64
	maxSecondaries = 1024
)

// New returns a server. It serves nothing before Run.
func New(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, keys: map[string]*key{}}
	if cfg.View == nil || cfg.Log == nil {
		return nil, errors.New("response policy zones: a view and a log are needed")
	}
	if len(cfg.Zones) == 0 || len(cfg.Zones) > maxZones {
		return nil, fmt.Errorf("response policy zones: %d zones are configured; give 1 to %d", len(cfg.Zones), maxZones)
	}
	if len(cfg.Secondaries) > maxSecondaries {
		return nil, fmt.Errorf("response policy zones: more than %d resolvers to notify", maxSecondaries)
	}
	for _, k := range cfg.Keys {
		made, err := newKey(k)
		if err != nil {
			return nil, fmt.Errorf("response policy zones: %w", err)
		}
		if s.keys[string(made.name)] != nil {
			return nil, fmt.Errorf("response policy zones: two TSIG keys are named %s", k.Name)
		}
		s.keys[string(made.name)] = made
	}
	for _, z := range cfg.Zones {
		made, err := s.newZone(z)
		if err != nil {
			return nil, fmt.Errorf("response policy zones: %w", err)
		}
		s.zones = append(s.zones, made)
	}
	for _, sec := range cfg.Secondaries {
		n, err := s.newNotifier(sec)
		if err != nil {
			return nil, fmt.Errorf("response policy zones: %w", err)
		}
		s.notifiers = append(s.notifiers, n)
	}
	s.slots = make(chan struct{}, maxTransfers)
	s.limits = limits{idle: idleTimeout, unknown: unknownTimeout, write: writeTimeout, transfer: transferTimeout}
	s.places = newPlaces(s.isConfigured)
	s.pending.wake = make(chan struct{}, 1)
	s.builder = newBuilder(s.zones)
	return s, nil
}

func (s *Server) newZone(c ZoneConfig) (*zone, error) {
	name, err := blocklist.AppendName(nil, c.Name)
	if err != nil || len(name) == 1 {
		return nil, fmt.Errorf("%q is not the name of a zone", c.Name)
	}
	if len(name) > maxZoneName {
		return nil, fmt.Errorf("the zone name %q leaves no room for names within it; choose one of at most %d bytes", c.Name, maxZoneName)
	}
	if s.zoneOf(name) != nil {
		return nil, fmt.Errorf("the zone %s is configured twice", c.Name)
	}
	z := &zone{name: name, text: blocklist.NameText(name), categories: c.Categories, noAllows: c.NoAllows}
	switch c.Action {
	case ActionPage:
		if z.target, err = blocklist.AppendName(nil, c.Page); err != nil || len(z.target) == 1 {
			return nil, fmt.Errorf("the zone %s sends to the page, whose name %q is none", c.Name, c.Page)
		}
	case ActionNXDOMAIN:
		z.target = []byte{0}
	case ActionNODATA:
		z.target = []byte{1, '*', 0}
	default:
		return nil, fmt.Errorf("the zone %s has an action that is not known: %d", c.Name, c.Action)
	}
	if c.Keys != nil {
		z.keys = map[*key]bool{}
	}
	for _, name := range c.Keys {
		k, err := s.keyOf(name)
		if err != nil {
			return nil, fmt.Errorf("the zone %s: %w", c.Name, err)
		}
		z.keys[k] = true
	}
	return z, nil
}

// zoneOf returns the zone with a canonical wire name; nil for none.
func (s *Server) zoneOf(name []byte) *zone {
	for _, z := range s.zones {
		if string(z.name) == string(name) {
			return z
		}
	}
	return nil
}

// keyOf returns the key with a name in text form.
func (s *Server) keyOf(name string) (*key, error) {
	if k := s.keys[string(wireName(name))]; k != nil {
		return k, nil
	}
	return nil, fmt.Errorf("there is no TSIG key %q", name)
}

// The numbers of the SOA, in seconds. A zone is checked often, because NOTIFY may be lost, and kept for long: a resolver that cannot reach us continues with
// its copy.
const (
	soaRefresh = 60
	soaRetry   = 30
	soaExpire  = 4 * 7 * 24 * 60 * 60
	recordTTL  = 30 // also the TTL of a blocked answer
)

// serialOf returns the serial of a version: its low 32 bits. It wraps as serials do (RFC 1982): a secondary follows as long as it asks at least once in 2^31
// versions. 0 is an ordinary serial.
func serialOf(version uint64) uint32 { return uint32(version) }

// newer compares serials (RFC 1982 section 3.2).
func newer(a, b uint32) bool { return a != b && a-b < 1<<31 }
