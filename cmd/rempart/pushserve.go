package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/descriptors"
	"rempart/internal/config"
	"rempart/internal/hosts"
	"rempart/internal/journal/mirror"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
	"rempart/resolver/listen"
)

// pushDefault is the address of a control's API if none is configured.
const pushDefault = "127.0.0.1:9254"

// pushGuards returns the guards for pushes, which are always those of lists.
func (k *controlServer) pushGuards() (*guard.Guards, error) {
	guards, err := k.lists.Guards().Guards()
	if err != nil {
		return nil, err
	}
	return guards.Guards, nil
}

// openAPI opens the operators' API.
func (k *controlServer) openAPI(ctx context.Context) error {
	desk, err := k.keys.Secret(signing.DeskKey)
	if err != nil {
		return err
	}
	cfg := pushapi.Config{
		Control: k.control, Desk: desk, Guards: k.pushGuards, Grammar: format.Grammar{}, Dir: k.config.DataDir,
		Version: cli.Version(), Log: k.log,
	}
	if k.appeals != nil {
		cfg.AppealPolicy = k.appeals.Get
	}
	api, err := pushapi.New(ctx, cfg)
	if err != nil {
		return err
	}
	k.api.Store(api)
	return nil
}

// serveAPI begins to serve the API and the journal.
func (k *controlServer) serveAPI(ctx context.Context, g *errgroup.Group) error {
	api := k.api.Load()
	files := mirror.NewHandler(k.control, func(r *http.Request, status []byte) error { return api.Report(r.Context(), pushapi.Caller(r), status) })
	mux := http.NewServeMux()
	mux.Handle("/v1/journal/status", api.Guarded(http.StripPrefix("/v1/journal", files), pushapi.Node)) // no other role may report for a node
	mux.Handle("/v1/journal/", api.Guarded(http.StripPrefix("/v1/journal", files), pushapi.Node, pushapi.Publisher, pushapi.Approver, pushapi.Auditor))
	mux.Handle("/", api.Handler())
	addrs := k.config.PushListen
	if len(addrs) == 0 {
		addrs = config.Addrs{netip.MustParseAddrPort(pushDefault)}
	}
	setup.LogAbsent(k.log, "REMPART_PUSH_LISTEN", addrs)
	for _, addr := range addrs {
		l, err := listen.Stream(addr)
		if err != nil {
			return fmt.Errorf("the operators' API cannot be served on %s (REMPART_PUSH_LISTEN): %w", addr, err)
		}
		k.pushAt = append(k.pushAt, netip.AddrPortFrom(addr.Addr(), uint16(l.Addr().(*net.TCPAddr).Port)))
		s := pushapi.Server(hosts.Only(mux, k.isOwnName, pushapi.Misdirected))
		s.ErrorLog = log.New(io.Discard, "", 0) // the log of net/http holds client addresses, which must not be stored
		serve := s.Serve
		if k.secure != nil {
			s.TLSConfig = k.secure.APITLS()
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		g.Go(func() error {
			if err := serve(netutil.LimitListener(l, descriptors.Share(descriptors.Limit()).API)); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("the operators' API on %s: %w", addr, err)
			}
			return nil
		})
		g.Go(func() error { return setup.ShutdownAfter(ctx, s, 2*time.Second) }) // long polls do not end by themselves
	}
	return nil
}

// isOwnName reports whether name is a host name of the API: one of its certificate or of REMPART_PUSH_HOSTS.
func (k *controlServer) isOwnName(name string) bool {
	return slices.ContainsFunc(k.config.PushHosts, func(own string) bool { return strings.EqualFold(own, name) }) || k.secure != nil && k.secure.HasName(name)
}

func (k *controlServer) url(addr netip.AddrPort) string {
	if k.config.PushCert != "" {
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}
