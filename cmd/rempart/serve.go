package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/public"
	"rempart/internal/admin"
	"rempart/internal/config"
	"rempart/internal/statistics"
	"rempart/resolver"
	"rempart/resolver/cache"
	"rempart/resolver/listen"
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Answer DNS (what rempart does without a subcommand)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load()
			if err != nil {
				return err
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			log := slog.New(slog.NewTextHandler(progress, nil))
			sig := cli.CatchSignals(cmd.Context())
			defer sig.Stop()
			ctx := sig.Context
			s, err := newServer(ctx, c, log, progress)
			if err != nil {
				return err
			}
			defer s.close()
			return s.run(ctx, cmd, sig.Hangup)
		},
	}
}

// server holds all parts of "rempart serve".
type server struct {
	config      *config.Config
	log         *slog.Logger
	progress    *cli.Progress // until the greeting
	shares      setup.Descriptors
	forward     *setup.Forwarding
	lists       *feed.Lists
	changed     chan struct{}  // signals the edge that the set of the lists changed
	publish     chan struct{}  // signals control that the set of the lists changed
	edge        *setup.Edge    // nil: the set of the lists is in force
	control     *controlServer // nil unless control runs in the same process
	feeds       *setup.FeedsFile
	resolver    *resolver.Resolver
	secure      publicCertificates // nil: no encrypted transports
	tap         *setup.Tap         // nil: no dnstap
	clients     *setup.ClientWatcher
	cookies     *setup.Cookies
	continues   *setup.Continue
	registry    *prometheus.Registry
	public      *public.Pages
	statistics  *statistics.Recorder // nil: none
	page        http.Handler         // the warning page, and ACME challenges
	started     time.Time
	again       chan struct{}    // signals that a command requests a reload
	dnsAt       []netip.AddrPort // addresses of the DNS listeners over UDP and TCP
	encryptedAt []transportAddresses
	pageAt      []netip.AddrPort // addresses of the page
	portalAt    []netip.AddrPort // addresses of the portal
	refusedAt   []netip.AddrPort // addresses on which https:// connections to the page are refused
	metricsAt   []netip.AddrPort // addresses of the metrics
	ending      atomic.Bool
}

// newServer creates the parts. Nothing runs and no socket is open afterwards.
func newServer(ctx context.Context, c *config.Config, log *slog.Logger, progress *cli.Progress) (*server, error) {
	s := &server{config: c, log: log, progress: progress, registry: prometheus.NewRegistry(), started: time.Now(), again: make(chan struct{}, 1), changed: make(chan struct{}, 1), publish: make(chan struct{}, 1)}
	setup.WarnSecrets(c, log)
	var err error
	if s.shares, err = setup.ProcessDescriptors(c.Connections, log); err != nil {
		return nil, err
	}
	if s.forward, err = setup.NewForwarding(c, log, s.shares.Questions); err != nil {
		return nil, err
	}
	s.feeds, err = setup.NewFeedsFile(c, log, func() (*feed.Lists, error) {
		return setup.NewLists(c, setup.ListsOptions{Log: log, Dial: s.forward.Dialer().DialContext, Progress: progress.ListProgress(), Changed: setup.WakeFunc(s.changed, s.publish)})
	})
	if err != nil {
		return nil, err
	}
	s.lists = s.feeds.Lists
	answers, err := cache.New(int64(c.CacheBytes))
	if err != nil {
		return nil, err
	}
	if err := s.follow(ctx); err != nil {
		return nil, err
	}
	if s.cookies, err = setup.NewCookies(c, log); err != nil {
		return nil, err
	}
	if s.continues, err = setup.NewContinue(c, log); err != nil {
		return nil, err
	}
	rebindingAllow, err := setup.ParseNames("REBINDING_ALLOW", c.RebindingAllow)
	if err != nil {
		return nil, err
	}
	if c.Appeals != "" && s.control == nil {
		log.Warn("REMPART_APPEALS has no effect: only a process that runs control accepts requests for a review; set it for rempart control")
	}
	s.public, err = public.New(c, log, s.publicAnswers())
	if err != nil {
		return nil, err
	}
	s.page = s.public.Warning
	s.resolver, err = resolver.New(resolver.Config{
		MaxQuestions: s.shares.Questions,
		Set:          s.set(), Cache: answers, Upstreams: s.forward.Main, Forward: s.forward.Zones,
		Observe: c.Mode == config.Observe, Clients: c.Clients.Prefixes, Identity: s.forward.Identity, Cookies: s.cookies.Secrets,
		Canaries: setup.Canaries(c.Canary), KeepSingleLabels: c.SingleLabels == config.KeepSingleLabels, DenyBelow: c.NXDomain == config.DenySubtree,
		RefuseRebinding: c.Rebinding == config.RefuseRebinding, RebindingAllow: rebindingAllow, NAT64: c.NAT64,
		Style: setup.BlockStyle(c.BlockAnswer), PageIPv4: c.PageIPv4.Addr, PageIPv6: c.PageIPv6.Addr, BlockTTL: c.BlockTTL,
		StructuredOption: c.StructuredOption, NameSources: c.Reason == config.NameLists, Contact: c.Contact, Organisation: c.Organisation,
		Database: c.FilteringDatabase, OrderPages: s.public.OrderPages(), InfoURL: c.Portal, Probe: s.continues.Probe(), Grants: s.continues.Grants(),
	})
	if err != nil {
		return nil, err
	}
	if s.tap = setup.NewTap(c, s.continues.Probe(), cli.Version(), log); s.tap != nil {
		s.registry.MustRegister(s.tap)
	}
	if s.statistics, err = s.openStatistics(); err != nil {
		return nil, fmt.Errorf("the public statistics: %w (REMPART_STATISTICS=0 writes none)", err)
	}
	s.clients = setup.NewClientWatcher(c.Clients, s.resolver.SetClients, s.resolver.Refused(), log)
	if err := s.openCertificates(); err != nil {
		return nil, err
	}
	s.registry.MustRegister(buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		s.resolver.Collector(), s.lists.Collector())
	if s.edge != nil {
		s.registry.MustRegister(s.edge.Collector())
	}
	if s.control != nil {
		s.control.registerOwn(s.registry)
	}
	if s.secure != nil {
		s.registry.MustRegister(s.secure)
	}
	s.registry.MustRegister(s.forward.Main.Collector("."))
	for i, group := range s.forward.ZoneGroups {
		s.registry.MustRegister(group.Collector(zoneText(s.forward.Zones[i])))
	}
	return s, nil
}

