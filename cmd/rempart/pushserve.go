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
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist/feed"
	"rempart/blocklist/guard"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
	"rempart/internal/pushapi"
	"rempart/resolver/listen"
)

// pushDefault is where a control serves its API where no address is configured.
const pushDefault = "127.0.0.1:9254"

// newGuards are those that pushes go through: the same as lists do.
func newGuards(c *config.Config) (*guard.Guards, error) {
	feeds, err := readFeeds(c.Feeds)
	if err != nil {
		return nil, err
	}
	names, addrs := own(c, feeds)
	gc := guard.Config{Own: names, OwnAddresses: addrs, Bound: c.PopularBound}
	for path, to := range map[string]*io.Reader{c.Essential: &gc.Essential, c.Popular: &gc.Popular} {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, listsError(c, err)
		}
		defer f.Close()
		*to = f
	}
	g, err := guard.New(gc)
	if err != nil {
		return nil, listsError(c, err)
	}
	return g, nil
}

// openAPI makes the operators' API.
func (k *controlling) openAPI(ctx context.Context) error {
	desk, err := k.keys.Secret(journal.DeskKey)
	if err != nil {
		return err
	}
	api, err := pushapi.New(ctx, pushapi.Config{
		Control: k.control, Desk: desk, Guards: func() (*guard.Guards, error) { return k.guards, nil }, Grammar: feed.Grammar{}, Dir: k.config.DataDir,
		Version: version(), Log: k.log,
	})
	if err == nil {
		k.api.Store(api)
	}
	return err
}

// nodeAllowed says whether a node may follow the journal over NATS.
func (k *controlling) nodeAllowed(_, secret string) bool {
	api := k.api.Load()
	if api == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, ok := api.Allowed(ctx, secret, nil, pushapi.Node)
	return ok
}

// serveAPI begins to serve the API, and the journal beside it.
func (k *controlling) serveAPI(ctx context.Context, g *errgroup.Group) error {
	api := k.api.Load()
	files := mirror.NewHandler(k.control, func(r *http.Request, status []byte) error { return api.Report(r.Context(), pushapi.Caller(r), status) })
	mux := http.NewServeMux()
	mux.Handle("/v1/journal/status", api.Guarded(http.StripPrefix("/v1/journal", files), pushapi.Node)) // nobody else speaks for a node
	mux.Handle("/v1/journal/", api.Guarded(http.StripPrefix("/v1/journal", files), pushapi.Node, pushapi.Publisher, pushapi.Approver, pushapi.Auditor))
	mux.Handle("/", api.Handler())
	addrs := k.config.PushListen
	if len(addrs) == 0 {
		addrs = config.Addrs{netip.MustParseAddrPort(pushDefault)}
	}
	logAbsent(k.log, "REMPART_PUSH_LISTEN", addrs)
	for _, addr := range addrs {
		l, err := listen.Stream(addr)
		if err != nil {
			return fmt.Errorf("the operators' API cannot be served on %s (REMPART_PUSH_LISTEN): %w", addr, err)
		}
		k.pushAt = append(k.pushAt, netip.AddrPortFrom(addr.Addr(), uint16(l.Addr().(*net.TCPAddr).Port)))
		s := pushapi.Server(mux)
		s.ErrorLog = log.New(io.Discard, "", 0) // the library's holds clients' addresses: none may be kept
		serve := s.Serve
		if k.secure != nil {
			s.TLSConfig = k.secure.Clone()
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		g.Go(func() error {
			if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("the operators' API on %s: %w", addr, err)
			}
			return nil
		})
		g.Go(func() error { return endWith(ctx, s, 2*time.Second) }) // long polls do not end by themselves
	}
	return nil
}

func (k *controlling) url(addr netip.AddrPort) string {
	if k.config.PushCert != "" {
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}
