package main

import (
	"context"

	"golang.org/x/sync/errgroup"

	"rempart/cmd/rempart/setup"
	"rempart/internal/config"
	"rempart/internal/web/refuse"
)

// refuseHTTPS begins to refuse https:// connections to the page, on the addresses of REMPART_PAGE_HTTPS_LISTEN. DNS does not depend on it.
func (s *server) refuseHTTPS(ctx context.Context, g *errgroup.Group) {
	if len(s.config.PageHTTPSListen) == 0 {
		return
	}
	const variable = "REMPART_PAGE_HTTPS_LISTEN"
	way := refuse.Alert
	if s.config.PageHTTPS == config.ResetHTTPS {
		way = refuse.Reset
	}
	refuser, err := refuse.New(refuse.Config{Way: way, View: s.set().View, Conns: s.shares.Web})
	if err != nil {
		s.unserved = append(s.unserved, err)
		return
	}
	s.registry.MustRegister(refuser.Collector())
	setup.LogAbsent(s.log, variable, s.config.PageHTTPSListen)
	for _, addr := range s.config.PageHTTPSListen {
		l, addr, err := setup.WebListener(s.binder(), addr, variable)
		if err != nil {
			s.unserved = append(s.unserved, err)
			continue
		}
		s.refusedAt = append(s.refusedAt, addr)
		g.Go(func() error {
			if err := refuser.Serve(ctx, l); err != nil {
				s.log.Error("https:// connections to the page are no longer refused here; DNS is still answered", "address", addr, "error", err)
			}
			return nil
		})
	}
}
