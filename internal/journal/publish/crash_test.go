package publish_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Environment variables that make the test binary a control or an edge, in a process of its own.
const (
	lifeRole   = "REMPART_TEST_LIFE" // "control" or "edge"
	lifeFolder = "REMPART_TEST_FOLDER"
	lifeAddr   = "REMPART_TEST_ADDR" // address at which control listens
	longTests  = "REMPART_LONG_TESTS"
)

func TestMain(m *testing.M) {
	role, dir := os.Getenv(lifeRole), os.Getenv(lifeFolder)
	live := map[string]func(string, string) error{"control": liveControl, "edge": liveEdge}[role]
	if live == nil {
		os.Exit(m.Run())
	}
	if err := live(dir, os.Getenv(lifeAddr)); err != nil {
		fmt.Fprintln(os.Stderr, role, err)
		os.Exit(1)
	}
}

// liveControl pushes names in their order, beginning after those in force, and prints the acknowledged ones. It sometimes publishes a snapshot.
func liveControl(dir, addr string) error {
	ctx := context.Background()
	c, keys, err := openControl(ctx, dir)
	if err != nil {
		return err
	}
	desk, err := keys.Secret(signing.DeskKey)
	if err != nil {
		return err
	}
	ready := make(chan struct{})
	go func() { _ = c.Run(ctx, func() { close(ready) }) }()
	<-ready
	if err := serveJournal(c, addr); err != nil {
		return err
	}
	for n := int(c.State().Version); ; n++ {
		payload, err := journal.Encode(&journal.ChangeSet{ID: fmt.Sprintf("set%d-%d", n, os.Getpid()), Time: time.Now().Unix()}, []journal.Change{journaltest.Block(pushedName(n))})
		if err != nil {
			return err
		}
		_, err = c.Publish(ctx, publish.Draft{Kind: journal.RecordChanges, By: "desk", Body: signing.Seal(signing.KindChanges, payload, desk)})
		if errors.Is(err, stream.ErrFull) {
			fmt.Println("full")
			time.Sleep(50 * time.Millisecond)
			n--
			continue
		}
		if err != nil {
			return err
		}
		fmt.Println("kept", n)
		if n%50 == 49 {
			if _, err := c.Compact(ctx); err != nil && !errors.Is(err, stream.ErrFull) && !errors.Is(err, syscall.ENOSPC) { // the folder for temporary files is on the same disk
				return err
			}
		}
	}
}

// pushedName returns the nth name that a control pushes.
func pushedName(n int) string { return fmt.Sprintf("n%d.example", n) }

// openControl starts the control in a folder from its disk, with its keys.
func openControl(ctx context.Context, dir string) (*publish.Control, *signing.Keys, error) {
	keys, _, err := signing.OpenKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, nil, err
	}
	ring, err := keys.Ring()
	if err != nil {
		return nil, nil, err
	}
	key, err := keys.Secret(signing.ControlKey)
	if err != nil {
		return nil, nil, err
	}
	s, err := stream.Open(ctx, stream.Config{Dir: filepath.Join(dir, "nats")})
	if err != nil {
		return nil, nil, err
	}
	c, err := publish.New(publish.Config{Stream: s, Key: key, Ring: ring.Sealed, Trust: ring.RootKeys, Dir: filepath.Join(dir, "state"), Log: warnings()})
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		s.Close()
		return nil, nil, err
	}
	return c, keys, nil
}

// serveJournal starts to serve a control's journal over HTTP to nodes.
func serveJournal(c *publish.Control, addr string) error {
	var l net.Listener
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // the port may be in use for a moment
		if l, err = net.Listen("tcp", addr); err == nil {
			break
		}
	}
	if err == nil {
		go http.Serve(l, mirror.NewHandler(c, func(*http.Request, []byte) error { return nil }))
	}
	return err
}

