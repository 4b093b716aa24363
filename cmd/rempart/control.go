package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/internal/admin"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
)

func controlCommand() *cobra.Command {
	var again restart
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Take operators' changes and lists, and publish them to every server",
		Long: `Control takes what operators push and what lists say, signs it, keeps it in the journal, and publishes it to
the servers whose REMPART_CONTROL names it. It answers no DNS queries itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load()
			if err != nil {
				return err
			}
			if c.Control != "" {
				return config.Bad("CONTROL", c.Control, "not for a control: it publishes changes, and takes none")
			}
			reading := newProgress(cmd.ErrOrStderr())
			log := slog.New(slog.NewTextHandler(reading, nil))
			ctx, hangup, stop := signals(cmd.Context())
			defer stop()
			return runControl(ctx, redacting{cmd.OutOrStdout()}, c, log, reading, hangup, again)
		},
	}
	cmd.Flags().Uint64Var(&again.above, "new-epoch", 0,
		"begin the journal anew above this version, the highest that any server has in force: after it was restored from an older backup, or lost records that no copy holds")
	cmd.Flags().StringVar(&again.from, "recover", "",
		"first take from a copy of a server's folder \"edge\" what it holds and the journal lacks: after it was restored from an older backup, or lost records")
	return cmd
}

// restart is how a journal goes on that was restored from an older backup.
type restart struct {
	above uint64 // in a new epoch above that version; 0: in the same
	from  string // with what a copy holds; "" for none
}

// runControl is a control alone in its process.
func runControl(ctx context.Context, out io.Writer, c *config.Config, log *slog.Logger, reading *progress, hangup <-chan os.Signal, again restart) error {
	warnSecrets(c, log)
	changed := make(chan struct{}, 1)
	publishers, pools, err := controlPublishers(c, log)
	if err != nil {
		return err
	}
	feeds, err := newFeedsFile(c, log, func() (*feed.Lists, error) {
		return newLists(c, listsOptions{log: log, dial: publishers.DialContext, progress: reading.report(), changed: signalTo(changed)})
	})
	if err != nil {
		return err
	}
	lists := feeds.lists
	k, err := newControlling(ctx, c, log, lists, changed, again)
	if err != nil {
		return err
	}
	defer k.close()
	err = lists.Start(ctx)
	reading.end()
	if err != nil {
		return fmt.Errorf("%w (REMPART_DATA_DIR names it)", err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(buildInfo(), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), lists.Collector())
	k.register(registry)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return lists.Run(ctx) })
	g.Go(func() error { return feeds.run(ctx) })
	for _, p := range pools {
		g.Go(func() error { return p.Run(ctx) })
	}
	g.Go(func() error { return k.run(ctx) })
	g.Go(func() error {
		for {
			select {
			case <-hangup:
				feeds.reload()
				lists.Reload()
				k.reload(ctx)
			case <-ctx.Done():
				return nil
			}
		}
	})
	for _, addr := range c.MetricsListen {
		at, err := serveHTTP(ctx, g, addr, figures(addr, admin.New(registry, k.notReady)), "REMPART_METRICS_LISTEN", share(descriptorLimit()).web, log)
		if err != nil {
			log.Error("a web listener is missing", "error", err)
			continue
		}
		k.figureAt = append(k.figureAt, at)
	}
	g.Go(func() error {
		select {
		case <-k.ready:
			k.greet(out, lists)
			notify(log, daemon.SdNotifyReady)
		case <-ctx.Done():
		}
		return nil
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// signalTo returns a function that leaves word on channels with room for one, and does not wait.
func signalTo(changed ...chan struct{}) func() {
	return func() {
		for _, c := range changed {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

// controlling is what publishes.
type controlling struct {
	config   *config.Config
	log      *slog.Logger
	keys     *journal.Keys
	feeds    *journal.SecretKey
	stream   *stream.Stream
	control  *journal.Control
	api      atomic.Pointer[pushapi.API] // once there is one
	rpz      *zones                      // nil for none
	secure   *serverCertificate          // nil: without TLS
	trusted  *reloadable[*x509.CertPool] // of the external NATS cluster; nil: the system's
	lists    *feed.Lists
	pushAt   []netip.AddrPort // where the API is served, once it is
	figureAt []netip.AddrPort // the same of the figures, of a control alone
	changed  <-chan struct{}  // the lists' set
	ready    chan struct{}    // closed when others may publish
}

// newControlling opens keys and journal.
func newControlling(ctx context.Context, c *config.Config, log *slog.Logger, lists *feed.Lists, changed <-chan struct{}, again restart) (*controlling, error) {
	k := &controlling{config: c, log: log, lists: lists, changed: changed, ready: make(chan struct{})}
	if err := os.MkdirAll(c.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("%w (REMPART_DATA_DIR names it)", err)
	}
	made := false
	var err error
	if k.keys, made, err = journal.OpenKeys(keysFolder(c)); err != nil {
		return nil, err
	}
	if made {
		log.Info("keys were made; root.key signs who may do what: keep it elsewhere, and here only while it is needed", "folder", keysFolder(c))
	}
	ring, err := k.keys.Ring()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{journal.RootKey, journal.ControlKey, journal.FeedsKey, journal.DeskKey} {
		warnReadable(log, "a secret key", k.keys.Path(name))
	}
	key, err := k.keys.Secret(journal.ControlKey)
	if err == nil {
		k.feeds, err = k.keys.Secret(journal.FeedsKey)
	}
	if err != nil {
		return nil, err
	}
	if k.secure, err = newServerCertificate(c, log); err != nil {
		return nil, err
	}
	if c.NATSURL != "" {
		if k.trusted, err = newAuthorities(c, log); err != nil {
			return nil, err
		}
	}
	if k.stream, err = stream.Open(ctx, k.streamConfig()); errors.Is(err, stream.ErrCopying) {
		return nil, fmt.Errorf("%w: run \"rempart journal copy\" again, with the same settings, until it is complete", err)
	}
	if err != nil {
		return nil, err
	}
	if err := refuseMovedJournal(ctx, c, k.stream); err != nil {
		k.close()
		return nil, err
	}
	k.control, err = journal.NewControl(journal.ControlConfig{
		Stream: k.stream, Key: key, Ring: ring.Sealed, Trust: ring.RootKeys, Dir: filepath.Join(c.DataDir, "control"), Log: log,
		Above: func() uint64 { return max(again.above, lists.Set().View().Version()) }, NewEpoch: again.above > 0, Recover: again.from,
		First: func(w io.Writer, info blocklist.Info) error {
			return blocklist.Compile(w, info, lists.Set().View().Input().Only(k.published()))
		},
		Changed: k.applied, Refuse: k.conflict,
	})
	if err == nil {
		k.rpz, err = newZones(c, log, k.secure.server(), k.whole)
	}
	lists.Guards().KeepInMemory()
	if err == nil {
		err = k.control.Start(ctx)
	}
	if err == nil {
		err = k.openAPI(ctx)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func keysFolder(c *config.Config) string {
	if c.Keys != "" {
		return c.Keys
	}
	return filepath.Join(c.DataDir, "keys")
}

func (k *controlling) streamConfig() stream.Config {
	c := k.config
	if c.NATSURL != "" {
		return externalJournal(c, k.trusted, k.log)
	}
	return stream.Config{Dir: journalFolder(c), Log: k.log}
}

// externalJournal is the journal on the cluster of REMPART_NATS_URL; authorities may be nil.
func externalJournal(c *config.Config, authorities *reloadable[*x509.CertPool], log *slog.Logger) stream.Config {
	sc := stream.Config{URL: c.NATSURL, Credentials: c.NATSCreds, SystemCredentials: c.NATSSystem, Replicas: c.NATSReplicas, Log: log}
	if authorities != nil {
		sc.RootCAs = func() (*x509.CertPool, error) { return authorities.get(), nil }
	}
	return sc
}

// published tells which sources' word goes to all servers: not what is never blocked on this machine, nor, for the journal may hold it, what lists say
// that could not be had since the start.
func (k *controlling) published() func(source string) bool {
	absent := map[string]bool{k.config.Allow: true}
	for _, l := range k.lists.Status().Lists {
		if l.Fetched.IsZero() {
			absent[l.Name] = true
		}
	}
	return func(source string) bool { return !absent[source] }
}

func (k *controlling) close() {
	if err := k.stream.Close(); err != nil {
		k.log.Error("the journal was not closed in order", "err", err)
	}
}

// run publishes until ctx ends.
func (k *controlling) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if err := k.serveAPI(ctx, g); err != nil {
		return err
	}
	g.Go(func() error { return k.control.Run(ctx, func() { k.begin(ctx) }) })
	g.Go(func() error { return k.publishLists(ctx) })
	g.Go(func() error { return k.api.Load().Run(ctx) })
	for _, f := range k.files() {
		g.Go(func() error { return f.run(ctx) })
	}
	g.Go(func() error { return k.secure.warn(ctx) })
	if k.rpz != nil {
		g.Go(func() error { return k.rpz.run(ctx, k.renew) })
	}
	if k.config.Mirror != "" {
		folder, err := mirror.NewFolder(k.config.Mirror)
		if err != nil {
			return fmt.Errorf("%w (REMPART_MIRROR_DIR names it)", err)
		}
		g.Go(func() error {
			return folder.Run(ctx, k.control, func(err error) { k.log.Error("the mirror's files are not up to date; it is tried again", "err", err) })
		})
	}
	return g.Wait()
}

// begin lets others publish, once what was recovered has its receipts.
func (k *controlling) begin(ctx context.Context) {
	if err := k.api.Load().Recover(ctx, k.control.Recovered()); err != nil {
		k.log.Error("not every recovered change set is listed by \"rempart changesets\"; all of them are in force", "err", err)
	}
	k.log.Info("control is ready")
	close(k.ready)
}

// conflict returns why nothing may be published because of what servers report.
func (k *controlling) conflict() error {
	if api := k.api.Load(); api != nil {
		return api.Conflict()
	}
	return nil
}

// applied is told of every change as it comes into force at control.
func (k *controlling) applied(before, after *blocklist.View, e journal.Effect) {
	if api := k.api.Load(); api != nil {
		api.Applied(e)
	}
	if k.rpz != nil {
		k.rpz.changed(before, after, e)
	}
}

// whole is what is in force; nil while something of its version is on its way.
func (k *controlling) whole() *blocklist.View {
	f := k.control.Follower()
	if view := f.Set().View(); f.InForce() >= view.Version() {
		return view
	}
	return nil
}

// renew publishes a version without changes: zones change with versions only.
func (k *controlling) renew(ctx context.Context) {
	if _, err := k.control.Publish(ctx, journal.Draft{Kind: journal.RecordRenew, By: "time"}); err != nil && ctx.Err() == nil {
		k.log.Warn("what time changed is in policy zones with the next change only", "err", err)
	}
}

// publishLists publishes what lists say whenever that changed.
func (k *controlling) publishLists(ctx context.Context) error {
	select {
	case <-k.ready:
	case <-ctx.Done():
		return nil
	}
	if len(k.config.Lists) == 0 && k.config.Feeds == "" {
		return nil // another control on the same journal may have them: what it holds of lists stays
	}
	if k.api.Load().AwaitNodes(ctx) != nil {
		return nil
	}
	again := time.NewTimer(0)
	defer again.Stop()
	failed := false
	for {
		select {
		case <-k.changed:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
		if k.lists.Set().View().Version() == 0 {
			continue // not read yet: nothing is known of what they say
		}
		_, err := k.control.PublishLists(ctx, k.lists.Set().View(), k.published(), k.feeds)
		if err != nil && ctx.Err() == nil {
			if !failed {
				k.log.Error("what lists say could not be published; it is tried again", "err", err)
			}
			again.Reset(10 * time.Second)
		}
		failed = err != nil
	}
}

// files returns the files that are read again when they change.
func (k *controlling) files() []reloadableFile {
	all := append(k.secure.files(), guardFiles{k.lists.Guards()})
	if k.trusted != nil {
		all = append(all, k.trusted)
	}
	return all
}

// reload reads the key ring and all files again, as SIGHUP asks, and logs the result. Lists are read again by their own loop, which logs what changed.
func (k *controlling) reload(ctx context.Context) {
	results := map[reloaded][]string{}
	for _, f := range k.files() {
		result := f.reload()
		results[result] = append(results[result], f.setting())
	}
	before := k.control.State().RingSerial()
	ring, err := k.keys.Ring()
	if err == nil {
		_, err = k.control.SetRing(ctx, ring.Sealed)
	}
	switch {
	case err != nil:
		k.log.Error("the key ring stays as it is", "folder", keysFolder(k.config), "key_ring", before, "err", err)
		results[reloadRefused] = append(results[reloadRefused], "key ring")
	case ring.Serial > before:
		results[reloadTaken] = append(results[reloadTaken], "key ring")
	default:
		results[reloadUnchanged] = append(results[reloadUnchanged], "key ring")
	}
	text := func(r reloaded) string { return cmp.Or(strings.Join(results[r], ", "), "nothing") }
	k.log.Info("SIGHUP: keys and files were read again, and every list is looked at", "changed", text(reloadTaken), "unusable", text(reloadRefused), "unchanged", text(reloadUnchanged),
		"key_ring", k.control.State().RingSerial(), "lists", len(k.lists.Status().Lists))
}

func (k *controlling) register(r *prometheus.Registry) {
	r.MustRegister(k.control.Follower().Collector())
	k.registerOwn(r)
}

// registerOwn registers what a server's own edge does not count already.
func (k *controlling) registerOwn(r *prometheus.Registry) {
	r.MustRegister(k.api.Load().Collector())
	if k.secure != nil {
		r.MustRegister(k.secure)
	}
	if k.rpz != nil {
		r.MustRegister(k.rpz.server.Collector())
	}
}

// notReady says why nothing can be pushed here, or nothing.
func (k *controlling) notReady() string {
	select {
	case <-k.ready:
	default:
		return "the journal is being read"
	}
	if err := k.conflict(); err != nil {
		return err.Error()
	}
	if err := k.control.Damaged(); err != nil {
		return err.Error()
	}
	return ""
}

// greet says where what is, and what to do next.
func (k *controlling) greet(w io.Writer, lists *feed.Lists) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	st := k.control.State()
	fmt.Fprintf(w, "Rempart %s controls a set of %s, version %d.\n", version(), count(st.View().Stats().Names, "name"), st.Version)
	k.greetOwn(line)
	for _, l := range lists.Status().Lists {
		line("list", "%s", listLine(l, time.Now()))
	}
	if len(k.figureAt) > 0 {
		line("figures", "%s", urls(k.figureAt, "/metrics"))
	}
	line("try", "rempart token create me --role publisher")
}

// greetOwn says where operators and servers reach it, once it is ready.
func (k *controlling) greetOwn(line func(label, format string, args ...any)) {
	ring, err := k.keys.Ring()
	if err == nil && len(ring.Roots) > 0 {
		line("root key", "%s", ring.Roots[0])
	}
	for _, addr := range k.pushAt {
		line("API", "%s", k.url(addr)+"/openapi.json")
		line("servers", "REMPART_CONTROL=%s, with a token of the role node", k.url(addr)+"/v1/journal")
	}
	if k.rpz != nil {
		line("zones", "%s on %s", k.rpz.names(), join(append(slices.Clone(k.config.RPZListen), k.config.RPZTLSListen...)))
	}
}
