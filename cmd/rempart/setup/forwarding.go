package setup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/internal/config"
	"rempart/internal/filewatch"
	"rempart/resolver"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

// resolversEvery is the interval between checks for changes of the system's resolvers. It is short because a household has no DNS before they are known.
const resolversEvery = 250 * time.Millisecond

// lookupQuestions is the maximum number of concurrent questions about the host names of upstreams.
const lookupQuestions = 64

// Forwarding holds the upstreams, and the zones of REMPART_FORWARD with upstreams of their own.
type Forwarding struct {
	config      *config.Config
	log         *slog.Logger
	Identity    string           // upstream.Config.Identity of all pools
	Main        *upstream.Switch // its endpoints are the system's resolvers if REMPART_UPSTREAMS is empty
	Zones       []resolver.Zone
	ZoneGroups  []*upstream.Switch // the upstreams of Zones, in the same order
	bootstrap   *upstream.Switch   // looks up the host names of upstreams; nil if no upstream has one; may be Main
	system      *upstream.Switch   // its endpoints are the system's resolvers; nil if they are not used
	systemNeeds string             // the setting, without its prefix, to use if the system's resolvers cannot be used

	mu      sync.Mutex // for Refresh
	problem string     // why the system's resolvers cannot be used; "" if they can
}

// NewForwarding returns the configured upstreams, or the system's resolvers, which may not be known yet. questions is the maximum number of concurrent
// questions; 0 means the default of package upstream. An error is always an error of the configuration.
func NewForwarding(c *config.Config, log *slog.Logger, questions int) (*Forwarding, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	f := &Forwarding{config: c, log: log, Identity: hex.EncodeToString(id[:])}
	main, err := parseEndpoints("UPSTREAMS", c.Upstreams)
	if err != nil {
		return nil, err
	}
	zones, err := parseZones(c.Forward)
	if err != nil {
		return nil, err
	}
	strategies, err := parseStrategies(c.Strategy, zones)
	if err != nil {
		return nil, err
	}
	made := upstream.Config{Identity: f.Identity, Log: log, MaxInFlight: questions, Strategy: strategies.main}
	if len(main) == 0 {
		f.Main = upstream.NewSwitch(made, nil)
		f.system, f.systemNeeds = f.Main, "UPSTREAMS"
	}
	if err := f.setBootstrap(needLookup(main) || slices.ContainsFunc(zones, func(z zone) bool { return needLookup(z.endpoints) })); err != nil {
		return nil, err
	}
	var lookup upstream.Lookup
	if f.bootstrap != nil {
		lookup = f.bootstrap.Lookup
	}
	if f.Main == nil {
		f.Main = upstream.NewSwitch(made, lookup)
		if _, err := f.Main.Replace(main); err != nil {
			return nil, err
		}
	}
	f.Refresh()
	for _, z := range zones {
		made.Strategy = strategies.of(z.name)
		group := upstream.NewSwitch(made, lookup)
		if _, err := group.Replace(z.endpoints); err != nil {
			return nil, err
		}
		f.ZoneGroups = append(f.ZoneGroups, group)
		f.Zones = append(f.Zones, resolver.Zone{Name: []byte(z.name), Upstreams: group})
	}
	return f, nil
}

func needLookup(list []transport.Endpoint) bool {
	return slices.ContainsFunc(list, transport.Endpoint.NeedsLookup)
}

// setBootstrap sets the resolvers that look up the host names of upstreams: those of REMPART_BOOTSTRAP, or the system's.
func (f *Forwarding) setBootstrap(needed bool) error {
	list, err := parseEndpoints("BOOTSTRAP", f.config.Bootstrap)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(list, transport.Endpoint.NeedsLookup); i >= 0 {
		return config.Bad("BOOTSTRAP", f.config.Bootstrap[i], "the host must be an IP address, or its address must follow after @, because these resolvers look up the host names of the upstreams")
	}
	switch {
	case !needed:
		return nil
	case len(list) == 0 && f.system != nil:
		f.bootstrap = f.system
		return nil
	}
	f.bootstrap = upstream.NewSwitch(upstream.Config{Identity: f.Identity, Log: f.log, MaxInFlight: lookupQuestions}, nil)
	if len(list) == 0 {
		f.system, f.systemNeeds = f.bootstrap, "BOOTSTRAP"
		return nil
	}
	_, err = f.bootstrap.Replace(list)
	return err
}

// zone is a zone of REMPART_FORWARD.
type zone struct {
	name      string // in wire format
	endpoints []transport.Endpoint
}

// parseZones reads the zones of REMPART_FORWARD, each with all of its upstreams.
func parseZones(forwards []config.Forward) (zones []zone, err error) {
	for _, f := range forwards {
		name, err := blocklist.AppendName(nil, f.Zone)
		if err != nil {
			return nil, config.Bad("FORWARD", f.Zone+"="+f.Upstream, err.Error())
		}
		if len(name) == 1 {
			return nil, config.Bad("FORWARD", f.Zone+"="+f.Upstream, "the zone must be below the root: set REMPART_UPSTREAMS to forward all other names")
		}
		one, err := parseEndpoints("FORWARD", []string{f.Upstream})
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(zones, func(z zone) bool { return z.name == string(name) })
		if i < 0 {
			i = len(zones)
			zones = append(zones, zone{name: string(name)})
		}
		zones[i].endpoints = append(zones[i].endpoints, one...)
	}
	return zones, nil
}

