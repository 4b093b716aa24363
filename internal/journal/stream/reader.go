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
	Data     []byte // belongs to the receiver
}

// Reader reads the journal, heartbeats and objects, and publishes reports. It is safe for concurrent use. It reconnects without limit when the connection is
// lost.
type Reader struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	reports *nats.Conn // connection on which reports are published and received
	log     *slog.Logger
}

// NodeConfig configures a node's connection to the journal on an external cluster.
type NodeConfig struct {
	URL         string // comma-separated servers, nats:// or tls://, which may carry user:password@
	Name        string // the node's name
	Credentials string // path of a .creds file; "" for none
	// RootCAs returns the authorities for the servers' certificates. It is called at each connection. nil uses the system's.
	RootCAs func() (*x509.CertPool, error)
	Log     *slog.Logger
}

// Connect opens the journal for a node, which creates nothing. It succeeds even if no server answers yet, and continues to connect in the background. An error
// means that the configuration is invalid. The caller closes the Reader.
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

// newReader returns a Reader that owns a connection.
func newReader(nc *nats.Conn, log *slog.Logger) (*Reader, error) {
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(writeTimeout))
	if err != nil {
		nc.Close()
		return nil, err
	}
	return &Reader{nc: nc, js: js, reports: nc, log: log}, nil
}

// Close closes the connection. Running calls of Follow return ErrClosed.
func (r *Reader) Close() error {
	r.reports.Close()
	r.nc.Close()
	return nil
}

// At returns the record of a sequence, or ErrNone. On a cluster the record may appear a little after Append returned.
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

// Last returns the newest record of a kind, or of all kinds for "", or ErrNone.
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

// lastOf returns the subject of a kind, or of all kinds for "".
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

// Report publishes a node's status. It is lost if nobody receives it. A cluster's permissions allow a node to publish under its own name only.
func (r *Reader) Report(_ context.Context, node string, data []byte) error {
	t := token(node)
	if t == "" {
		return badName("report of node", node)
	}
	if len(data) > maxReport {
		return fmt.Errorf("report of %d bytes: the limit is %d", len(data), maxReport)
	}
	if err := r.reports.Publish(reportSubject+t, data); err != nil {
		return fmt.Errorf("report: %w", translateError(err))
	}
	return nil
}

// record returns the record in a message of the journal.
func (m message) record() (Record, error) {
	kind, ok := "", false
	if t, found := strings.CutPrefix(m.subject, journalSubject); found {
		kind, ok = untoken(t)
	}
	if !ok {
		return Record{}, fmt.Errorf("record %d has the subject %.60q, which no record has", m.sequence, m.subject)
	}
	return Record{Sequence: m.sequence, Kind: kind, Data: m.data}, nil
}

// errNotConnected is returned while no server can be reached.
var errNotConnected = errors.New("not connected to a server")

// translateError replaces errors of the client library by clearer ones of this package.
func translateError(err error) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrClosed
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return errNotConnected
	}
	return err
}
