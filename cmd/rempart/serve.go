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

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/descriptors"
	"rempart/cmd/rempart/setup/public"
	"rempart/internal/admin"
	"rempart/internal/config"
	"rempart/internal/handover"
	"rempart/internal/statistics"
	"rempart/resolver"
	"rempart/resolver/cache"
)

func serveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Answer DNS (what rempart does without a subcommand)",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load()
			if err != nil {
				return err
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			log, err := cli.NewLog(c.Log, progress)
			if err != nil {
				return err
			}
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
	shares      descriptors.Shares
	store       *handover.Store // the process before this one, and the next one
	handed      handed
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
	unserved    []error          // errors of web listeners that could not be opened; complete before the local socket is opened
	ending      atomic.Bool
}

// newServer creates the parts. Nothing runs and no socket is open afterwards.
func newServer(ctx context.Context, c *config.Config, log *slog.Logger, progress *cli.Progress) (*server, error) {
	s := &server{config: c, log: log, progress: progress, registry: prometheus.NewRegistry(), started: time.Now(), again: make(chan struct{}, 1), changed: make(chan struct{}, 1), publish: make(chan struct{}, 1)}
	setup.WarnSecrets(c, log)
	if err := setup.ClaimFolder(c.DataDir); err != nil {
		return nil, err
	}
	s.store = handover.Open(log)
	s.receive()
	var err error
	if s.shares, err = descriptors.OfProcess(c.Connections, log); err != nil {
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
	if s.cookies, err = setup.NewCookies(c, s.handed.Cookie, log); err != nil {
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

// run serves until ctx ends. It starts the lists first, so that no query is answered before they are in force, and ends DNS last.
func (s *server) run(ctx context.Context, cmd *cobra.Command, hangup <-chan os.Signal) error {
	ctx, end := context.WithCancel(ctx)
	answering, endAnswering := context.WithCancel(context.WithoutCancel(ctx))
	var below, beside errgroup.Group // the parts that answers need, which end last; the other parts, which end first
	below.Go(func() error { return s.forward.Run(answering, s.retry) })
	if s.tap != nil {
		below.Go(func() error { return s.tap.Run(answering) })
	}
	defer func() {
		end()
		_ = beside.Wait() // they end only because ctx does
		s.resolver.Close()
		endAnswering()
		_ = below.Wait() // they end only because answering does
	}()
	workers := runtime.GOMAXPROCS(0) // read before lists are, which may add one
	if err := s.startSet(ctx, &beside); err != nil {
		return fmt.Errorf("%w (the data folder is set by REMPART_DATA_DIR)", err)
	}
	if ctx.Err() != nil {
		return nil
	}
	if why := clockProblem(time.Now(), s.set().View().Info().Created); why != "" {
		s.log.Error(why)
	}
	sockets, err := s.listen(workers)
	if err != nil {
		return err
	}
	s.registry.MustRegister(sockets.Collector())
	listening, endListening := context.WithCancel(answering)
	defer endListening()
	ended := make(chan error, 1)
	go func() { ended <- sockets.Run(listening) }()
	s.dnsAt, s.encryptedAt = sockets.Addrs(), encryptedAddresses(sockets)
	above, serving := errgroup.WithContext(ctx)
	s.serveOthers(serving, above, hangup)
	if s.secure != nil {
		beside.Go(func() error { return s.secure.Run(ctx) }) // when the listeners are open, which answer the challenges of an ACME authority
	}
	if f := s.store.Read(handoverCache); f != nil {
		beside.Go(func() error { return s.restoreAnswers(ctx, f) })
	}
	s.store.Discard() // sockets that the settings no longer name
	greet(cli.Redact(cmd.OutOrStdout()), s, sockets)
	notify(s.log, "READY=1")
	debug.FreeOSMemory() // reading lists needed many times the memory of their result
	<-serving.Done()
	end()
	s.ending.Store(true)
	notify(s.log, "STOPPING=1")
	err = above.Wait()
	_ = beside.Wait()
	s.saveAnswers()
	endListening() // last, so that queries wait for the next process as briefly as possible
	err = errors.Join(err, <-ended)
	s.passOn(sockets)
	if err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	s.log.Info("stopped after all pending work was finished")
	return nil
}

// startSet puts the set in force, and starts the parts that keep it and the settings up to date, until ctx ends.
func (s *server) startSet(ctx context.Context, beside *errgroup.Group) error {
	err := s.lists.Start(ctx)
	s.progress.End()
	if err != nil {
		return err
	}
	beside.Go(func() error { return s.lists.Run(ctx) })
	beside.Go(func() error { return s.clients.Run(ctx) })
	beside.Go(func() error { return s.ownFiles().Run(ctx) })
	if s.statistics != nil {
		beside.Go(func() error { return s.statistics.Run(ctx) })
	}
	beside.Go(func() error { return s.watchNetwork(ctx) })
	if s.control != nil {
		beside.Go(func() error { return s.control.run(ctx) })
	}
	if s.edge == nil {
		return nil
	}
	if err := s.edge.Start(); err != nil {
		return err
	}
	beside.Go(func() error { return s.edge.Run(ctx) })
	beside.Go(func() error { return s.refresh(ctx) })
	s.edge.AwaitSet(ctx)
	return nil
}

// serveOthers starts everything that is served besides DNS, and reloads, until ctx ends.
func (s *server) serveOthers(ctx context.Context, g *errgroup.Group, hangup <-chan os.Signal) {
	g.Go(func() error { return s.resolver.Run(ctx) })
	if s.secure != nil {
		g.Go(func() error { return s.designate(ctx) })
	}
	s.serveHTTP(ctx, g)
	s.refuseHTTPS(ctx, g)
	for _, err := range s.unserved {
		s.log.Error("a web listener could not be opened; DNS is answered without it", "error", err)
	}
	g.Go(func() error { return s.reloads(ctx, hangup) })
	s.serveSocket(ctx, g)
	g.Go(func() error { return s.feeds.Run(ctx) })
}

// serveHTTP begins to serve the page and the metrics. DNS does not depend on them.
func (s *server) serveHTTP(ctx context.Context, g *errgroup.Group) {
	serve := func(at *[]netip.AddrPort, addrs []netip.AddrPort, h func(netip.AddrPort) http.Handler, variable string, secure *tls.Config) {
		setup.LogAbsent(s.log, variable, addrs)
		for _, addr := range addrs {
			addr, err := setup.Web{Addr: addr, Handler: h(addr), Variable: variable, Binder: s.binder(), Conns: s.shares.Web, TLS: secure, Log: s.log}.Serve(ctx, g)
			if err != nil {
				s.unserved = append(s.unserved, err)
				continue
			}
			*at = append(*at, addr)
		}
	}
	serve(&s.pageAt, s.config.PageListen, func(netip.AddrPort) http.Handler { return s.page }, "REMPART_PAGE_LISTEN", nil)
	serve(&s.portalAt, s.config.PortalListen, func(netip.AddrPort) http.Handler { return s.public.Portal }, "REMPART_PORTAL_LISTEN", s.portalTLS())
	about := admin.New(s.registry, s.notReady)
	serve(&s.metricsAt, s.config.MetricsListen, func(addr netip.AddrPort) http.Handler { return setup.MetricsHandler(addr, about) }, "REMPART_METRICS_LISTEN", nil)
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
		s.ownFiles().Reload()
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
	if err := handover.Notify(state); err != nil {
		log.Warn("notifying systemd failed", "state", state, "error", err)
	}
}
