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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/setup"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/cmd/rempart/setup/public"
	"rempart/cmd/rempart/setup/reload"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/appeal"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// controlServer accepts changes and publishes the journal.
type controlServer struct {
	config  *config.Config
	log     *slog.Logger
	keys    *signing.Keys
	feeds   *signing.SecretKey
	stream  *stream.Stream
	control *publish.Control
	api     atomic.Pointer[pushapi.API]   // nil until the API is open
	rpz     *setup.Zones                  // nil without policy zones
	secure  *certificates.API             // nil: without TLS
	trusted *reload.Value[*x509.CertPool] // the authorities for the external NATS cluster; nil: those of the system
	appeals *reload.Value[*appeal.Policy] // how appeals are handled; nil: control accepts none

	portalFiles reload.Files // of the portal, if control is alone in its process; set before run
	lists       *feed.Lists
	pushAt      []netip.AddrPort // addresses of the API, once it is served
	metricsAt   []netip.AddrPort // addresses of the metrics, if control is alone in its process
	portalAt    []netip.AddrPort // addresses of the portal, if control is alone in its process
	reading     sync.Mutex       // held while the journal is read for a reader of the portal
	changed     <-chan struct{}  // signals that the set of the lists changed
	ready       chan struct{}    // closed when control accepts pushes
}

