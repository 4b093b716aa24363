package stream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Record is a record of the journal or of the audit log.
type Record struct {
	Sequence uint64 // from 1, without gaps
	Kind     string // empty in the audit log
	Data     []byte // the receiver's own
}

// Reader reads the journal, heartbeats and objects, and reports. It is safe for concurrent use. When the connection is
// lost it is made again, for ever.
type Reader struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	reports *nats.Conn  // where reports are published and heard
	gets    string      // prefix of the subjects that answer reads
	node    string      // its token; empty where there is no name
	secret  *nodeSecret // nil for control
	log     *slog.Logger
}

// NodeConfig says how a node reaches the journal.
type NodeConfig struct {
	URL  string // comma-separated servers: control's Listen address, or those of an external cluster
	Name string // the node's
	// Secret returns the node's secret for control's embedded server. It is called at each connection and each report. nil for an external cluster.
	Secret      func() string
	Credentials string // path of a .creds file, for an external cluster; "" for none
	// RootCAs returns the authorities that the servers' certificates are checked against. It is called at each connection. nil is the system's.
	RootCAs func() (*x509.CertPool, error)
	Log     *slog.Logger
}

// Connect opens a node's side of the journal, which creates nothing. It succeeds although no server answers yet:
// connecting goes on in the background. Its errors are of the configuration. The caller Closes the Reader.
func Connect(_ context.Context, c NodeConfig) (*Reader, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	node := token(c.Name)
	if node == "" {
		return nil, badName("connect to journal: node", c.Name)
	}
	opts := []nats.Option{nats.RetryOnFailedConnect(true), nats.CustomInboxPrefix(nodeInbox + node), nats.Name("rempart node " + node)}
	gets := directGet
	secret := &nodeSecret{current: c.Secret}
	if c.Secret != nil {
		opts = append(opts, nats.UserInfoHandler(func() (user, password string) { return c.Name, secret.use() }))
		gets = gateGet + node + "."
	}
	nc, err := dial(c.URL, c.Credentials, c.RootCAs, c.Log, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to journal: %w", err)
	}
	r, err := newReader(nc, gets, c.Log)
	if err != nil {
		return nil, fmt.Errorf("connect to journal: %w", err)
	}
	r.node, r.secret = node, secret
	return r, nil
}

// newReader makes a Reader of a connection, which it takes.
func newReader(nc *nats.Conn, gets string, log *slog.Logger) (*Reader, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(writeTimeout))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Reader{nc: nc, js: js, reports: nc, gets: gets, log: log}, nil
}

// Close ends the connection. Whoever follows gets ErrClosed.
func (r *Reader) Close() error {
	r.reports.Close()
	r.nc.Close()
	return nil
}

// At is the record of a sequence, or ErrNone. On a cluster a Reader may be told of a record a little after it was kept.
func (r *Reader) At(ctx context.Context, sequence uint64) (Record, error) {
	if sequence == 0 {
		return Record{}, ErrNone
	}
	m, err := r.get(ctx, journalStream, query{Sequence: sequence})
	if err != nil {
		return Record{}, fmt.Errorf("record %d: %w", sequence, err)
	}
	return m.record()
}

// Last is the newest record of a kind, of all for "", or ErrNone.
func (r *Reader) Last(ctx context.Context, kind string) (Record, error) {
	subject, err := lastOf(kind)
	if err != nil {
		return Record{}, err
	}
	m, err := r.get(ctx, journalStream, query{Last: subject})
	if err != nil {
		return Record{}, fmt.Errorf("last record %s: %w", kind, err)
	}
	return m.record()
}

// lastOf is the subject of a kind, of all for "".
func lastOf(kind string) (string, error) {
	if kind == "" {
		return journalSubject + ">", nil
	}
	t := token(kind)
	if t == "" {
		return "", badName("kind", kind)
	}
	return journalSubject + t, nil
}

// Report publishes a node's status, which is lost if nobody listens. A node can report for itself only, as Reports says.
func (r *Reader) Report(_ context.Context, node string, data []byte) error {
	t := token(node)
	if t == "" {
		return badName("report of node", node)
	}
	if len(data) > maxReport {
		return fmt.Errorf("report of %d octets: no more than %d are taken", len(data), maxReport)
	}
	if r.secret.changed() {
		_ = r.nc.ForceReconnect() // with the new secret; an error says that the connection is closed, which Publish returns too
	}
	if err := r.reports.Publish(reportSubject+reporter(t, r.secret.inUse()), data); err != nil {
		return fmt.Errorf("report: %w", plainer(err))
	}
	return nil
}

// nodeSecret is the secret of a node that may be replaced while the node is connected. A connection keeps the one it was made with.
type nodeSecret struct {
	current func() string // nil where the node's name is enough
	used    atomic.Pointer[string]
}

// use returns the current secret, for a connection that is being made.
func (s *nodeSecret) use() string {
	secret := s.current()
	s.used.Store(&secret)
	return secret
}

// inUse returns the secret that the connection was made with; "" if there is none. It may be called on a nil nodeSecret.
func (s *nodeSecret) inUse() string {
	if s == nil || s.used.Load() == nil {
		return ""
	}
	return *s.used.Load()
}

// changed reports whether the connection was made with another secret than the current one. It may be called on a nil nodeSecret.
func (s *nodeSecret) changed() bool {
	return s != nil && s.used.Load() != nil && s.current() != *s.used.Load()
}

// record is a message of the journal as a record.
func (m message) record() (Record, error) {
	kind, ok := "", false
	if t, found := strings.CutPrefix(m.subject, journalSubject); found {
		kind, ok = untoken(t)
	}
	if !ok {
		return Record{}, fmt.Errorf("record %d has the subject %.60q, which nothing here writes", m.sequence, m.subject)
	}
	return Record{Sequence: m.sequence, Kind: kind, Data: m.data}, nil
}

// errNotConnected says that no server can be reached at the moment.
var errNotConnected = errors.New("not connected to a server")

// plainer says what the client library does in words of this package, where they say more.
func plainer(err error) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return errNotConnected
	}
	return err
}
