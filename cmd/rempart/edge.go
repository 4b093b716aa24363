package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

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
	close func() // the source; after Run
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
	if c.Country != "" && !journal.IsCountry(c.Country) {
		return nil, config.Bad("COUNTRY", c.Country, "not a country code of ISO 3166-1: write two capital letters, like FR")
	}
	node := nodeName(c, opt.log)
	roots, err := rootKeys(c.ControlKey)
	if err != nil {
		return nil, err
	}
	source, end, err := controlSource(c, node, opt)
	if err != nil {
		return nil, err
	}
	return followSource(c, source, end, node, roots, opt)
}

// followSource is an edge of any source.
func followSource(c *config.Config, source journal.Source, end func(), node string, roots []journal.PublicKey, opt edgeOptions) (*edge, error) {
	f, err := journal.NewFollower(journal.FollowerConfig{
		Dir: edgeFolder(c), Source: source, Trust: roots,
		Node:    journal.Node{ID: node, Country: c.Country, Operator: c.Operator},
		Figures: opt.figures, Refresh: allowedHere(opt.local.Set(), c.Allow), Log: opt.log,
	})
	if err != nil {
		end()
		return nil, err
	}
	return &edge{f, end}, nil
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
	data, err := os.ReadFile(nodeNamePath(c))
	if name := strings.TrimSpace(string(data)); err == nil && len(name) <= 64 {
		return name
	}
	return ""
}

// controlSource is where REMPART_CONTROL leads.
func controlSource(c *config.Config, node string, opt edgeOptions) (journal.Source, func(), error) {
	if strings.HasPrefix(c.Control, "http") {
		tlsConfig, err := trusting(c.ControlCA)
		if err != nil {
			return nil, nil, err
		}
		client := &http.Client{Transport: &http.Transport{
			DialContext: opt.dial, TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 2 * time.Minute, MaxIdleConnsPerHost: 4,
		}}
		m, err := mirror.NewClient(c.Control, c.ControlToken, client)
		if err != nil {
			return nil, nil, config.Bad("CONTROL", c.Control, err.Error())
		}
		return m, client.CloseIdleConnections, nil
	}
	r, err := stream.Connect(context.Background(), stream.NodeConfig{
		URL: c.Control, Name: node, Secret: c.ControlToken, Credentials: c.NATSCreds, RootCA: c.ControlCA, Log: opt.log,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("REMPART_CONTROL: %w", err)
	}
	return journal.FromStream(r, node), func() { _ = r.Close() }, nil
}

// trusting is a client's TLS that trusts the certificates in a file, or the system's.
func trusting(path string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if path == "" {
		return t, nil
	}
	pool, err := certificates(path)
	if err != nil {
		return nil, config.Bad("CONTROL_CA", path, err.Error())
	}
	t.RootCAs = pool
	return t, nil
}

func certificates(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no PEM certificate is in it")
	}
	return pool, nil
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
	opt := edgeOptions{log: s.log, dial: s.forward.main.DialContext, local: s.lists, figures: func() (uint64, uint64) { return s.resolver.Totals() }}
	switch {
	case s.config.Control != "":
		s.edge, err = newEdge(s.config, opt)
	case len(s.config.PushListen) > 0:
		if s.control, err = newControlling(ctx, s.config, s.log, s.lists, s.publish, restart{}); err != nil {
			return err
		}
		_, _, roots, err := s.control.keys.Ring()
		if err != nil {
			return err
		}
		node := nodeName(s.config, s.log)
		source := journal.FromStream(s.control.stream.Reader, node)
		s.edge, err = followSource(s.config, source, func() {}, node, roots, opt)
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
	if stale > 0 && h.Heartbeat > stale {
		return fmt.Sprintf("control was not heard of for %s (REMPART_CONTROL_STALE is %s); version %d stays in force", age(h.Heartbeat), stale, h.Status.Version)
	}
	return ""
}
