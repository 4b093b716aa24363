package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/cmd/rempart/setup/descriptors"
	"rempart/cmd/rempart/setup/public"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/web/lookup"
	"rempart/internal/web/portal"
)

// servePortal serves the portal of a control that runs without an edge in its process. It does nothing if REMPART_PORTAL_LISTEN is empty. The portal looks up
// names in the set that control publishes, and their history in the journal. dial connects to the sites of appellants, and looks up their names without the
// filter.
func (k *controlServer) servePortal(ctx context.Context, g *errgroup.Group, registry *prometheus.Registry, dial func(context.Context, string, string) (net.Conn, error)) error {
	if len(k.config.PortalListen) == 0 {
		return nil
	}
	if len(k.config.Cert) == 0 && k.config.PortalListen.HasPublic() {
		return config.Bad("PORTAL_LISTEN", "", "control serves its portal with REMPART_CERT only: set REMPART_CERT and REMPART_KEY, or serve the portal on a loopback address behind a reverse proxy")
	}
	pages, err := public.New(k.config, k.log, public.Answers{Lookup: k.lookup, History: k.history, Appeals: k.appealsOf(dial)})
	if err != nil {
		return err
	}
	w := setup.Web{Handler: pages.Portal, Variable: "REMPART_PORTAL_LISTEN", Conns: descriptors.Share(descriptors.Limit()).Web, Log: k.log}
	if len(k.config.Cert) > 0 {
		own, err := certificates.NewPublic(k.config, k.log)
		if err != nil {
			return err
		}
		w.TLS = own.TLS()
		k.portalFiles = own.Files()
		registry.MustRegister(own)
		g.Go(func() error { return own.RunWarnings(ctx) })
	}
	k.portalFiles = append(k.portalFiles, pages.Files()...)
	setup.LogAbsent(k.log, w.Variable, k.config.PortalListen)
	for _, addr := range k.config.PortalListen {
		w.Addr = addr
		at, err := w.Serve(ctx, g)
		if err != nil {
			return fmt.Errorf("the portal: %w", err)
		}
		k.portalAt = append(k.portalAt, at)
	}
	return nil
}

// lookup returns the verdict of the set that control publishes to all servers. Control asks no upstream, so it does not judge the names and addresses to which
// a name redirects.
func (k *controlServer) lookup(_ context.Context, name []byte, _ netip.Addr) lookup.Result {
	view := k.control.State().View()
	return lookup.Of(view, name, name, view.Match(name, blocklist.AllCategories, time.Now().Unix()), journal.Operator)
}

const (
	historyTimeout = 5 * time.Second // for one reading of the journal
	maxHistory     = 1000            // changes that one reading returns, the newest ones
)

// history returns the changes of a name that apply to all servers, the newest first. It reads the journal for one reader at a time; meanwhile it returns an
// error to others.
func (k *controlServer) history(ctx context.Context, name string) ([]portal.Event, error) {
	if !k.reading.TryLock() {
		return nil, errors.New("the journal is being read for another reader")
	}
	defer k.reading.Unlock()
	ctx, cancel := context.WithTimeout(ctx, historyTimeout)
	defer cancel()
	var events []portal.Event
	err := k.control.History(ctx, name, func(e publish.HistoryEntry) error {
		if !e.Applied || !e.Change.AppliesEverywhere() {
			return nil
		}
		if len(events) == maxHistory {
			events = slices.Delete(events, 0, 1)
		}
		events = append(events, portal.Event{Time: time.UnixMilli(e.Record.Time), Do: actOf(e.Change.Do), Name: e.Change.Name, By: lookup.ListName(e.Change.Source)})
		if e.Change.Authority != "" {
			events[len(events)-1].By = e.Change.Authority
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(events)
	return events, nil
}

func actOf(do journal.Act) portal.Act {
	switch do {
	case journal.Block:
		return portal.Block
	case journal.Allow, journal.Except:
		return portal.Allow
	}
	return portal.Withdraw
}