// openControlServer opens the keys, the journal and the API. changed signals that the set of the lists changed.
func openControlServer(ctx context.Context, c *config.Config, log *slog.Logger, lists *feed.Lists, changed <-chan struct{}, again restart) (*controlServer, error) {
	k := &controlServer{config: c, log: log, lists: lists, changed: changed, ready: make(chan struct{})}
	if err := os.MkdirAll(c.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("%w (the data folder is set by REMPART_DATA_DIR)", err)
	}
	if err := k.openKeys(); err != nil {
		return nil, err
	}
	var err error
	if k.secure, err = certificates.NewAPI(c, log); err != nil {
		return nil, err
	}
	if k.appeals, err = public.AppealPolicy(c, log); err != nil {
		return nil, err
	}
	if k.appeals != nil && len(c.PortalListen) == 0 {
		log.Warn("nobody can ask for a review: REMPART_APPEALS is set, but no portal is served; set REMPART_PORTAL_LISTEN")
	}
	if err := k.openStream(ctx); err != nil {
		return nil, err
	}
	if err := k.openJournal(ctx, again); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// openKeys opens the keys, and creates them at the first start.
func (k *controlServer) openKeys() error {
	folder := k.config.KeysFolder()
	keys, made, err := signing.OpenKeys(folder)
	if err != nil {
		return err
	}
	k.keys = keys
	if made {
		k.log.Info("keys were created; root.key signs which key may do what: store it outside this machine, and put it back only while it is needed", "folder", folder)
	}
	for _, name := range []string{signing.RootKey, signing.ControlKey, signing.FeedsKey, signing.DeskKey} {
		secrets.WarnReadable(k.log, "a secret key", k.keys.Path(name))
	}
	k.feeds, err = k.keys.Secret(signing.FeedsKey)
	return err
}

// openStream opens the journal's storage: a folder, or the cluster of REMPART_NATS_URL.
func (k *controlServer) openStream(ctx context.Context) error {
	var err error
	if k.config.NATSURL != "" {
		if k.trusted, err = certificates.NewAuthorities(k.config, k.log); err != nil {
			return err
		}
	}
	k.stream, err = stream.Open(ctx, k.streamConfig())
	if errors.Is(err, stream.ErrCopying) {
		return fmt.Errorf("%w: run \"rempart journal copy\" again, with the same settings, until it is complete", err)
	}
	return err
}

// openJournal starts control on the opened storage, with its policy zones and its API.
func (k *controlServer) openJournal(ctx context.Context, again restart) error {
	if err := setup.RefuseMovedJournal(ctx, k.config, k.stream); err != nil {
		return err
	}
	ring, err := k.keys.Ring()
	if err != nil {
		return err
	}
	key, err := k.keys.Secret(signing.ControlKey)
	if err != nil {
		return err
	}
	k.control, err = publish.New(publish.Config{
		Stream: k.stream, Key: key, Ring: ring.Sealed, Trust: ring.RootKeys, Dir: filepath.Join(k.config.DataDir, "control"), Log: k.log,
		Above: func() uint64 { return max(again.above, k.lists.Set().View().Version()) }, NewEpoch: again.above > 0, Recover: again.from,
		First: func(w io.Writer, info blocklist.Info) error {
			return blocklist.Compile(w, info, k.lists.Set().View().Input().Only(k.published()))
		},
		Changed: k.applied, Refuse: k.conflict,
	})
	if err != nil {
		return err
	}
	if k.rpz, err = setup.NewZones(k.config, k.log, k.secure.ServerTLS(), k.whole); err != nil {
		return err
	}
	k.lists.Guards().KeepInMemory()
	if err := k.control.Start(ctx); err != nil {
		return err
	}
	return k.openAPI(ctx)
}

func (k *controlServer) streamConfig() stream.Config {
	c := k.config
	if c.NATSURL != "" {
		return setup.ClusterConfig(c, k.trusted, k.log)
	}
	return stream.Config{Dir: setup.JournalFolder(c), Log: k.log}
}

// published returns a function that reports whether the listings of a source are published to all servers. The names that are never blocked on this machine are
// not. A list that could not be fetched since the start is not either, because the journal may hold its listings.
func (k *controlServer) published() func(source string) bool {
	absent := map[string]bool{k.config.Allow: true}
	for _, l := range k.lists.Status().Lists {
		if l.Fetched.IsZero() {
			absent[l.Name] = true
		}
	}
	return func(source string) bool { return !absent[source] }
}

func (k *controlServer) close() {
	if err := k.stream.Close(); err != nil {
		k.log.Error("closing the journal failed", "err", err)
	}
}

// run publishes until ctx ends.
func (k *controlServer) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if err := k.serveAPI(ctx, g); err != nil {
		return err
	}
	g.Go(func() error { return k.control.Run(ctx, func() { k.announceReady(ctx) }) })
	g.Go(func() error { return k.publishLists(ctx) })
	g.Go(func() error { return k.api.Load().Run(ctx) })
	g.Go(func() error { return k.files().Run(ctx) })
	g.Go(func() error { return k.secure.RunWarnings(ctx) })
	if k.rpz != nil {
		g.Go(func() error { return k.rpz.Run(ctx, k.renew) })
	}
	if k.config.Mirror != "" {
		folder, err := mirror.NewFolder(k.config.Mirror)
		if err != nil {
			return fmt.Errorf("%w (the folder is set by REMPART_MIRROR_DIR)", err)
		}
		g.Go(func() error {
			return folder.Run(ctx, k.control, func(err error) {
				k.log.Error("updating the files of the mirror failed; control tries again", "err", err)
			})
		})
	}
	return g.Wait()
}

// announceReady lets others publish, after the receipts of recovered change sets were stored.
func (k *controlServer) announceReady(ctx context.Context) {
	if err := k.api.Load().Recover(ctx, k.control.Recovered()); err != nil {
		k.log.Error("recording recovered change sets failed: \"rempart changesets\" does not list all of them, but all of them are in force", "err", err)
	}
	k.log.Info("control is ready")
	close(k.ready)
}

// conflict returns the reason why nothing may be published, according to the reports of servers; nil if there is none.
func (k *controlServer) conflict() error {
	if api := k.api.Load(); api != nil {
		return api.Conflict()
	}
	return nil
}

// applied is called for every change when it comes into force at control.
func (k *controlServer) applied(before, after *blocklist.View, e journal.Effect) {
	if api := k.api.Load(); api != nil {
		api.Applied(e)
	}
	if k.rpz != nil {
		k.rpz.Changed(before, after, e)
	}
}