// run serves until ctx ends. It starts the lists first, so that no query is answered before they are in force.
func (s *server) run(ctx context.Context, cmd *cobra.Command, hangup <-chan os.Signal) error {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var below errgroup.Group // the parts that answers need: they end last
	below.Go(func() error { return s.forward.Run(background, s.retry) })
	defer func() {
		s.resolver.Close()
		cancel()
		_ = below.Wait() // they end only because background does
	}()
	workers := runtime.GOMAXPROCS(0) // read before lists are, which may add one
	err := s.lists.Start(ctx)
	s.progress.End()
	if err != nil {
		return fmt.Errorf("%w (the data folder is set by REMPART_DATA_DIR)", err)
	}
	below.Go(func() error { return s.lists.Run(background) })
	below.Go(func() error { return s.clients.Run(background) })
	below.Go(func() error { return s.cookies.Run(background) })
	below.Go(func() error { return s.public.Files().Run(background) })
	if s.statistics != nil {
		below.Go(func() error { return s.statistics.Run(background) })
	}
	below.Go(func() error { return s.continues.Run(background) })
	below.Go(func() error { return s.watchNetwork(background) })
	if s.tap != nil {
		below.Go(func() error { return s.tap.Run(background) })
	}
	if s.control != nil {
		below.Go(func() error { return s.control.run(background) })
	}
	if s.edge != nil {
		if err := s.edge.Start(); err != nil {
			return fmt.Errorf("%w (the data folder is set by REMPART_DATA_DIR)", err)
		}
		below.Go(func() error { return s.edge.Run(background) })
		below.Go(func() error { return s.refresh(background) })
		s.edge.AwaitSet(ctx)
	}
	if ctx.Err() != nil {
		return nil
	}
	sockets, err := s.listen(workers)
	if err != nil {
		return err
	}
	s.registry.MustRegister(sockets.Collector())
	above, ctx := errgroup.WithContext(ctx)
	above.Go(func() error { return s.resolver.Run(ctx) })
	above.Go(func() error { return sockets.Run(ctx) })
	s.dnsAt, s.encryptedAt = sockets.Addrs(), encryptedAddresses(sockets)
	if s.secure != nil {
		above.Go(func() error { return s.designate(ctx) })
	}
	if err := errors.Join(s.serveHTTP(ctx, above), s.refuseHTTPS(ctx, above)); err != nil {
		s.log.Error("a web listener could not be opened; DNS is answered without it", "error", err)
	}
	if s.secure != nil {
		below.Go(func() error { return s.secure.Run(background) }) // when the listeners are open, which answer the challenges of an ACME authority
	}
	above.Go(func() error { return s.reloads(ctx, hangup) })
	s.serveSocket(ctx, above)
	above.Go(func() error { return s.feeds.Run(ctx) })
	greet(cli.Redact(cmd.OutOrStdout()), s, sockets)
	notify(s.log, daemon.SdNotifyReady)
	debug.FreeOSMemory() // reading lists needed many times the memory of their result
	<-ctx.Done()
	s.ending.Store(true)
	notify(s.log, daemon.SdNotifyStopping)
	if err := above.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	s.log.Info("stopped after all pending work was finished")
	return nil
}

