package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rempart/internal/durable"
)

const (
	// maxPending bounds the bytes that wait for one slow connection. The server closes a connection with more.
	maxPending = 4 * maxPayload
	// startTimeout bounds a start, including the recovery of the store.
	startTimeout = 5 * time.Minute
	// watchInterval is the time between two checks of the store.
	watchInterval = time.Second
)

// embedded is a NATS server in this process. It opens no port: control and the nodes in this process connect within the process, and other nodes follow the
// journal over HTTPS. If the store stopped because the disk was full, embedded restarts the server, which does not resume by itself.
type embedded struct {
	cfg    Config
	log    *slog.Logger
	unlock func()

	mu            sync.Mutex // guards the fields of this group
	server        *server.Server
	serverLog     *serverLog      // the log of server
	failed        error           // why the store refuses writes; nil if it accepts them
	writesContext context.Context // canceled when the store fails
	failWrites    context.CancelFunc

	checkDue chan struct{} // has a buffer of one
	stop     context.CancelFunc
	watching sync.WaitGroup
}

// startEmbedded locks the folder and starts a server on it.
func startEmbedded(c Config) (*embedded, error) {
	if c.Dir == "" {
		return nil, errors.New("no folder is configured for the journal")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal's folder: %w", err)
	}
	unlock, err := durable.Lock(c.Dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{cfg: c, log: c.Log, unlock: unlock, checkDue: make(chan struct{}, 1)}
	if err := e.start(); err != nil {
		unlock()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.watching.Go(func() { e.watch(ctx) })
	return e, nil
}

// start starts the server.
func (e *embedded) start() error {
	if err := checkWritable(e.cfg.Dir); err != nil {
		return err
	}
	if err := removeUnfinishedStreams(e.cfg.Dir); err != nil {
		return err
	}
	s, err := server.NewServer(e.options())
	if err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	log := &serverLog{log: e.log}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if err := e.waitReady(s, log); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return err
	}
	return nil
}

// waitReady waits until the server accepts connections.
func (e *embedded) waitReady(s *server.Server, log *serverLog) error {
	up := false
	for end := time.Now().Add(startTimeout); !up && log.fatal() == nil && time.Now().Before(end); {
		up = s.ReadyForConnections(100 * time.Millisecond)
	}
	if err := log.fatal(); err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	if !up || !s.JetStreamEnabled() {
		return fmt.Errorf("journal's server did not start on %s: see its log", e.cfg.Dir)
	}
	if err := checkRecovered(s, e.cfg.Dir); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server, e.serverLog, e.failed = s, log, nil
	e.writesContext, e.failWrites = context.WithCancel(context.Background())
	return nil
}

// options returns the server's options.
func (e *embedded) options() *server.Options {
	return &server.Options{
		ServerName:    "rempart",
		DontListen:    true,
		NoSigs:        true,
		MaxPayload:    maxPayload,
		MaxPending:    maxPending,
		WriteDeadline: 10 * time.Second,

		JetStream:              true,
		StoreDir:               e.cfg.Dir,
		SyncAlways:             true, // sync before a write is acknowledged
		JetStreamMaxMemory:     64 << 20,
		JetStreamMaxStore:      1 << 60, // checkSpace checks the disk, which other programs fill as well
		DisableJetStreamBanner: true,
	}
}

// InProcessConn returns a connection to the current server. It implements nats.InProcessConnProvider.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	s := e.server
	e.mu.Unlock()
	if s == nil {
		return nil, errors.New("the journal's server is not running")
	}
	return s.InProcessConn()
}

// connect returns a connection within the process.
func (e *embedded) connect(name string, log *slog.Logger) (*nats.Conn, error) {
	return dial("", "", nil, log, nats.InProcessServer(e), nats.Name(name), nats.CustomInboxPrefix(controlInbox), nats.ReconnectWait(10*time.Millisecond),
		nats.ReconnectJitter(0, 0))
}

// isConnected reports whether a connection leads to the current server. After a restart, a connection needs a moment to notice that the former server is gone.
func (e *embedded) isConnected(nc *nats.Conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.server != nil && nc.ConnectedServerId() == e.server.ID()
}

// close stops the server. When it returns, the store is on disk.
func (e *embedded) close() {
	e.stop()
	e.watching.Wait()
	e.shutdown()
	e.unlock()
}

// shutdown stops the current server.
func (e *embedded) shutdown() {
	e.mu.Lock()
	s := e.server
	e.server = nil
	e.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		e.failWrites()
	}
}
