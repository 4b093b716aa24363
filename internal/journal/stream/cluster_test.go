package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// serverConfig names the configuration file of a process that is a server of a cluster: the test binary, run again.
const serverConfig = "REMPART_TEST_SERVER"

// serve is such a server, as nats-server's own main is.
func serve(config string) error {
	opts, err := server.ProcessConfigFile(config)
	if err != nil {
		return err
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return err
	}
	s.WaitForShutdown()
	return nil
}

// cluster is three servers, each a process.
type cluster struct {
	t       *testing.T
	dir     string
	ports   []int // for clients
	servers []*exec.Cmd
}

// newCluster starts servers, with what each says of syncing.
func newCluster(t *testing.T, sync ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), servers: make([]*exec.Cmd, len(sync))}
	routes := freePorts(t, 2*len(sync))
	c.ports, routes = routes[:len(sync)], routes[len(sync):]
	var urls []string
	for _, port := range routes {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i := range sync {
		text := fmt.Sprintf(`
server_name: s%d
listen: "127.0.0.1:%d"
ping_interval: "2s"
log_file: %q
jetstream { store_dir: %q, %s }
cluster { name: test, listen: "127.0.0.1:%d", routes: [%s], ping_interval: "2s" }
system_account: SYS
accounts {
  SYS { users: [ { user: admin, password: "adm:in" } ] }
  APP { jetstream: enabled, users: [ { user: control, password: secret } ] }
}
`, i, c.ports[i], c.path(i, "log"), c.path(i, "store"), sync[i], routes[i], strings.Join(urls, ", "))
		if err := os.WriteFile(c.path(i, "conf"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range c.servers {
			c.kill(i)
		}
	})
	return c
}

func (c *cluster) path(i int, what string) string {
	return filepath.Join(c.dir, fmt.Sprintf("s%d.%s", i, what))
}

func (c *cluster) start(i int) {
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), serverConfig+"="+c.path(i, "conf"))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.servers[i] = cmd
}

// kill ends a server as kill -9 does.
func (c *cluster) kill(i int) {
	if cmd := c.servers[i]; cmd != nil {
		cmd.Process.Kill()
		cmd.Wait()
		c.servers[i] = nil
	}
}

func (c *cluster) config() Config {
	var urls []string
	for _, port := range c.ports {
		urls = append(urls, fmt.Sprintf("nats://control:secret@127.0.0.1:%d", port))
	}
	return Config{URL: strings.Join(urls, ","), SystemCredentials: "admin:adm:in", Log: testLog(c.t)}
}

// freePorts are ports that nobody listens on.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// openSoon opens a Stream once the cluster has found itself.
func (c *cluster) openSoon(config Config) *Stream {
	c.t.Helper()
	var s *Stream
	eventually(c.t, "the cluster", func() bool {
		var err error
		if s, err = Open(c.t.Context(), config); err != nil {
			c.t.Log(err)
			time.Sleep(500 * time.Millisecond)
		}
		return err == nil
	})
	c.t.Cleanup(func() { s.Close() })
	return s
}

// leader is the number of the server that leads the journal.
func (c *cluster) leader(s *Stream) int {
	c.t.Helper()
	n := -1
	eventually(c.t, "a leader", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
		defer cancel()
		there, err := s.js.Stream(ctx, journalStream)
		if err != nil {
			return false
		}
		_, err = fmt.Sscanf(there.CachedInfo().Cluster.Leader, "s%d", &n)
		return err == nil
	})
	return n
}

// pusher appends without end and keeps count of what was acknowledged.
type pusher struct {
	s *Stream

	mu    sync.Mutex
	acked uint64 // the last of them
	n     int    // how many
	fault error
}

// run appends until ctx ends. Each record is the payload of its sequence, so that an own record of unknown outcome is found again.
func (p *pusher) run(ctx context.Context) {
	after := uint64(0)
	for ctx.Err() == nil {
		sequence, err := p.s.Append(ctx, after, "change", payload(after+1))
		if err == nil {
			after = sequence
			p.note(sequence, nil)
			continue
		}
		last, err := p.s.Last(ctx, "")
		switch {
		case err != nil:
			time.Sleep(50 * time.Millisecond)
		case last.Sequence < p.count():
			p.note(0, fmt.Errorf("the last record is %d, %d was acknowledged", last.Sequence, p.count()))
			return
		case !bytes.Equal(last.Data, payload(last.Sequence)):
			p.note(0, fmt.Errorf("record %d holds something else", last.Sequence))
			return
		default:
			after = last.Sequence
		}
	}
}

func (p *pusher) note(sequence uint64, fault error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault = fault; fault == nil {
		p.acked = sequence
		p.n++
	}
}

func (p *pusher) count() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.acked
}

