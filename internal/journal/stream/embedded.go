package stream

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"rempart/internal/durable"
)

// The embedded server has two accounts: the global one, where JetStream and control are, and the nodes' own, where
// there is nothing but what control answers and hears (gate.go). What a node publishes, with whatever address
// for the answer, cannot reach a stream.
const nodesAccount = "NODES"

// The users of the connections within the process.
const (
	controlUser = "control"
	gateUser    = "gate"
)

const (
	// maxPending bounds what waits for one slow connection, which is then closed.
	maxPending = 4 * maxPayload
	// defaultNodes bounds the connections through Listen where Config does not.
	defaultNodes = 1024
	// sessionTime is how long a node stays connected before Authenticate is asked again.
	sessionTime = time.Hour
	// startTimeout bounds a start, whatever there is to recover.
	startTimeout = 5 * time.Minute
	// watchInterval is how often the store is looked at.
	watchInterval = time.Second
)

// embedded is a server in this process. It starts it anew when its store stopped because the disk was full: nats-server
// does not go on by itself.
type embedded struct {
	cfg    Config
	log    *slog.Logger
	secret string // of the connections within the process
	unlock func()

	session time.Duration // of a node; changed by tests, before nodes connect

	mu     sync.Mutex // guards what follows
	server *server.Server
	nodes  *server.Account
	failed error           // why the store takes no writes
	taking context.Context // ends when the store fails
	fail   context.CancelFunc

	suspected chan struct{} // holds one
	stop      context.CancelFunc
	watching  sync.WaitGroup
}