// whole returns the view in force; nil while a snapshot of its version is still being fetched.
func (k *controlServer) whole() *blocklist.View {
	f := k.control.Follower()
	if view := f.Set().View(); f.InForce() >= view.Version() {
		return view
	}
	return nil
}

// renew publishes a version without changes, because zones change only together with the version.
func (k *controlServer) renew(ctx context.Context) {
	if _, err := k.control.Publish(ctx, publish.Draft{Kind: journal.RecordRenew, By: "time"}); err != nil && ctx.Err() == nil {
		k.log.Warn("publishing a version for listings that started or expired failed; policy zones show them with the next change", "err", err)
	}
}

// publishLists publishes the changes of lists until ctx ends.
func (k *controlServer) publishLists(ctx context.Context) error {
	select {
	case <-k.ready:
	case <-ctx.Done():
		return nil
	}
	if len(k.config.Lists) == 0 && k.config.Feeds == "" {
		return nil // another control on the same journal may have lists: their entries in the journal stay
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
			continue // the lists were not read yet
		}
		_, err := k.control.PublishLists(ctx, k.lists.Set().View(), k.published(), k.feeds)
		if err != nil && ctx.Err() == nil {
			if !failed {
				k.log.Error("publishing the changes of lists failed; control tries again", "err", err)
			}
			again.Reset(10 * time.Second)
		}
		failed = err != nil
	}
}

// files returns the files that are loaded again when they change.
func (k *controlServer) files() reload.Files {
	all := append(k.secure.Files(), reload.GuardFiles{Loader: k.lists.Guards()})
	if k.trusted != nil {
		all = append(all, k.trusted)
	}
	if k.appeals != nil {
		all = append(all, k.appeals)
	}
	return append(all, k.portalFiles...)
}

// reload reads the key ring and all files again, as SIGHUP requests, and logs the result. Lists are read again by their own loop, which logs their changes.
func (k *controlServer) reload(ctx context.Context) {
	results := map[reload.Result][]string{}
	for _, f := range k.files() {
		result := f.Reload()
		results[result] = append(results[result], f.Setting())
	}
	before := k.control.State().RingSerial()
	ring, err := k.keys.Ring()
	if err == nil {
		_, err = k.control.SetRing(ctx, ring.Sealed)
	}
	switch {
	case err != nil:
		k.log.Error("reading the key ring failed; the earlier one stays in use", "folder", k.config.KeysFolder(), "key_ring", before, "err", err)
		results[reload.Refused] = append(results[reload.Refused], "key ring")
	case ring.Serial > before:
		results[reload.Applied] = append(results[reload.Applied], "key ring")
	default:
		results[reload.Unchanged] = append(results[reload.Unchanged], "key ring")
	}
	text := func(r reload.Result) string { return cmp.Or(strings.Join(results[r], ", "), "nothing") }
	k.log.Info("SIGHUP: keys and files were read again, and every list is checked", "changed", text(reload.Applied), "unusable", text(reload.Refused), "unchanged", text(reload.Unchanged),
		"key_ring", k.control.State().RingSerial(), "lists", len(k.lists.Status().Lists))
}

func (k *controlServer) register(r *prometheus.Registry) {
	r.MustRegister(k.control.Follower().Collector())
	k.registerOwn(r)
}

// registerOwn registers the metrics that a server's own edge does not register.
func (k *controlServer) registerOwn(r *prometheus.Registry) {
	r.MustRegister(k.api.Load().Collector())
	if k.secure != nil {
		r.MustRegister(k.secure)
	}
	if k.rpz != nil {
		r.MustRegister(k.rpz.Server.Collector())
	}
}

// notReady returns the reason why nothing can be pushed here; "" if control is ready.
func (k *controlServer) notReady() string {
	select {
	case <-k.ready:
	default:
		return "the journal is still being read"
	}
	if err := k.conflict(); err != nil {
		return err.Error()
	}
	if err := k.control.Damaged(); err != nil {
		return err.Error()
	}
	return ""
}
