package stream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"

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
	reports *nats.Conn // where reports are published and received
	log     *slog.Logger
}

// NodeConfig configures a node's connection to the journal on an external cluster.
type NodeConfig struct {
	URL         string // comma-separated servers, nats:// or tls://, which may carry user:password@
	Name        string // the node's name
	Credentials string // path of a .creds file; "" for none
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
	nc, err := dial(c.URL, c.Credentials, c.RootCAs, c.Log, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to journal: %w", err)
	}
	r, err := newReader(nc, c.Log)
	if err != nil {
		return nil, fmt.Errorf("connect to journal: %w", err)
	}
	return r, nil
}

// newReader makes a Reader of a connection, which it takes.
func newReader(nc *nats.Conn, log *slog.Logger) (*Reader, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(writeTimeout))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Reader{nc: nc, js: js, reports: nc, log: log}, nil
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

// Report publishes a node's status, which is lost if nobody listens. A cluster's permissions let a node publish under its own name only.
func (r *Reader) Report(_ context.Context, node string, data []byte) error {
	t := token(node)
	if t == "" {
		return badName("report of node", node)
	}
	if len(data) > maxReport {
		return fmt.Errorf("report of %d octets: no more than %d are taken", len(data), maxReport)
	}
	if err := r.reports.Publish(reportSubject+t, data); err != nil {
		return fmt.Errorf("report: %w", translateError(err))
	}
	return nil
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
func translateError(err error) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return errNotConnected
	}
	return err
}
