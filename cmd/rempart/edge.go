package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/stream"
)

// edge takes the set from a control rather than from lists.
type edge struct {
	*journal.Follower
	files []reloadableFile
	close func() // the source; after Run
}

// Run follows control, and reads files again when they change, until ctx ends.
func (e *edge) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range e.files {
		g.Go(func() error { return f.run(ctx) })
	}
	g.Go(func() error { return e.Follower.Run(ctx) })
	return g.Wait()
}

// edgeOptions are what an edge has of the server it is in.
type edgeOptions struct {
	log     *slog.Logger
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	local   *feed.Lists // names that are never blocked here
	figures func() (queries, blocked uint64)
}

// newEdge is the edge of REMPART_CONTROL.
func newEdge(c *config.Config, opt edgeOptions) (*edge, error) {
	node := nodeName(c, opt.log)
	roots, err := rootKeys(c.ControlKey)
	if err != nil {
		return nil, err
	}
	source, err := newControlSource(c, node, opt)
	if err != nil {
		return nil, err
	}
	e, err := followSource(c, source, source.close, node, roots, opt)
	if err == nil {
		e.files = source.files
	}
	return e, err
}

// knownCountry returns an error if REMPART_COUNTRY is a code of no country: no change for a country would reach this server.
func knownCountry(c *config.Config) error {
	if c.Country != "" && !journal.IsCountry(c.Country) {
		return config.Bad("COUNTRY", c.Country, "not a country code of ISO 3166-1: write two capital letters, like FR")
	}
	return nil
}

// followSource is an edge of any source.
func followSource(c *config.Config, source journal.Source, end func(), node string, roots []journal.PublicKey, opt edgeOptions) (*edge, error) {
	f, err := journal.NewFollower(journal.FollowerConfig{
		Dir: edgeFolder(c), Source: source, Trust: roots,
		Node:   journal.Node{ID: node, Country: c.Country, Operator: c.Operator},
		Totals: opt.figures, Refresh: allowedHere(opt.local.Set(), c.Allow), Log: opt.log,
	})
	if err != nil {
		end()
		return nil, err
	}
	return &edge{Follower: f, close: end}, nil
}

// edgeFolder is where an edge keeps what came from control.
func edgeFolder(c *config.Config) string { return filepath.Join(c.DataDir, "edge") }

// allowedHere puts what is never blocked on this machine over a view.
func allowedHere(local *blocklist.Set, list string) func(*blocklist.View) (*blocklist.View, error) {
	return func(view *blocklist.View) (*blocklist.View, error) {
		var changes []blocklist.Change
		here := local.View().Input().Only(func(source string) bool { return source == list })
		err := here.Each(func(c blocklist.Change) bool {
			c.Listing.Name = bytes.Clone(c.Listing.Name)
			changes = append(changes, c)
			return true
		})
		if err != nil || len(changes) == 0 {
			return view, err
		}
		return view.With(view.Info(), changes)
	}
}

func rootKeys(texts []string) (roots []journal.PublicKey, err error) {
	for _, text := range texts {
		k, err := journal.ParsePublicKey(text)
		if err != nil {
			return nil, config.Bad("CONTROL_KEY", text, err.Error())
		}
		roots = append(roots, k)
	}
	return roots, nil
}

// nodeName is the configured one, or the random one in the data folder.
func nodeName(c *config.Config, log *slog.Logger) string {
	if name := keptNodeName(c); name != "" {
		return name
	}
	path, err := nodeNamePath(c), error(nil)
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	name := "node-" + hex.EncodeToString(id[:])
	if err = os.MkdirAll(c.DataDir, 0o750); err == nil {
		err = durable.WriteBytes(path, []byte(name+"\n"))
	}
	if err != nil {
		log.Warn("the name that this server gave itself will be another one after a restart; set REMPART_NODE, or make the data folder writable", "node", name, "err", err)
	}
	return name
}

func nodeNamePath(c *config.Config) string { return filepath.Join(c.DataDir, "node") }

// keptNodeName returns the configured name, or that of an earlier run; "" where there is none.
func keptNodeName(c *config.Config) string {
	if c.Node != "" {
		return c.Node
	}
	data, err := durable.ReadRegular(nodeNamePath(c), maxToken)
	if name := strings.TrimSpace(string(data)); err == nil && len(name) <= 64 {
		return name
	}
	return ""
}

// controlSource is the journal that REMPART_CONTROL names, and the files by which it is reached.
type controlSource struct {
	journal.Source
	files []reloadableFile
	close func()
}