// listen opens the DNS sockets, with one UDP socket per worker and address, or uses the sockets of the supervisor.
func (s *server) listen(workers int) (*listen.Server, error) {
	setup.LogAbsent(s.log, "REMPART_LISTEN", s.config.Listen)
	lc := listen.Config{
		Addrs: s.config.Listen, Log: s.log, Serves: s.resolver.Serves, Workers: workers, Spin: s.config.BusyPoll, MaxStreams: s.shares.Streams,
		NewHandler: s.newHandler, Backend: s.config.BackendListen, Proxies: s.config.Proxies,
		Limits: setup.AnswerLimits(s.config), Handshakes: setup.HandshakeLimits(s.config), Ignored: s.config.IgnoredPorts,
	}
	activated, err := setup.ActivatedSockets()
	if err != nil {
		return nil, err
	}
	if len(activated.Packets)+len(activated.Streams) > 0 {
		lc.Addrs, lc.Packets, lc.Streams = nil, activated.Packets, activated.Streams
	}
	if s.secure != nil {
		lc.Secure, lc.TLS, lc.HTTPS, lc.QUIC = s.secure.TLS(), s.config.TLSListen, s.config.HTTPSListen, s.config.QUICListen
		setup.LogAbsent(s.log, "REMPART_TLS_LISTEN", lc.TLS)
		setup.LogAbsent(s.log, "REMPART_HTTPS_LISTEN", lc.HTTPS)
		setup.LogAbsent(s.log, "REMPART_QUIC_LISTEN", lc.QUIC)
	}
	return listen.New(lc)
}

// newHandler returns the handler of one loop over a socket.
func (s *server) newHandler() listen.Handler {
	if s.tap != nil {
		return s.tap.Wrap(s.resolver.NewWorker())
	}
	return s.resolver.NewWorker()
}

// serveHTTP begins to serve the page and the metrics. DNS does not depend on them.
func (s *server) serveHTTP(ctx context.Context, g *errgroup.Group) error {
	var errs []error
	serve := func(at *[]netip.AddrPort, addrs []netip.AddrPort, h func(netip.AddrPort) http.Handler, variable string, secure *tls.Config) {
		setup.LogAbsent(s.log, variable, addrs)
		for _, addr := range addrs {
			addr, err := setup.Web{Addr: addr, Handler: h(addr), Variable: variable, Conns: s.shares.Web, TLS: secure, Log: s.log}.Serve(ctx, g)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			*at = append(*at, addr)
		}
	}
	serve(&s.pageAt, s.config.PageListen, func(netip.AddrPort) http.Handler { return s.page }, "REMPART_PAGE_LISTEN", nil)
	serve(&s.portalAt, s.config.PortalListen, func(netip.AddrPort) http.Handler { return s.public.Portal }, "REMPART_PORTAL_LISTEN", s.portalTLS())
	about := admin.New(s.registry, s.notReady)
	serve(&s.metricsAt, s.config.MetricsListen, func(addr netip.AddrPort) http.Handler { return setup.MetricsHandler(addr, about) }, "REMPART_METRICS_LISTEN", nil)
	return errors.Join(errs...)
}

// notReady returns the reason why queries should not be sent here; "" if the server is ready.
func (s *server) notReady() string {
	if s.ending.Load() {
		return "shutting down"
	}
	if why := s.forward.Missing(); why != "" {
		return why
	}
	status := s.lists.Status()
	if s.edge != nil {
		if why := s.edge.NotReady(s.config.ControlStale); why != "" || s.control == nil {
			return why
		}
	}
	if status.Version == 0 {
		return "no set is in force, so answers are not filtered: " + cmp.Or(status.Err, "the lists are still being read")
	}
	if status.Waiting != "" {
		return status.Waiting + "; until then its names are not blocked"
	}
	return ""
}

// reloads reads the feeds file and checks every list again on SIGHUP or when a command requests it.
func (s *server) reloads(ctx context.Context, hangup <-chan os.Signal) error {
	for {
		look := s.lists.Reload
		select {
		case <-hangup:
			s.log.Info("SIGHUP: every list is checked again")
		case <-s.again:
			s.log.Info("a command asked for a reload: every list is checked again")
			look = s.lists.Retry
		case <-ctx.Done():
			return nil
		}
		s.feeds.Reload()
		s.cookies.Reload()
		s.public.Files().Reload()
		s.continues.Reload()
		look()
		s.forward.Refresh()
		if s.secure != nil {
			s.secure.Reload()
		}
		if s.control != nil {
			s.control.reload(ctx)
		}
	}
}

func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("notifying systemd failed", "state", state, "error", err)
	}
}
