// Package stream keeps the journal's bytes on NATS JetStream: in this process, or on an external cluster. It knows
// nothing of what the bytes say: to it a record is a number, a kind and octets.
//
// Control opens a Stream, the one writer, which creates what is missing. Nodes Connect as Readers. All state is in
// JetStream: the journal, heartbeats and audit records in a stream each, snapshots in an object store, the rest in
// key-value buckets.
package stream

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrNone says that there is no such record, object, key or heartbeat. It is fs.ErrNotExist, too.
	ErrNone error = missing("there is none")
	// ErrExists says that a key to create is there already.
	ErrExists = errors.New("it exists already")
	// ErrBehind says that another wrote first, and nothing was written: the end of the journal, or a key's
	// revision, is not the one expected. On a cluster it can also be an own write of unknown outcome, still on its way.
	ErrBehind = errors.New("another wrote first")
	// ErrUnknown says that a write may have been kept or not, now or in a moment: look with At before writing again.
	ErrUnknown = errors.New("whether it was kept is unknown")
	// ErrFull says that the disk is too full for a write, and nothing was written. Writes go on when there is room.
	ErrFull = errors.New("the disk is full")
	// ErrLost says that records which were once kept are gone. It is fs.ErrNotExist, too.
	ErrLost error = missing("records are missing")
	// ErrClosed says that the Stream or Reader was closed.
	ErrClosed = errors.New("closed")
)

// missing is an error that is fs.ErrNotExist, too.
type missing string

func (m missing) Error() string        { return string(m) }
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }

const (
	// maxPayload bounds a message of the embedded server, its headers included.
	maxPayload = 8 << 20
	// headerRoom of a message's bound is left for headers, also those that a server adds on the way back.
	headerRoom = 16 << 10
	// writeTimeout bounds the wait for an acknowledgement where the context does not: beyond it a write's outcome is unknown.
	writeTimeout = 10 * time.Second
	// readTimeout is the same for reads, which are tried again.
	readTimeout = 5 * time.Second
)

// Config says where the journal is kept.
type Config struct {
	// Embedded, when URL is empty.

	Dir string // folder of the file store, for one process at a time; made if missing

	// External.

	URL         string // comma-separated servers, nats:// or tls://, which may carry user:password@
	Credentials string // path of a .creds file; "" for none
	// SystemCredentials of the system account, a .creds file's path or user:password: servers that do not sync always
	// are then refused. "" leaves them unasked.
	SystemCredentials string
	Replicas          int // of what is created; 0 is 3
	// RootCAs returns the authorities that the servers' certificates are checked against. It is called at each connection. nil is the system's.
	RootCAs func() (*x509.CertPool, error)

	Copying bool // for Copy: a journal to which a copy was interrupted is opened all the same

	Log *slog.Logger // nil discards
}

// Stream is control's side: the writer. It is safe for concurrent use.
type Stream struct {
	*Reader
	cfg     Config
	buckets map[string]*Bucket
	server  *embedded // nil on an external cluster

	close sync.Once
}

// Open opens the journal as its writer: starts the embedded server or connects to the external one, creates the streams
// and buckets that are missing, and refuses those that could lose records. The caller Closes it.
func Open(ctx context.Context, c Config) (*Stream, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stream{cfg: c}
	var err error
	if c.URL == "" {
		err = s.openEmbedded()
	} else {
		err = s.openExternal(ctx)
	}
	if err == nil {
		err = s.setUp(ctx)
	}
	if err == nil && s.server == nil {
		err = s.checkSyncOfPeers(ctx)
	}
	if err == nil {
		err = s.refuseUnfinishedCopy(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return s, nil
}

// openEmbedded starts the server and connects to it within the process.
func (s *Stream) openEmbedded() (err error) {
	if s.server, err = startEmbedded(s.cfg); err != nil {
		return err
	}
	nc, err := s.server.connect("rempart control", s.cfg.Log)
	if err != nil {
		return err
	}
	s.Reader, err = newReader(nc, s.cfg.Log)
	return err
}

// Close ends all that Open began: connections, then the embedded server, whose store is on disk when Close returns.
func (s *Stream) Close() error {
	s.close.Do(func() {
		if s.Reader != nil {
			s.Reader.Close()
		}
		if s.server != nil {
			s.server.close()
		}
	})
	return nil
}

// MaxRecord is the longest record, audit record or value that is taken, in octets.
func (s *Stream) MaxRecord() int {
	return int(min(s.nc.MaxPayload(), maxPayload)) - headerRoom
}

// room is ErrFull when n octets more would leave the embedded store's disk too full, and the error that stopped the
// store, if one did.
func (s *Stream) checkSpace(n int) error {
	if n > s.MaxRecord() {
		return fmt.Errorf("%d octets are more than the %d that fit in a message", n, s.MaxRecord())
	}
	if s.server == nil {
		return nil
	}
	return s.server.checkSpace(n)
}

// publish writes a message and waits until it is kept.
func (s *Stream) publish(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	if s.nc.IsClosed() {
		return 0, ErrClosed
	}
	if err := s.checkSpace(len(m.Data)); err != nil {
		return 0, err
	}
	ctx, cancel := s.writeContext(ctx)
	defer cancel()
	ack, err := s.js.PublishMsg(ctx, m, opts...)
	if err != nil {
		return 0, s.writeError(err)
	}
	return ack.Sequence, nil
}

// writing bounds a write: a store that fails does not answer what it has taken.
func (s *Stream) writeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	if s.server == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(s.server.currentWrites(), cancel)
	return ctx, func() { stop(); cancel() }
}

// writeError says what a failed write means to who asked for it.
func (s *Stream) writeError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, errCodeWrongLastSequenceConstant:
			return fmt.Errorf("%w (%v)", ErrBehind, err)
		}
		return fmt.Errorf("refused by the server: %w", err)
	case errors.Is(err, nats.ErrReconnectBufExceeded):
		return fmt.Errorf("%w: nothing was written", translateError(err))
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		// Nobody was there to take it, or the server stopped its store.
		s.requestCheck()
		return errors.New("no server keeps the stream at the moment: nothing was written")
	}
	s.requestCheck()
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// suspect has the embedded server looked at: it does not answer a write that its disk refused.
func (s *Stream) requestCheck() {
	if s.server != nil {
		s.server.requestCheck()
	}
}

// errCodeWrongLastSequenceConstant is what a cluster's leader says of an expected sequence while other writes are on their way.
const errCodeWrongLastSequenceConstant jetstream.ErrorCode = 10164
