package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"rempart/internal/dnstest"
)

// serverConfig is the environment variable that makes the test binary a server of a cluster. Its value is the path of the server's configuration.
const serverConfig = "REMPART_TEST_SERVER"

// serve runs a NATS server as the main function of nats-server does.
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

// cluster is a cluster of three servers, each in its own process.
type cluster struct {
	t       *testing.T
	dir     string
	clients []string // the addresses for clients
	servers []*exec.Cmd
}

// newCluster starts servers with the example's configuration. sync holds the sync setting of each.
func newCluster(t *testing.T, sync ...string) *cluster {
	t.Helper()
	example, err := os.ReadFile(filepath.Join("testdata", "cluster.conf"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: t.TempDir(), servers: make([]*exec.Cmd, len(sync))}
	var routes, urls []string
	for range sync {
		c.clients, routes = append(c.clients, dnstest.FreeAddr(t)), append(routes, dnstest.FreeAddr(t))
	}
	for _, addr := range routes {
		urls = append(urls, fmt.Sprintf("%q", "nats://"+addr))
	}
	for i := range sync {
		text := string(example)
		for old, now := range map[string]string{
			"server_name: s0":                  fmt.Sprintf("server_name: s%d\nping_interval: \"2s\"\nlog_file: %q", i, c.path(i, "log")),
			`listen: "127.0.0.1:4222"`:         fmt.Sprintf("listen: %q", c.clients[i]),
			`listen: "127.0.0.1:6222"`:         fmt.Sprintf("listen: %q\nping_interval: \"2s\"", routes[i]),
			`"nats://127.0.0.1:6222"`:          strings.Join(urls, ", "),
			`store_dir: "/var/lib/nats"`:       fmt.Sprintf("store_dir: %q", c.path(i, "store")),
			"sync_interval: always # before a": sync[i] + " # before a",
		} {
			if !strings.Contains(text, old) {
				t.Fatalf("the example has no %s", old)
			}
			text = strings.Replace(text, old, now, 1)
		}
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

// kill ends a server with SIGKILL.
func (c *cluster) kill(i int) {
	if cmd := c.servers[i]; cmd != nil {
		cmd.Process.Kill()
		cmd.Wait()
		c.servers[i] = nil
	}
}

// url returns the cluster's URL for a user.
func (c *cluster) url(user, password string) string {
	var urls []string
	for _, addr := range c.clients {
		u := url.URL{Scheme: "nats", User: url.UserPassword(user, password), Host: addr}
		urls = append(urls, u.String())
	}
	return strings.Join(urls, ",")
}

func (c *cluster) config() Config {
	return Config{URL: c.url("control", "secret"), SystemCredentials: "admin:adm:in", Log: testLog(c.t)}
}

// node connects with a node's permissions.
func (c *cluster) node() *Reader {
	c.t.Helper()
	r, err := Connect(c.t.Context(), NodeConfig{URL: c.url("edge1", secretOf("edge1")), Name: "edge1", Log: testLog(c.t)})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { r.Close() })
	return r
}

// openSoon opens a Stream as soon as the cluster has elected its leaders.
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

// leader returns the number of the server that leads the journal.
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

// pusher appends records, and stores how many were acknowledged.
type pusher struct {
	s *Stream

	mu    sync.Mutex
	acked uint64 // the last acknowledged record
	n     int    // number of acknowledged records
	fault error
}

// run appends until ctx ends. Each record is the payload of its sequence, so that a record of unknown outcome can be recognized.
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
		case last.Sequence < p.count(): // a new leader has not read all its records, or lost some, which the end of the test detects
			time.Sleep(50 * time.Millisecond)
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

// more waits until n more records were acknowledged.
func (p *pusher) more(t *testing.T, n uint64) {
	t.Helper()
	from := p.count()
	eventually(t, "more records", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.fault != nil {
			t.Fatalf("publishing failed: %v", p.fault)
		}
		return p.acked >= from+n
	})
}

// TestClusterLosesNothing checks that no acknowledged record is lost while the leading server is killed, or frozen and resumed, and while all servers are
// killed, and that a node that follows receives all records.
func TestClusterLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	always := "sync_interval: always"
	c := newCluster(t, always, always, always)
	s := c.openSoon(c.config())
	node := c.node()
	followed := make(chan error, 1)
	var mu sync.Mutex
	seen := uint64(0)
	go func() {
		followed <- node.Follow(t.Context(), 0, func(r Record) error {
			mu.Lock()
			defer mu.Unlock()
			if r.Sequence != seen+1 || !bytes.Equal(r.Data, payload(r.Sequence)) {
				return fmt.Errorf("record %d after %d, or with other data", r.Sequence, seen)
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
		t.Logf("at record %d: killed the leader s%d", p.count(), i)
		p.more(t, 50)
		c.start(i)
		p.more(t, 50)

		i = c.leader(s)
		freeze(t, c.servers[i].Process, true)
		t.Logf("at record %d: froze the leader s%d", p.count(), i)
		p.more(t, 50)
		freeze(t, c.servers[i].Process, false)
		p.more(t, 50)

		for i := range c.servers {
			c.kill(i)
		}
		t.Logf("at record %d: killed all servers", p.count())
		for i := range c.servers {
			c.start(i)
		}
		p.more(t, 50)
	}
	stop()
	pushing.Wait()
	if p.fault != nil {
		t.Fatalf("publishing failed: %v", p.fault)
	}
	eventually(t, "what follows", func() bool { mu.Lock(); defer mu.Unlock(); return seen >= p.acked || len(followed) > 0 })
	select {
	case err := <-followed:
		t.Errorf("following ended: %v", err)
	default:
	}
	collect(t, s.Reader, 0, int(p.acked))
	t.Logf("%d records acknowledged, up to %d, none lost", p.n, p.acked)
}

// TestClusterNodePermissions checks what a node with the example's configuration may and may not do.
func TestClusterNodePermissions(t *testing.T) {
	ctx := t.Context()
	always := "sync_interval: always"
	c := newCluster(t, always, always, always)
	s := c.openSoon(c.config())
	node := c.node()
	if s.MaxRecord() != maxPayload-headerRoom {
		t.Errorf("wrong MaxRecord: %d", s.MaxRecord())
	}
	appendOK(t, s, 0, "change", payload(1))
	collect(t, node, 0, 1)
	// Any server may answer a node's read, and two of three servers acknowledge a write, so that the third server may not have the record yet.
	eventually(t, "the last record at every server", func() bool {
		got, err := node.Last(ctx, "")
		if err != nil && !errors.Is(err, ErrNone) {
			t.Fatal(err)
		}
		return err == nil && got.Sequence == 1
	})
	if err := s.PutObject(ctx, "object", bytes.NewReader(payload(1))); err != nil {
		t.Error(err)
	}
	eventually(t, "the object at every server", func() bool {
		got, err := readObject(ctx, node, "object")
		return err == nil && bytes.Equal(got, payload(1))
	})
	if _, err := s.Bucket(Holds).Put(ctx, "key", nil); err != nil {
		t.Error(err)
	}
	if err := s.Beat(ctx, []byte("beat")); err != nil {
		t.Error(err)
	}
	err := node.FollowBeats(ctx, func([]byte) error { return errEnough })
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
	type report struct{ node, data string }
	reports := make(chan report, 1000)
	go s.FollowReports(ctx, func(node string, data []byte) { reports <- report{node, string(data)} })
	eventually(t, "a report", func() bool {
		node.Report(ctx, "edge1", []byte("well"))
		node.nc.Flush()
		time.Sleep(10 * time.Millisecond)
		return len(reports) > 0
	})

	before := states(t, s)
	for _, subject := range []string{journalSubject + "change", auditSubject, "$KV." + bucketPrefix + Tokens + ".key", metaSubject + "x", newBeats,
		"$JS.API.STREAM.DELETE." + journalStream, "$JS.API.CONSUMER.CREATE." + journalStream, "$JS.API.STREAM.PURGE." + objectStream, reportSubject + "victim"} {
		node.nc.Publish(subject, []byte("{}"))
		for _, stream := range []string{journalStream, beatsStream, objectStream, auditStream} {
			node.nc.PublishRequest(directGet+stream, subject, []byte(`{"seq":1,"batch":10}`))
		}
	}
	node.nc.Flush()
	time.Sleep(300 * time.Millisecond)
	for len(reports) > 0 {
		if r := <-reports; r != (report{"edge1", "well"}) {
			t.Errorf("report %+v", r)
		}
	}
	if after := states(t, s); after != before {
		t.Errorf("the streams changed from\n%s to\n%s", before, after)
	}
}

// TestUnsyncedClusterIsRefused checks that Open refuses a cluster in which, according to the system account, one server does not sync every write.
func TestUnsyncedClusterIsRefused(t *testing.T) {
	c := newCluster(t, "sync_interval: always", `sync_interval: "10s"`, "max_file: 1G")
	config := c.config()
	for _, credentials := range []string{"admin:adm:in", "admin:guess", "control:secret", filepath.Join(c.dir, "none.creds")} {
		config.SystemCredentials = credentials
		eventually(t, "the refusal", func() bool {
			s, err := Open(t.Context(), config)
			if err == nil {
				s.Close()
				t.Fatalf("%s: opened a cluster that does not sync every write", credentials)
			}
			t.Log(err)
			if strings.Contains(err.Error(), "admin:") || strings.Contains(err.Error(), ":secret") {
				t.Errorf("the error contains a password: %v", err)
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
		t.Errorf("the log does not mention the risk: %s", log.String())
	}
	config.URL = "nats://control:secret@127.0.0.1:1"
	if s, err := Open(t.Context(), config); err == nil || strings.Contains(err.Error(), "secret") || errors.Is(err, ErrUnknown) {
		t.Errorf("Open: %v, %v; want an error that does not contain the password", s, err)
	}
}

// states returns a description of all streams.
func states(t *testing.T, s *Stream) string {
	t.Helper()
	var b strings.Builder
	names := s.js.ListStreams(t.Context())
	all := map[string]*jetstream.StreamInfo{}
	for info := range names.Info() {
		all[info.Config.Name] = info
	}
	for _, want := range streamConfigs(1) {
		info := all[want.Name]
		if info == nil {
			t.Fatalf("stream %s does not exist any more", want.Name)
		}
		fmt.Fprintf(&b, "%s %d-%d %d consumers\n", want.Name, info.State.FirstSeq, info.State.LastSeq, info.State.Consumers)
	}
	fmt.Fprintf(&b, "%d streams", len(all))
	return b.String()
}