func warnings() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// liveEdge follows a control, and prints each version that is in force and on disk.
func liveEdge(dir, addr string) error {
	ctx := context.Background()
	f, err := openEdge(dir, addr)
	if err != nil {
		return err
	}
	fmt.Println("begins", f.Set().View().Version())
	go func() { _ = f.Run(ctx) }()
	for version := f.InForce(); ; version++ {
		if err := f.Wait(ctx, version); err != nil {
			return err
		}
		version = f.InForce()
		if f.Health().Unwritten == "" { // otherwise the version is in force without being on disk
			fmt.Println("has", version)
		}
	}
}

// openEdge opens the edge in a folder, which trusts the keys of the control next to it.
func openEdge(dir, addr string) (*journal.Follower, error) {
	keys, _, err := signing.OpenKeys(filepath.Join(filepath.Dir(dir), "control", "keys"))
	if err != nil {
		return nil, err
	}
	ring, err := keys.Ring()
	if err != nil {
		return nil, err
	}
	name := filepath.Base(dir)
	source, err := mirror.NewClient("http://"+addr, nil, http.DefaultClient)
	if err != nil {
		return nil, err
	}
	f, err := journal.NewFollower(journal.FollowerConfig{Dir: dir, Source: source, Trust: ring.RootKeys, Node: journal.Node{ID: name}, Log: warnings()})
	if err == nil {
		err = f.Start()
	}
	return f, err
}

// life is a process that is killed and started again.
type life struct {
	t            *testing.T
	role         string
	dir, addr    string
	cmd          *exec.Cmd
	mu           sync.Mutex
	acknowledged map[int]bool // changes that control acknowledged
	inForce      uint64       // version that an edge reported as in force
	heard        sync.WaitGroup
	lines        int // lines printed since the last start
	full         bool
	begins       uint64
	olderStart   int
}

func (l *life) start() {
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	l.cmd = exec.Command(self)
	l.cmd.Env = append(os.Environ(), lifeRole+"="+l.role, lifeFolder+"="+l.dir, lifeAddr+"="+l.addr)
	l.cmd.Stderr = os.Stderr
	l.mu.Lock()
	l.lines = 0
	l.mu.Unlock()
	out, err := l.cmd.StdoutPipe()
	if err == nil {
		err = l.cmd.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = l.cmd.Process.Kill() }) // an error means that the process has ended
	l.heard.Go(func() { l.readOutput(out) })
}

func (l *life) readOutput(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, number, _ := strings.Cut(lines.Text(), " ")
		var n uint64
		fmt.Sscan(number, &n)
		l.mu.Lock()
		l.lines++
		switch word {
		case "kept":
			l.acknowledged[int(n)] = true
		case "has":
			l.inForce = max(l.inForce, n)
		case "begins":
			if l.begins = n; n < l.inForce {
				l.olderStart++
			}
		case "full":
			l.full = true
		}
		l.mu.Unlock()
	}
}

// kill kills the process, which must be running.
func (l *life) kill() {
	l.t.Helper()
	_ = l.cmd.Process.Kill()
	l.heard.Wait()
	if err := l.cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		l.t.Errorf("%s ended before it was killed: %v", l.role, err)
	}
}

// lineCount returns the number of lines printed since the last start.
func (l *life) lineCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

// metFull reports whether a full disk ever refused a change.
func (l *life) metFull() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full
}

// count returns the number of acknowledged changes.
func (l *life) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acknowledged)
}

func newLives(t *testing.T, dir string) (control, edge *life) {
	addr := dnstest.FreeAddr(t)
	control = &life{t: t, role: "control", dir: filepath.Join(dir, "control"), addr: addr, acknowledged: map[int]bool{}}
	edge = &life{t: t, role: "edge", dir: filepath.Join(dir, "edge"), addr: addr}
	if _, _, err := signing.OpenKeys(filepath.Join(control.dir, "keys")); err != nil {
		t.Fatal(err)
	}
	return control, edge
}

