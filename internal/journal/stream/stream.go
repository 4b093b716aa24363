// Package stream stores the journal's bytes on NATS JetStream, in this process or on an external cluster. It does not interpret them: a record has a sequence,
// a kind and data.
//
// Control opens a Stream, which is the only writer and creates missing streams. Nodes call Connect to get a Reader. All data is in JetStream: the journal,
// heartbeats and audit records in a stream each, snapshots in an object store, and the rest in key-value buckets.
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
	// ErrNone is returned if a record, object, key or heartbeat does not exist. It matches fs.ErrNotExist.
	ErrNone error = missing("it does not exist")
	// ErrExists is returned if a key to be created exists.
	ErrExists = errors.New("it exists already")
	// ErrBehind is returned if another writer wrote first, and nothing was written: the end of the journal, or a key's revision, is not the expected one. On a
	// cluster it can also be caused by an earlier write of the caller with unknown outcome.
	ErrBehind = errors.New("another writer wrote first")
	// ErrUnknown is returned if a write may have been stored, or may still be stored in a moment. The caller must check with At before it writes again.
	ErrUnknown = errors.New("it is unknown whether the write was stored")
	// ErrFull is returned if the disk is too full for a write, and nothing was written. Writes succeed again when there is space.
	ErrFull = errors.New("the disk is full")
	// ErrLost is returned if records that were stored once are missing. It matches fs.ErrNotExist.
	ErrLost error = missing("records are missing")
	// ErrClosed is returned after the Stream or Reader was closed.
	ErrClosed = errors.New("closed")
)

// missing is an error that matches fs.ErrNotExist.
type missing string

func (m missing) Error() string        { return string(m) }
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }

const (
	// maxPayload is the largest size of a message of the embedded server in bytes, including headers.
	maxPayload = 8 << 20
	// headerRoom is the part of maxPayload for headers, including those that a server adds to answers.
	headerRoom = 16 << 10
	// writeTimeout bounds the wait for an acknowledgement. After it the outcome of the write is unknown.
	writeTimeout = 10 * time.Second
	// readTimeout bounds the wait for an answer to a read, which is then repeated.
	readTimeout = 5 * time.Second
)

// Config configures a Stream.
type Config struct {
	// For the embedded server, if URL is empty:

	Dir string // folder of the file store, for one process at a time; created if missing

	// For an external cluster:

	URL         string // comma-separated servers, nats:// or tls://, which may carry user:password@
	Credentials string // path of a .creds file; "" for none
	// SystemCredentials are the path of a .creds file, or user:password, of the system account. With them, servers that do not sync every write are refused; ""
	// omits this check.
	SystemCredentials string
	Replicas          int // replicas of new streams; 0 is 3
	// RootCAs returns the authorities for the servers' certificates. It is called at each connection. nil uses the system's.
	RootCAs func() (*x509.CertPool, error)

	Copying bool // for Copy: opens a journal even if a copy to it was interrupted

	Log *slog.Logger // nil discards
}

// Stream is the journal's writer, used by control. It is safe for concurrent use.
type Stream struct {
	*Reader
	cfg     Config
	buckets map[string]*Bucket
	server  *embedded // nil on an external cluster

	close sync.Once
}

// Open opens the journal as its writer. It starts the embedded server or connects to the cluster, creates missing streams and buckets, and refuses existing
// ones whose settings could lose records. The caller closes the Stream.
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

// Close closes the connections and stops the embedded server. When it returns, the embedded store is on disk.
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

// MaxRecord returns the largest size of a record, audit record or value in bytes.
func (s *Stream) MaxRecord() int {
	return int(min(s.nc.MaxPayload(), maxPayload)) - headerRoom
}

// checkWrite returns ErrFull if n more bytes would exceed the space of the embedded store's disk, the store's error if the store failed, and an error while the
// connection leads to a server that was replaced, which would never answer.
func (s *Stream) checkWrite(n int) error {
	if n > s.MaxRecord() {
		return fmt.Errorf("%d bytes exceed the limit of %d bytes for a message", n, s.MaxRecord())
	}
	if s.server == nil {
		return nil
	}
	if err := s.server.checkSpace(n); err != nil {
		return err
	}
	if !s.server.isConnected(s.nc) {
		return errors.New("the journal's server was restarted, and the connection to it is not open yet: nothing was written")
	}
	return nil
}

// publish writes a message and waits for the acknowledgement.
func (s *Stream) publish(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (uint64, error) {
	if s.nc.IsClosed() {
		return 0, ErrClosed
	}
	if err := s.checkWrite(len(m.Data)); err != nil {
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

// writeContext bounds the time of a write. The context is canceled if the embedded store fails, because a failed store does not answer.
func (s *Stream) writeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	if s.server == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(s.server.currentWrites(), cancel)
	return ctx, func() { stop(); cancel() }
}

// writeError returns the error of this package for a failed write.
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
		// No server received the message, or the server has stopped its store.
		s.requestCheck()
		return errors.New("no server has the stream at the moment: nothing was written")
	}
	s.requestCheck()
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

// requestCheck makes the embedded server check its store, because it does not answer a write that the disk refused.
func (s *Stream) requestCheck() {
	if s.server != nil {
		s.server.requestCheck()
	}
}

// errCodeWrongLastSequenceConstant is the error code of a cluster's leader for an unexpected sequence while other writes are in progress.
const errCodeWrongLastSequenceConstant jetstream.ErrorCode = 10164
