// Package canary asks every server again and again, over every transport, for names that must be blocked and names that must pass, and exports what it finds.
package canary

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/internal/admin"
	"rempart/internal/config"
	"rempart/internal/pause"
)

// Command returns the command "rempart canary".
func Command() *cobra.Command {
	var path, authorities string
	once := false
	cmd := &cobra.Command{
		Use: "canary --file FILE", Short: "Ask every server over every transport, for ever, and compare", Args: cli.NoArgs,
		Long: `Ask the servers in a file, over each of their transports, for names that must be blocked and for names that must pass: those in the file, popular names, and, if
REMPART_CONTROL and REMPART_CONTROL_KEY name a control, names of control's set. The expected verdict is then that of the set, which the canary follows and verifies as a
server does; give it a data folder (REMPART_DATA_DIR) and a name (REMPART_NODE) of its own. Versions are compared for servers whose metrics are named.

Metrics are served on REMPART_METRICS_LISTEN. Wrong answers are logged. deploy/canary.toml is an example of the file.

Exit code with --once: 0 if all is well; 1 if an answer was wrong or missing, if servers disagreed, if there was no name to ask for, or if the version of a server was
old or could not be read; 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load()
			if err != nil {
				return err
			}
			log, err := cli.NewLog(c.Log, cli.Redact(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			p, err := readPlan(path)
			if err != nil {
				return err
			}
			var roots *x509.CertPool
			if authorities != "" {
				if roots, err = certificates.ReadPool(authorities); err != nil {
					return err
				}
			}
			sig := cli.CatchSignals(cmd.Context())
			defer sig.Stop()
			right, err := run(sig.Context, c, log, p, roots, once)
			if err == nil && once && !right {
				return cli.Negative
			}
			return err
		},
	}
	cmd.Flags().StringVar(&path, "file", "", "the file of servers and names")
	cmd.Flags().StringVar(&authorities, "ca", "", "PEM certificates against which the servers' certificates are checked (default: the system's)")
	cmd.Flags().BoolVar(&once, "once", false, "run one round and end")
	_ = cmd.MarkFlagRequired("file")
	return cmd
}

// run runs one round if once is true, else rounds until ctx ends. It reports whether the last round found no fault.
func run(ctx context.Context, c *config.Config, log *slog.Logger, p *plan, roots *x509.CertPool, once bool) (right bool, err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	g, ctx := errgroup.WithContext(ctx)
	set, stop, err := followed(ctx, g, c, log)
	if err != nil {
		return false, err
	}
	defer stop()
	names, err := newNames(p, set)
	if err != nil {
		return false, err
	}
	registry := prometheus.NewRegistry()
	r := &runner{log: log, names: names, askers: newAskers(ctx, p.nodes, roots), nodes: p.nodes, results: newResults(registry), version: readVersion}
	if !once {
		for _, addr := range c.MetricsListen {
			w := setup.Web{Addr: addr, Handler: setup.MetricsHandler(addr, admin.New(registry, func() string { return "" })), Variable: "REMPART_METRICS_LISTEN", Conns: 64, Log: log}
			if _, err := w.Serve(ctx, g); err != nil {
				return false, err
			}
		}
		log.Info("asking", "nodes", len(p.nodes), "every", p.every)
	}
	g.Go(func() error {
		defer end()
		for ticker := time.NewTicker(p.every); ; {
			ok, err := r.round(ctx)
			if right = ok; err != nil || once {
				return err
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return nil
			}
		}
	})
	switch err = g.Wait(); {
	case errors.Is(err, context.Canceled) && once:
		err = fmt.Errorf("the round was interrupted: %w", err)
	case errors.Is(err, context.Canceled):
		err = nil
	}
	return right, err
}

// followed returns control's set, which a goroutine of g keeps up to date; nil without a control. The caller calls stop when g has ended.
func followed(ctx context.Context, g *errgroup.Group, c *config.Config, log *slog.Logger) (set *blocklist.Set, stop func(), err error) {
	if c.Control == "" {
		return nil, func() {}, nil
	}
	lists, err := setup.NewLists(c, setup.ListsOptions{Log: slog.New(slog.DiscardHandler), ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	edge, err := setup.FollowControl(c, setup.EdgeOptions{Log: log, Dial: new(net.Dialer).DialContext, Local: lists, Totals: func() (uint64, uint64) { return 0, 0 }})
	if err != nil {
		return nil, nil, err
	}
	if err := edge.Start(); err != nil {
		edge.Close()
		return nil, nil, err
	}
	g.Go(func() error { return edge.Run(ctx) })
	awaitNewest(ctx, edge)
	return edge.Set(), edge.Close, nil
}

// newestPatience is how long the first round waits for the newest version. Later rounds expect what control had published until then.
const newestPatience = 10 * time.Second

// awaitNewest waits until the newest version of control is in force.
func awaitNewest(ctx context.Context, edge *setup.Edge) {
	ctx, cancel := context.WithTimeout(ctx, newestPatience)
	defer cancel()
	for ctx.Err() == nil {
		if h := edge.Health(); h.Newest > 0 && edge.InForce() >= h.Newest {
			return
		}
		pause.For(ctx, 20*time.Millisecond)
	}
}