// startEmbedded takes the folder, recovers what is in it and serves it.
func startEmbedded(c Config) (*embedded, error) {
	if c.Dir == "" {
		return nil, errors.New("no folder is given for the journal")
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal's folder: %w", err)
	}
	unlock, err := durable.Lock(c.Dir)
	if err != nil {
		return nil, err
	}
	e := &embedded{cfg: c, log: c.Log, secret: rand.Text(), unlock: unlock, session: sessionTime, suspected: make(chan struct{}, 1)}
	if err := e.start(); err != nil {
		unlock()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.watching.Go(func() { e.watch(ctx) })
	return e, nil
}

// start makes the server run.
func (e *embedded) start() error {
	opts, err := e.options()
	if err != nil {
		return err
	}
	if err := writable(e.cfg.Dir); err != nil {
		return err
	}
	if err := removeUnborn(e.cfg.Dir); err != nil {
		return err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	log := &serverLog{log: e.log}
	s.SetLoggerV2(log, false, false, false)
	s.Start()
	if err := e.ready(s, log); err != nil {
		s.Shutdown()
		s.WaitForShutdown()
		return err
	}
	return nil
}

// ready waits until the server serves, and opens it to nodes.
func (e *embedded) ready(s *server.Server, log *serverLog) error {
	up := false
	for end := time.Now().Add(startTimeout); !up && log.fatal() == nil && time.Now().Before(end); {
		up = s.ReadyForConnections(100 * time.Millisecond)
	}
	if err := log.fatal(); err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	if !up || !s.JetStreamEnabled() {
		return fmt.Errorf("journal's server did not start on %s: its log says why", e.cfg.Dir)
	}
	if err := recovered(s, e.cfg.Dir); err != nil {
		return err
	}
	nodes, err := s.RegisterAccount(nodesAccount)
	if err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	if err := s.GlobalAccount().AddStreamExport(newSubject+">", []*server.Account{nodes}); err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	if err := nodes.AddStreamImport(s.GlobalAccount(), newSubject+">", ""); err != nil {
		return fmt.Errorf("journal's server: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server, e.nodes, e.failed = s, nodes, nil
	e.taking, e.fail = context.WithCancel(context.Background())
	if e.cfg.Listen != "" {
		e.cfg.Listen = s.Addr().String() // a next start takes the same port, where the system chose it
	}
	return nil
}

// options are the server's.
func (e *embedded) options() (*server.Options, error) {
	c := e.cfg
	opts := &server.Options{
		ServerName:                 "rempart",
		DontListen:                 c.Listen == "",
		NoSigs:                     true,
		MaxConn:                    defaultNodes,
		MaxSubs:                    256,
		MaxControlLine:             4096,
		MaxPayload:                 maxPayload,
		MaxPending:                 maxPending,
		MaxClosedClients:           16,
		AuthTimeout:                5,
		TLSTimeout:                 5,
		WriteDeadline:              10 * time.Second,
		PingInterval:               10 * time.Second,
		NoFastProducerStall:        true, // a slow node is closed, not waited for
		CustomClientAuthentication: e,

		JetStream:              true,
		StoreDir:               c.Dir,
		SyncAlways:             true, // before a write is acknowledged
		JetStreamMaxMemory:     64 << 20,
		JetStreamMaxStore:      1 << 60, // room looks at the disk, which others fill as well
		DisableJetStreamBanner: true,
	}
	if c.MaxNodes > 0 {
		opts.MaxConn = c.MaxNodes
	}
	opts.MaxConn += 2 // within the process
	if c.Listen == "" {
		return opts, nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("journal's listening address %q: %w", c.Listen, err)
	}
	if opts.Port, err = strconv.Atoi(port); err != nil || opts.Port < 0 || opts.Port > 65535 {
		return nil, fmt.Errorf("journal's listening address %q: the port is no number from 0 to 65535", c.Listen)
	}
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if opts.Host = host; host == "" {
		opts.Host = "::"
	}
	if c.TLS == nil {
		if ip := net.ParseIP(host); (ip == nil || !ip.IsLoopback()) && host != "localhost" {
			return nil, fmt.Errorf("journal's listening address %q: without TLS, nodes' secrets would be sent in the clear: "+
				"give a certificate, or listen on a loopback address", c.Listen)
		}
		return opts, nil
	}
	opts.TLS, opts.TLSConfig = true, c.TLS.Clone()
	return opts, nil
}

// Check says who may connect, and what they may then do. It is server.Authentication's.
func (e *embedded) Check(c server.ClientAuthentication) bool {
	e.mu.Lock()
	nodes := e.nodes
	e.mu.Unlock()
	opts := c.GetOpts()
	if c.Kind() != server.CLIENT || nodes == nil {
		return false
	}
	if subtle.ConstantTimeCompare([]byte(opts.Password), []byte(e.secret)) == 1 {
		user := &server.User{Username: opts.Username}
		if opts.Username == gateUser {
			user.Account = nodes
		}
		c.RegisterUser(user)
		return true
	}
	node := token(opts.Username)
	if node == "" || e.cfg.Authenticate == nil || !e.cfg.Authenticate(opts.Username, opts.Password) {
		return false
	}
	c.RegisterUser(&server.User{Username: node, Account: nodes, Permissions: nodePermissions(node, opts.Password),
		ConnectionDeadline: time.Now().Add(e.session)})
	return true
}

// nodePermissions is what a node may do in the nodes' account: ask, hear its answers and the wake-ups, report.
func nodePermissions(node, secret string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{gateGet + node + ".*", reportSubject + reporter(node, secret)}},
		Subscribe: &server.SubjectPermission{Allow: []string{nodeInbox + node + ".>", newSubject + ">"}},
	}
}

// InProcessConn is a connection to the server that runs now. It is nats.InProcessConnProvider's.
func (e *embedded) InProcessConn() (net.Conn, error) {
	e.mu.Lock()
	s := e.server
	e.mu.Unlock()
	if s == nil {
		return nil, errors.New("the journal's server does not run")
	}
	return s.InProcessConn()
}

// connect makes a connection within the process.
func (e *embedded) connect(user string, log *slog.Logger) (*nats.Conn, error) {
	return dial("", "", nil, log, nats.InProcessServer(e), nats.UserInfo(user, e.secret), nats.Name(user),
		nats.CustomInboxPrefix(controlInbox), nats.ReconnectWait(10*time.Millisecond), nats.ReconnectJitter(0, 0))
}

// addr is where nodes connect; nil without Listen.
func (e *embedded) addr() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cfg.Listen == "" || e.server == nil {
		return nil
	}
	return e.server.Addr()
}

// close ends the server and waits until its store is on disk.
func (e *embedded) close() {
	e.stop()
	e.watching.Wait()
	e.shutdown()
	e.unlock()
}

// shutdown ends the server that runs.
func (e *embedded) shutdown() {
	e.mu.Lock()
	s := e.server
	e.server, e.nodes = nil, nil
	e.mu.Unlock()
	if s != nil {
		s.Shutdown()
		s.WaitForShutdown()
		e.fail()
	}
}