// strategies are the strategies of REMPART_UPSTREAMS and of the zones that have one of their own.
type strategies struct {
	main  upstream.Strategy
	zones map[string]upstream.Strategy // by the zone in wire format
}

// of returns the strategy of a zone.
func (s *strategies) of(zone string) upstream.Strategy {
	if own, ok := s.zones[zone]; ok {
		return own
	}
	return s.main
}

// parseStrategies reads REMPART_STRATEGY: a strategy for all upstreams, and zone=strategy pairs.
func parseStrategies(values []string, zones []zone) (strategies, error) {
	s := strategies{zones: map[string]upstream.Strategy{}}
	seen := false
	for _, value := range values {
		name, text, isZone := strings.Cut(value, "=")
		if !isZone {
			name, text = "", value
		}
		parsed, err := upstream.ParseStrategy(text)
		if err != nil {
			return s, config.Bad("STRATEGY", value, err.Error())
		}
		if !isZone {
			if seen {
				return s, config.Bad("STRATEGY", value, "only one strategy can apply to all upstreams: write zone=strategy for a zone of REMPART_FORWARD")
			}
			s.main, seen = parsed, true
			continue
		}
		wire, err := blocklist.AppendName(nil, name)
		if err != nil || !slices.ContainsFunc(zones, func(z zone) bool { return z.name == string(wire) }) {
			return s, config.Bad("STRATEGY", value, "the zone is not in REMPART_FORWARD")
		}
		s.zones[string(wire)] = parsed
	}
	return s, nil
}

// Refresh reads the system's resolvers again if they are used, and reports whether they changed. If no resolver is usable, the
// earlier resolvers stay in use.
func (f *Forwarding) Refresh() (changed bool) {
	if f.system == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list, err := systemEndpoints(f.config, f.systemNeeds, resolvConf, stubResolvConf)
	if err == nil {
		changed, err = f.system.Replace(list)
	}
	if err != nil {
		if problem := err.Error(); problem != f.problem {
			f.problem = problem
			consequence := "queries that are neither blocked nor cached fail or get stale answers"
			if f.system != f.Main {
				consequence = "the host names of upstreams cannot be looked up"
			}
			f.log.Warn("no resolver of the system can be used; until that changes, "+consequence, "error", err)
		}
		return false
	}
	switch {
	case f.problem == "" && !changed:
	case f.system == f.Main:
		f.log.Info("forwarding to the system's resolvers", "upstreams", list)
	default:
		f.log.Info("the system's resolvers look up the host names of upstreams", "resolvers", list)
	}
	f.problem = ""
	return changed
}

// Missing returns the reason why there is no upstream; "" if there is one.
func (f *Forwarding) Missing() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err := f.Main.Missing(); {
	case len(f.Main.Stats().Upstreams) > 0:
		return ""
	case err == nil || f.problem != "" && f.system == f.bootstrap:
		return f.problem
	default:
		return err.Error()
	}
}

// Run maintains the upstreams until ctx ends. It also watches the system's resolvers, and calls changed after they changed.
func (f *Forwarding) Run(ctx context.Context, changed func()) error {
	return f.run(ctx, f.all(), changed)
}

// RunZones is Run for a process that forwards to the upstreams of zones only.
func (f *Forwarding) RunZones(ctx context.Context) error {
	groups := f.ZoneGroups
	if f.bootstrap != nil {
		groups = append(slices.Clone(groups), f.bootstrap)
	}
	return f.run(ctx, groups, func() {})
}

func (f *Forwarding) run(ctx context.Context, groups []*upstream.Switch, changed func()) error {
	var g errgroup.Group
	for _, s := range groups {
		g.Go(func() error { return s.Run(ctx) })
	}
	if slices.Contains(groups, f.system) {
		g.Go(func() error {
			filewatch.New(resolvConf, stubResolvConf).Run(ctx, resolversEvery, func([]string) {
				if f.Refresh() {
					changed()
				}
			})
			return nil
		})
	}
	return g.Wait()
}

// all returns all groups of upstreams, and the resolvers that look up their host names.
func (f *Forwarding) all() []*upstream.Switch {
	groups := append([]*upstream.Switch{f.Main}, f.ZoneGroups...)
	if f.bootstrap != nil && f.bootstrap != f.Main {
		groups = append(groups, f.bootstrap)
	}
	return groups
}

// Nudge makes all groups probe at once the upstreams that are down.
func (f *Forwarding) Nudge() {
	for _, s := range f.all() {
		s.Nudge()
	}
}

// IsAnswering reports whether at least one upstream outside the zones of REMPART_FORWARD is healthy.
func (f *Forwarding) IsAnswering() bool {
	for _, u := range f.Main.Stats().Upstreams {
		if u.Healthy {
			return true
		}
	}
	return false
}