// more waits until so many more records were acknowledged.
func (p *pusher) more(t *testing.T, n uint64) {
	t.Helper()
	from := p.count()
	eventually(t, "more records", func() bool { return p.count() >= from+n })
}

// TestCluster pushes on while the leading server is killed, frozen and thawed, and all are killed: nothing that was acknowledged is lost,
// and a node that follows gets all.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	always := "sync_interval: always"
	c := newCluster(t, always, always, always)
	s := c.openSoon(c.config())
	node, err := Connect(t.Context(), NodeConfig{URL: s.cfg.URL, Name: "node", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	followed := make(chan error, 1)
	var mu sync.Mutex
	seen := uint64(0)
	go func() {
		followed <- node.Follow(t.Context(), 0, func(r Record) error {
			mu.Lock()
			defer mu.Unlock()
			if r.Sequence != seen+1 || !bytes.Equal(r.Data, payload(r.Sequence)) {
				return fmt.Errorf("record %d after %d, or with other octets", r.Sequence, seen)
			}
			seen = r.Sequence
			return nil
		})
	}()
	p := &pusher{s: s}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var pushing sync.WaitGroup
	pushing.Go(func() { p.run(ctx) })
	p.more(t, 50)

	rounds := 1
	if os.Getenv(longTests) != "" {
		rounds = 10
	}
	for range rounds {
		i := c.leader(s)
		c.kill(i)
		t.Logf("at %d s%d, which leads, was killed", p.count(), i)
		p.more(t, 50)
		c.start(i)
		p.more(t, 50)

		i = c.leader(s)
		freeze(t, c.servers[i].Process, true)
		t.Logf("at %d s%d, which leads, was frozen", p.count(), i)
		p.more(t, 50)
		freeze(t, c.servers[i].Process, false)
		p.more(t, 50)

		for i := range c.servers {
			c.kill(i)
		}
		t.Logf("at %d all were killed", p.count())
		for i := range c.servers {
			c.start(i)
		}
		p.more(t, 50)
	}
	stop()
	pushing.Wait()
	if p.fault != nil {
		t.Fatal(p.fault)
	}
	eventually(t, "what follows", func() bool { mu.Lock(); defer mu.Unlock(); return seen >= p.acked || len(followed) > 0 })
	select {
	case err := <-followed:
		t.Errorf("following ended: %v", err)
	default:
	}
	collect(t, s.Reader, 0, int(p.acked))
	t.Logf("%d records acknowledged, up to %d, none lost", p.n, p.acked)

	// The rest of what a cluster keeps.
	if err := s.PutObject(t.Context(), "object", bytes.NewReader(payload(1))); err != nil {
		t.Error(err)
	}
	if got, err := readObject(t.Context(), node, "object"); err != nil || !bytes.Equal(got, payload(1)) {
		t.Errorf("object: %d octets, %v", len(got), err)
	}
	if _, err := s.Bucket(Holds).Put(t.Context(), "key", nil); err != nil {
		t.Error(err)
	}
	if err := s.Beat(t.Context(), []byte("beat")); err != nil {
		t.Error(err)
	}
	if last := s.MaxRecord(); last >= 1<<20 || last < 900_000 {
		t.Errorf("MaxRecord is %d, of servers that take 1 MiB", last)
	}
}

// TestSync refuses a cluster one of whose servers does not sync always, by the system account's word only.
func TestSync(t *testing.T) {
	c := newCluster(t, "sync_interval: always", `sync_interval: "10s"`, "max_file: 1G")
	config := c.config()
	for _, credentials := range []string{"admin:adm:in", "admin:guess", "control:secret", filepath.Join(c.dir, "none.creds")} {
		config.SystemCredentials = credentials
		eventually(t, "the refusal", func() bool {
			s, err := Open(t.Context(), config)
			if err == nil {
				s.Close()
				t.Fatalf("%s: opened", credentials)
			}
			t.Log(err)
			if strings.Contains(err.Error(), "admin:") || strings.Contains(err.Error(), ":secret") {
				t.Errorf("a password is told: %v", err)
			}
			return credentials != "admin:adm:in" ||
				strings.Contains(err.Error(), "s1 (10s), s2 (2m0s)") && strings.Contains(err.Error(), "sync_interval: always")
		})
	}
	var log bytes.Buffer
	config.SystemCredentials = ""
	config.Log = slog.New(slog.NewTextHandler(&log, nil))
	c.openSoon(config)
	if !strings.Contains(log.String(), "sync_interval: always") {
		t.Errorf("the risk is not said: %s", log.String())
	}
	config.URL = "nats://control:secret@127.0.0.1:1"
	if s, err := Open(t.Context(), config); err == nil || strings.Contains(err.Error(), "secret") || errors.Is(err, ErrUnknown) {
		t.Errorf("%v, %v", s, err)
	}
}