func newControlSource(c *config.Config, node string, opt edgeOptions) (*controlSource, error) {
	s := &controlSource{}
	authorities, err := newAuthorities(c, opt.log)
	if err != nil {
		return nil, err
	}
	var pool func() (*x509.CertPool, error)
	if authorities != nil {
		s.files = append(s.files, authorities)
		pool = func() (*x509.CertPool, error) { return authorities.get(), nil }
	}
	token := func() string { return c.ControlToken }
	if c.ControlTokenFile != "" {
		file, err := newReloadable(opt.log, "REMPART_CONTROL_TOKEN_FILE", []string{c.ControlTokenFile}, func() (string, error) { return readTokenFile(c.ControlTokenFile) })
		if err != nil {
			return nil, config.Bad("CONTROL_TOKEN_FILE", c.ControlTokenFile, err.Error())
		}
		s.files, token = append(s.files, file), file.get
	}
	if strings.HasPrefix(c.Control, "http") {
		client := controlClient(opt.dial, pool)
		s.close = client.CloseIdleConnections
		if s.Source, err = mirror.NewClient(c.Control, token, client); err != nil {
			return nil, config.Bad("CONTROL", c.Control, err.Error())
		}
		return s, nil
	}
	r, err := stream.Connect(context.Background(), stream.NodeConfig{URL: c.Control, Name: node, Credentials: c.NATSCreds, RootCAs: pool, Log: opt.log})
	if err != nil {
		return nil, fmt.Errorf("REMPART_CONTROL: %w", err)
	}
	s.Source, s.close = journal.FromStream(r, node), func() { _ = r.Close() }
	return s, nil
}

// controlClient returns an HTTP client that checks servers against the authorities that pool returns at each connection; a nil pool is the system's.
func controlClient(dial func(ctx context.Context, network, addr string) (net.Conn, error), pool func() (*x509.CertPool, error)) *http.Client {
	transport := &http.Transport{DialContext: dial, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 2 * time.Minute, MaxIdleConnsPerHost: 4}
	transport.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		secure := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: []string{"h2", "http/1.1"}}
		if pool != nil {
			if secure.RootCAs, err = pool(); err != nil {
				return nil, err
			}
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		client := tls.Client(conn, secure)
		handshake, cancel := context.WithTimeout(ctx, transport.TLSHandshakeTimeout)
		defer cancel()
		if err := client.HandshakeContext(handshake); err != nil {
			conn.Close()
			return nil, err
		}
		return client, nil
	}
	return &http.Client{Transport: transport}
}

// patience is how long a start waits for control where nothing is in force.
const patience = 5 * time.Second

// await waits a moment for control, where nothing is in force.
func (e *edge) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = e.Wait(ctx, 1) // or answers go out unfiltered, and /readyz says so
}

// set is what is in force here.
func (s *server) set() *blocklist.Set {
	if s.edge != nil {
		return s.edge.Set()
	}
	return s.lists.Set()
}

// follow makes the edge, and the control that it follows where that runs here.
func (s *server) follow(ctx context.Context) (err error) {
	if err := knownCountry(s.config); err != nil {
		return err
	}
	opt := edgeOptions{log: s.log, dial: s.forward.main.DialContext, local: s.lists, figures: func() (uint64, uint64) { return s.resolver.Totals() }}
	switch {
	case s.config.Control != "":
		s.edge, err = newEdge(s.config, opt)
	case len(s.config.PushListen) > 0:
		if s.control, err = newControlling(ctx, s.config, s.log, s.lists, s.publish, restart{}); err != nil {
			return err
		}
		ring, err := s.control.keys.Ring()
		if err != nil {
			return err
		}
		node := nodeName(s.config, s.log)
		source := journal.FromStream(s.control.stream.Reader, node)
		s.edge, err = followSource(s.config, source, func() {}, node, ring.RootKeys, opt)
		return err
	}
	return err
}

// keepVersion has the data folder's counter continue from the journal: whoever goes back to lists of its own goes on from there.
func (s *server) keepVersion() {
	version := s.edge.State().Version
	if version == 0 || s.control != nil { // lists in the same process count for themselves
		return
	}
	counter, lost := durable.OpenCounter(filepath.Join(s.config.DataDir, "version"), func() uint64 { return version })
	if lost != nil {
		s.log.Warn("the number of the last version was lost", "err", lost)
	}
	if _, err := counter.Next(version); err != nil {
		s.log.Warn("the version's counter was not brought up to the journal's", "err", err)
	}
}

// refresh puts what is never blocked here over the set whenever that changed.
func (s *server) refresh(ctx context.Context) error {
	for {
		select {
		case <-s.changed:
		case <-ctx.Done():
			return nil
		}
		if err := s.edge.Refresh(); err != nil {
			s.log.Error("REMPART_ALLOW stays as it was", "err", err)
		}
	}
}

func (s *server) close() {
	if s.edge != nil {
		s.edge.close()
		s.keepVersion()
	}
	if s.control != nil {
		s.control.close()
	}
}

// notReady says why the set should not be relied upon, or nothing.
func (e *edge) notReady(stale time.Duration) string {
	h := e.Health()
	if e.Set().View().Version() == 0 {
		why := "no set is in force, and answers go out unfiltered: none came from REMPART_CONTROL yet"
		if h.Problem != "" {
			why += ": " + h.Problem
		}
		return why
	}
	if h.Lost > 0 {
		return fmt.Sprintf("version %d was in force here before the restart, and version %d is now: files in the folder edge were lost or damaged, and what is missing has not come from control yet", h.Lost, h.Status.Version)
	}
	if stale > 0 && h.Heartbeat > stale {
		return fmt.Sprintf("control was not heard of for %s (REMPART_CONTROL_STALE is %s); version %d stays in force", age(h.Heartbeat), stale, h.Status.Version)
	}
	return ""
}