// checkLives starts a control and an edge once more without pushes, and checks that both have all acknowledged changes.
func checkLives(t *testing.T, control, edge *life) {
	t.Helper()
	c, _, err := openControl(t.Context(), control.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stream.Close()
	defer dnstest.Running(t, func(ctx context.Context) error { return c.Run(ctx, func() {}) })()
	if err := serveJournal(c, edge.addr); err != nil {
		t.Fatal(err)
	}
	f, err := openEdge(edge.dir, edge.addr)
	if err != nil {
		t.Fatal(err)
	}
	if v := f.Set().View().Version(); v < edge.inForce {
		t.Errorf("the edge starts with version %d and had version %d in force", v, edge.inForce)
	}
	defer dnstest.Running(t, f.Run)()
	missing := func(set *blocklist.Set) (n int) {
		for i := range control.acknowledged {
			if journaltest.Judge(t, set.View(), pushedName(i)) != blocklist.BlockedBy {
				n++
			}
		}
		return n
	}
	before := missing(f.Set())
	for end := time.Now().Add(time.Minute); missing(c.Follower().Set())+missing(f.Set()) > 0 && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	if n := missing(c.Follower().Set()); n > 0 {
		t.Errorf("control lost %d of %d acknowledged changes: it has version %d", n, len(control.acknowledged), c.State().Version)
	}
	if n := missing(f.Set()); n > 0 {
		t.Errorf("the edge lacks %d of %d acknowledged changes (%d at the start): %+v", n, len(control.acknowledged), before, f.Health())
	}
}

// TestKilledProcessesLoseNothing checks that no acknowledged change is lost if control, an edge or both are killed at random moments, and that the edge does
// not start with an older version than it had in force.
func TestKilledProcessesLoseNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("this test is slow")
	}
	rounds := 30
	if os.Getenv(longTests) != "" {
		rounds = 200
	}
	control, edge := newLives(t, t.TempDir())
	control.start()
	edge.start()
	for round := range rounds {
		time.Sleep(time.Duration(rand.IntN(900)) * time.Millisecond)
		journaltest.WaitFor(t, "a change to be acknowledged", func() bool { return control.count() > round }) // a slow machine takes longer to start
		which := rand.IntN(3)
		if which != 0 {
			control.kill()
		}
		if which != 1 {
			edge.kill()
		}
		if which != 0 {
			control.start()
		}
		if which != 1 {
			edge.start()
		}
	}
	control.kill()
	edge.kill()
	checkLives(t, control, edge)
	if edge.olderStart > 0 {
		t.Errorf("the edge started %d times with an older version than it had in force", edge.olderStart)
	}
	if len(control.acknowledged) < rounds {
		t.Errorf("only %d changes were acknowledged", len(control.acknowledged))
	}
	t.Logf("%d kills of control, of an edge, or of both: %d changes acknowledged, 0 lost; %d starts of the edge with an older version", rounds, len(control.acknowledged), edge.olderStart)
}

// TestFullDiskLosesNothing checks that no acknowledged change is lost if the disk of control and edge is full while changes are pushed, and both processes are
// killed.
func TestFullDiskLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("this test is slow")
	}
	dir := filepath.Join(t.TempDir(), "disk")
	dnstest.SmallDisk(t, dir, 96<<20)
	control, edge := newLives(t, dir)
	ballast := filepath.Join(dir, "ballast")
	for round := range 5 {
		kept := control.count()
		control.start()
		edge.start()
		journaltest.WaitFor(t, "both processes to work", func() bool { return control.count() > kept && edge.lineCount() > 0 })
		time.Sleep(time.Second)
		dnstest.FillDisk(t, ballast)
		time.Sleep(2 * time.Second)
		journaltest.WaitFor(t, "control to meet the full disk", control.metFull)
		if round%2 == 0 { // killed while the disk is full; otherwise after it was freed
			control.kill()
			edge.kill()
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if round%2 == 1 {
			kept := control.count()
			journaltest.WaitFor(t, "a change to be acknowledged after the disk was freed", func() bool { return control.count() > kept })
			control.kill()
			edge.kill()
		}
	}
	checkLives(t, control, edge)
	t.Logf("a disk filled 5 times: %d changes acknowledged, 0 lost", len(control.acknowledged))
}
