package setup

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
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

// Forwarding holds the upstreams, and the zones of REMPART_FORWARD with upstreams of their own.
type Forwarding struct {
	config   *config.Config
	log      *slog.Logger
	Identity string           // upstream.Config.Identity of all pools
	Main     *upstream.Switch // its endpoints are the system's resolvers if REMPART_UPSTREAMS is empty
	Zones    []resolver.Zone
	Pools    []*upstream.Pool // the pools of Zones, in the same order

	mu      sync.Mutex // for Refresh
	problem string     // why the system's resolvers cannot be used; "" if they can
}

// NewForwarding returns the configured upstreams, or the system's resolvers, which may not be known yet. questions is the maximum number of concurrent
// questions; 0 means the default of package upstream. An error is always an error of the configuration.
func NewForwarding(c *config.Config, log *slog.Logger, questions int) (*Forwarding, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	f := &Forwarding{config: c, log: log, Identity: hex.EncodeToString(id[:])}
	f.Main = upstream.NewSwitch(upstream.Config{Identity: f.Identity, Log: log, MaxInFlight: questions})
	if len(c.Upstreams) == 0 {
		f.Refresh()
		return f, f.addZones(questions)
	}
	list, err := parseEndpoints("UPSTREAMS", c.Upstreams)
	if err != nil {
		return nil, err
	}
	if _, err := f.Main.Replace(list); err != nil {
		return nil, err
	}
	return f, f.addZones(questions)
}

// addZones adds the zones of REMPART_FORWARD, each with a pool of its upstreams.
func (f *Forwarding) addZones(questions int) error {
	byZone := map[string][]transport.Endpoint{}
	var order []string
	for _, z := range f.config.Forward {
		name, err := blocklist.AppendName(nil, z.Zone)
		if err != nil {
			return config.Bad("FORWARD", z.Zone+"="+z.Upstream, err.Error())
		}
		if len(name) == 1 {
			return config.Bad("FORWARD", z.Zone+"="+z.Upstream, "the zone must be below the root: set REMPART_UPSTREAMS to forward all other names")
		}
		one, err := parseEndpoints("FORWARD", []string{z.Upstream})
		if err != nil {
			return err
		}
		if byZone[string(name)] == nil {
			order = append(order, string(name))
		}
		byZone[string(name)] = append(byZone[string(name)], one...)
	}
	for _, name := range order {
		p, err := upstream.New(upstream.Config{Endpoints: byZone[name], Identity: f.Identity, Log: f.log, MaxInFlight: questions})
		if err != nil {
			return err
		}
		f.Pools = append(f.Pools, p)
		f.Zones = append(f.Zones, resolver.Zone{Name: []byte(name), Upstreams: p})
	}
	return nil
}

// Refresh reads the system's resolvers again if REMPART_UPSTREAMS is empty, and reports whether they changed. If no resolver is usable, the
// earlier resolvers stay in use.
func (f *Forwarding) Refresh() (changed bool) {
	if len(f.config.Upstreams) > 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	list, err := systemEndpoints(f.config, resolvConf, stubResolvConf)
	if err == nil {
		changed, err = f.Main.Replace(list)
	}
	if err != nil {
		if problem := err.Error(); problem != f.problem {
			f.problem = problem
			f.log.Warn("the system names no resolver to forward to; until it names one, queries that are neither blocked nor cached fail or get stale answers",
				"error", err)
		}
		return false
	}
	if f.problem != "" || changed {
		f.log.Info("forwarding to the system's resolvers", "upstreams", list)
	}
	f.problem = ""
	return changed
}

// Missing returns the reason why there is no upstream; "" if there is one.
func (f *Forwarding) Missing() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.problem == "" || len(f.Main.Stats().Upstreams) > 0 {
		return ""
	}
	return f.problem
}

// Run maintains the upstreams until ctx ends. It also watches the system's resolvers, and calls changed after they changed.
func (f *Forwarding) Run(ctx context.Context, changed func()) error {
	var g errgroup.Group
	g.Go(func() error { return f.Main.Run(ctx) })
	for _, p := range f.Pools {
		g.Go(func() error { return p.Run(ctx) })
	}
	if len(f.config.Upstreams) == 0 {
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

// Nudge makes the pools probe at once the upstreams that are down.
func (f *Forwarding) Nudge() {
	f.Main.Nudge()
	for _, p := range f.Pools {
		p.Nudge()
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
