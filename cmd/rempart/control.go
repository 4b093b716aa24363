package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/descriptors"
	"rempart/internal/admin"
	"rempart/internal/config"
)

func controlCommand() *cobra.Command {
	var again restart
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Accept operators' changes and lists, and publish them to every server",
		Long: `Control accepts the changes that operators push and the content of lists, signs them, stores them in the journal, and publishes them to
the servers that follow this control (REMPART_CONTROL). Control answers no DNS queries.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load()
			if err != nil {
				return err
			}
			if c.Control != "" {
				return config.Bad("CONTROL", c.Control, "control publishes changes itself and cannot follow another control: unset REMPART_CONTROL")
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			log, err := cli.NewLog(c.Log, progress)
			if err != nil {
				return err
			}
			sig := cli.CatchSignals(cmd.Context())
			defer sig.Stop()
			ctx := sig.Context
			return runControl(ctx, cli.Redact(cmd.OutOrStdout()), c, log, progress, sig.Hangup, again)
		},
	}
	cmd.Flags().Uint64Var(&again.above, "new-epoch", 0,
		"begin a new epoch of the journal above this version: give the highest version in force on any server; use it after the journal was restored from an older backup, or lost records of which no copy exists")
	cmd.Flags().StringVar(&again.from, "recover", "",
		"before the start, copy missing records into the journal from this folder, which is a copy of the folder \"edge\" of a server; use it after the journal was restored from an older backup, or lost records")
	return cmd
}

// restart holds the flags for a journal that was restored from an older backup, or that lost records.
type restart struct {
	above uint64 // a new epoch begins above this version; 0 continues the epoch
	from  string // copy of a server's folder "edge", from which missing records are copied; "" copies none
}

// runControl runs a control alone in its process.
func runControl(ctx context.Context, out io.Writer, c *config.Config, log *slog.Logger, progress *cli.Progress, hangup <-chan os.Signal, again restart) error {
	setup.WarnSecrets(c, log)
	if err := setup.ClaimFolder(c.DataDir); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	publishers, err := setup.NewControlDialer(c, log)
	if err != nil {
		return err
	}
	feeds, err := setup.NewFeedsFile(c, log, func() (*feed.Lists, error) {
		return setup.NewLists(c, setup.ListsOptions{Log: log, Dial: publishers.DialContext, Progress: progress.ListProgress(), Changed: setup.WakeFunc(changed)})
	})
	if err != nil {
		return err
	}
	lists := feeds.Lists
	k, err := openControlServer(ctx, c, log, lists, changed, again)
	if err != nil {
		return err
	}
	defer k.close()
	err = lists.Start(ctx)
	progress.End()
	if err != nil {
		return fmt.Errorf("%w (the data folder is set by REMPART_DATA_DIR)", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), lists.Collector())
	k.register(registry)
	g, ctx := errgroup.WithContext(ctx)
	if err := k.servePortal(ctx, g, registry, publishers.DialContext); err != nil {
		return err
	}
	g.Go(func() error { return lists.Run(ctx) })
	g.Go(func() error { return feeds.Run(ctx) })
	if publishers.Forwarding != nil {
		g.Go(func() error { return publishers.Forwarding.RunZones(ctx) })
	}
	g.Go(func() error { return k.run(ctx) })
	g.Go(func() error { return k.reloadOnHangup(ctx, hangup, feeds) })
	k.serveMetrics(ctx, g, registry)
	g.Go(func() error { return k.greetWhenReady(ctx, out) })
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// reloadOnHangup reads all files again at each SIGHUP, until ctx ends.
func (k *controlServer) reloadOnHangup(ctx context.Context, hangup <-chan os.Signal, feeds *setup.FeedsFile) error {
	for {
		select {
		case <-hangup:
			feeds.Reload()
			k.lists.Reload()
			k.reload(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// serveMetrics starts the metrics listeners of a control that is alone in its process. If a listener cannot be opened, serveMetrics logs the error, and control
// runs without that listener.
func (k *controlServer) serveMetrics(ctx context.Context, g *errgroup.Group, registry *prometheus.Registry) {
	for _, addr := range k.config.MetricsListen {
		at, err := setup.Web{
			Addr: addr, Handler: setup.MetricsHandler(addr, admin.New(registry, k.notReady)), Variable: "REMPART_METRICS_LISTEN",
			Conns: descriptors.Share(descriptors.Limit()).Web, Log: k.log,
		}.Serve(ctx, g)
		if err != nil {
			k.log.Error("a web listener could not be opened; control runs without it", "error", err)
			continue
		}
		k.metricsAt = append(k.metricsAt, at)
	}
}

// greetWhenReady writes the greeting and notifies the service manager once control accepts pushes.
func (k *controlServer) greetWhenReady(ctx context.Context, out io.Writer) error {
	select {
	case <-k.ready:
		k.greet(out, k.lists)
		notify(k.log, "READY=1")
	case <-ctx.Done():
	}
	return nil
}

// greet writes the addresses of control, the state of its lists, and one command to try.
func (k *controlServer) greet(w io.Writer, lists *feed.Lists) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	st := k.control.State()
	fmt.Fprintf(w, "Rempart %s controls a set of %s, version %d.\n", cli.Version(), report.Count(st.View().Stats().Names, "name"), st.Version)
	k.greetOwn(line)
	for _, l := range lists.Status().Lists {
		line("list", "%s", report.ListLine(l, time.Now()))
	}
	greetPortal(line, k.portalAt, len(k.config.Cert) > 0)
	if len(k.metricsAt) > 0 {
		line("metrics", "%s", urls("http", k.metricsAt, "/metrics"))
	}
	line("try", "rempart token create me --role publisher")
}

// greetOwn writes the addresses for operators and servers. Control must be ready.
func (k *controlServer) greetOwn(line func(label, format string, args ...any)) {
	ring, err := k.keys.Ring()
	if err == nil && len(ring.Roots) > 0 {
		line("root key", "%s", ring.Roots[0])
	}
	for _, addr := range k.pushAt {
		line("API", "%s", k.url(addr)+"/openapi.json")
		line("servers", "REMPART_CONTROL=%s, with a token of the role node", k.url(addr)+"/v1/journal")
	}
	if k.rpz != nil {
		line("zones", "%s on %s", k.rpz.Names(), join(append(slices.Clone(k.config.RPZListen), k.config.RPZTLSListen...)))
	}
}
