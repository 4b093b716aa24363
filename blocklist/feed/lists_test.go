package feed

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/feed/store"
	"rempart/internal/durable"
)

// fixture holds a folder for lists, a data folder and the log of a test.
type fixture struct {
	t    *testing.T
	dir  string
	data string
	log  logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, dir: t.TempDir(), data: filepath.Join(t.TempDir(), "data")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", f.log.String())
		}
	})
	return f
}

// file writes a list in place, with a time stamp old enough to be trusted.
func (f *fixture) file(name, content string) string {
	f.t.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		f.t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// guards returns a loader of the guards that logs to the test's log.
func (f *fixture) guards(cfg guardfile.Config) *guardfile.Loader {
	f.t.Helper()
	l, err := guardfile.New(cfg, slog.New(slog.NewTextHandler(&f.log, nil)))
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

func (f *fixture) new(cfg Config) *Lists {
	f.t.Helper()
	cfg.Dir = f.data
	cfg.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	l, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	l.timing.start, l.timing.last = time.Minute, time.Minute // long enough that lists are fetched before Start returns, also on a slow machine
	l.timing.poll, l.timing.again = 20*time.Millisecond, 20*time.Millisecond
	l.timing.backoff, l.timing.writeAgain = 20*time.Millisecond, 20*time.Millisecond
	return l
}

// start starts l; run runs it until the test or stop ends it.
func (f *fixture) start(cfg Config) *Lists {
	f.t.Helper()
	l := f.new(cfg)
	if err := l.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return l
}

func (f *fixture) run(l *Lists) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			f.t.Errorf("Run: %v", err)
		}
	})
	f.t.Cleanup(stop)
	return stop
}

// once starts Lists with cfg, stops it at once and returns it.
func (f *fixture) once(cfg Config) *Lists {
	f.t.Helper()
	l := f.start(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Run(ctx); err != nil {
		f.t.Fatal(err)
	}
	return l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("this did not happen in time: %s", what)
		}
	}
}

func blocks(t *testing.T, l *Lists, name string) bool {
	t.Helper()
	return action(t, l, name) == blocklist.Block
}

func action(t *testing.T, l *Lists, name string) blocklist.Decision {
	t.Helper()
	wire, err := format.Name(name)
	if err != nil {
		t.Fatal(err)
	}
	switch l.Set().View().Match(wire, blocklist.AllCategories, time.Now().Unix()).Action.String() {
	case "block":
		return blocklist.Block
	case "allow":
		return blocklist.Allow
	}
	return blocklist.Except // pass
}

// one returns the status of the only list.
func one(t *testing.T, l *Lists) ListStatus {
	t.Helper()
	s := l.Status()
	if len(s.Lists) != 1 {
		t.Fatalf("%d lists", len(s.Lists))
	}
	return s.Lists[0]
}

func TestStart(t *testing.T) {
	f := newFixture(t)
	builtIn, _ := format.Name("blocked.test.example")
	l := f.once(Config{
		Lists: []string{
			f.file("a.txt", "0.0.0.0 a.example localhost\n||b.example^\n@@||ok.b.example^\n"),
			f.file("b.txt", "c.example\nok.b.example\n"),
			f.file("a.txt", "0.0.0.0 a.example localhost\n||b.example^\n@@||ok.b.example^\n"), // twice: dropped
		},
		Allow:   f.file("allow.txt", "c.example\n"),
		BuiltIn: []blocklist.Listing{{Name: builtIn, Scope: blocklist.Exact}},
	})
	for name, want := range map[string]blocklist.Decision{
		"a.example": blocklist.Block, "x.a.example": blocklist.Except, "x.b.example": blocklist.Block,
		"ok.b.example": blocklist.Block, // the other list's exception does not unblock it
		"c.example":    blocklist.Allow, "blocked.test.example": blocklist.Block, "d.example": blocklist.Except,
	} {
		if got := action(t, l, name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	s := l.Status()
	if s.Version != 1 || s.Err != "" || s.Waiting != "" || len(s.Lists) != 3 {
		t.Errorf("status %+v", s)
	}
	want := ListStatus{Name: filepath.Join(f.dir, "a.txt"), Kind: KindFile, Entries: 3, Refused: map[string]int{"local-name": 1}, Parses: 1, Result: OK}
	got := s.Lists[1]
	if got.Fetched.IsZero() {
		t.Error("the status has no time of the last fetch")
	}
	got.Fetched = time.Time{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRestartReusesParsedLists(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("a.txt", "a.example\n")}, Allow: f.file("allow.txt", "# none\n")}
	f.once(cfg)
	l := f.once(cfg)
	s := l.Status()
	if s.Version != 1 || s.Lists[0].Parses != 0 || s.Lists[1].Parses != 0 || !blocks(t, l, "a.example") {
		t.Errorf("status %+v", s)
	}
	// A file with a new time but the same content is read, but neither parsed nor compiled again.
	if err := os.Chtimes(cfg.Lists[0], time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if s := f.once(cfg).Status(); s.Version != 1 || s.Lists[1].Parses != 0 {
		t.Errorf("touched: status %+v", s)
	}
	f.file("a.txt", "b.example\n") // the same length, another time
	l = f.once(cfg)
	if s := l.Status(); s.Version != 2 || s.Lists[1].Parses != 1 || blocks(t, l, "a.example") || !blocks(t, l, "b.example") {
		t.Errorf("changed: status %+v", s)
	}
	if sets, _ := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.CopySuffix)); len(sets) != 2 {
		t.Errorf("%d copies of two lists are stored: %q", len(sets), sets)
	}
	// A list that is removed from the configuration is removed from the set.
	cfg.Lists = nil
	if l = f.once(cfg); l.Status().Version != 3 || blocks(t, l, "b.example") {
		t.Errorf("removed: status %+v", l.Status())
	}
}

func TestChangeWithSameTimeAndSizeIsDetected(t *testing.T) {
	f := newFixture(t)
	path := f.file("a.txt", "a.example\n")
	stamp := time.Now()
	os.Chtimes(path, stamp, stamp)
	f.once(Config{Lists: []string{path}})
	os.WriteFile(path, []byte("b.example\n"), 0o644) // written in place, so the inode is the same
	os.Chtimes(path, stamp, stamp)
	if l := f.once(Config{Lists: []string{path}}); !blocks(t, l, "b.example") {
		t.Error("a change within the resolution of time stamps was missed")
	}
}

func TestUnusableFileKeepsLastCopy(t *testing.T) {
	tests := map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { os.Remove(path) },
		"a page":  func(t *testing.T, path string) { os.WriteFile(path, []byte("<html>\na.example"), 0o644) },
		"binary":  func(t *testing.T, path string) { os.WriteFile(path, []byte{0x7f, 'E', 'L', 'F', 0, 1, 2}, 0o644) },
		"cut gzip": func(t *testing.T, path string) {
			os.WriteFile(path, []byte(fetchtest.Gzip(t, "b.example\n")[:20]), 0o644)
		},
		"a folder": func(t *testing.T, path string) {
			os.Remove(path)
			os.Mkdir(path, 0o755)
		},
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			path := f.file("a.txt", "a.example\n")
			cfg := Config{Lists: []string{path, f.file("b.txt", "b.example\n")}}
			f.once(cfg)
			spoil(t, path)
			for range 2 { // the second time after a restart
				l := f.once(cfg)
				if s := l.Status().Lists[0]; s.Result != Stale || s.Err == "" || s.Entries != 1 {
					t.Errorf("status %+v", s)
				}
				if !blocks(t, l, "a.example") || !blocks(t, l, "b.example") || l.Status().Version != 1 {
					t.Error("the last good copy is not in force")
				}
			}
			os.RemoveAll(path)
			f.file("a.txt", "c.example\n")
			if l := f.once(cfg); l.Status().Lists[0].Result != OK || !blocks(t, l, "c.example") || blocks(t, l, "a.example") {
				t.Errorf("status %+v", l.Status())
			}
		})
	}
	f := newFixture(t)
	if s := one(t, f.once(Config{Lists: []string{filepath.Join(f.dir, "never")}})); s.Result != Failed || !strings.Contains(s.Err, "no such file") {
		t.Errorf("missing from the start: %+v", s)
	}
}

func TestAllowListMayBeEmptied(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("a.txt", "a.example\n")}, Allow: f.file("allow.txt", "a.example\n")}
	if l := f.once(cfg); action(t, l, "a.example") != blocklist.Allow {
		t.Error("not allowed")
	}
	f.file("allow.txt", "")
	if l := f.once(cfg); !blocks(t, l, "a.example") {
		t.Error("an allow that was withdrawn is still in effect")
	}
}

func TestFileChanges(t *testing.T) {
	f := newFixture(t)
	path := f.file("a.txt", "a.example\n")
	missing := filepath.Join(f.dir, "later", "b.txt")
	l := f.start(Config{Lists: []string{path, missing}})
	f.run(l)

	other := filepath.Join(f.dir, ".a.txt.swp")
	os.WriteFile(other, []byte("renamed.example\n"), 0o644)
	os.Rename(other, path)
	eventually(t, "a file renamed over", func() bool { return blocks(t, l, "renamed.example") })

	os.WriteFile(path, []byte("in-place.example\n"), 0o644)
	eventually(t, "a file written in place", func() bool { return blocks(t, l, "in-place.example") })

	os.Remove(path)
	eventually(t, "a file removed", func() bool { return l.Status().Lists[0].Result == Stale })
	if !blocks(t, l, "in-place.example") {
		t.Error("the last good copy is not in force")
	}

	os.Mkdir(filepath.Dir(missing), 0o755)
	os.WriteFile(missing, []byte("late.example\n"), 0o644)
	eventually(t, "a folder that appears", func() bool { return blocks(t, l, "late.example") })
	if n := strings.Count(f.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d errors logged, want one", n)
	}
}

// TestStartIsBounded starts while a list takes long to read: Start returns in time and the set of the last run is in force. After the list was read, its
// new content is in force.
func TestStartIsBounded(t *testing.T) {
	f := newFixture(t)
	f.once(Config{Lists: []string{f.file("a.txt", "a.example\n")}})
	read := make(chan struct{})
	l := f.new(Config{Lists: []string{f.file("a.txt", "b.example\n")}, Progress: func(Progress) { <-read }})
	l.timing.start, l.timing.last = 20*time.Millisecond, 10*time.Millisecond
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the set of the last run is in force", func() bool { return blocks(t, l, "a.example") })
	if s := l.Status(); s.Version == 0 || s.Waiting != "" || s.Lists[0].Result != OK {
		t.Errorf("while the set of the last run is in force, the status is %+v", s)
	}
	f.run(l)
	close(read)
	eventually(t, "the new content", func() bool { return blocks(t, l, "b.example") && !blocks(t, l, "a.example") })
}

// TestStartEndsWithItsContext ends a start while a list is read.
func TestStartEndsWithItsContext(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := f.new(Config{Lists: []string{f.file("a.txt", strings.Repeat("# nothing\n", 1<<20)+"a.example\n")}, Progress: func(Progress) { cancel() }})
	if err := l.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if blocks(t, l, "a.example") || l.Set().View().Version() > 0 {
		t.Error("the list was read to its end, although the context had ended")
	}
	if log := f.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the log says that something failed:\n%s", log)
	}
}

func TestReload(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("a.example\n")
	l := f.start(Config{Lists: []string{srv.URL}})
	f.run(l)
	srv.Say("b.example\n")
	for range 3 {
		l.Reload()
	}
	eventually(t, "a reload", func() bool { return blocks(t, l, "b.example") })
}

func TestStartWithUnusableFolder(t *testing.T) {
	f := newFixture(t)
	start := func(dir string) error {
		l, err := New(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return l.Start(t.Context())
	}
	file := f.file("file", "")
	if err := start(filepath.Join(file, "data")); err == nil || !strings.Contains(err.Error(), "configure another") {
		t.Errorf("a file in the way: %v", err)
	}
	if os.Geteuid() != 0 {
		os.Chmod(f.dir, 0o500)
		if err := start(filepath.Join(f.dir, "data")); err != nil {
			t.Errorf("not writable: %v", err)
		}
		os.Chmod(f.dir, 0o700)
	}
	f.run(f.start(Config{}))
	if err := start(f.data); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("another process's: %v", err)
	}
	other := t.TempDir()
	os.WriteFile(filepath.Join(other, versionFile), []byte("garbage"), 0o600)
	if err := start(other); err != nil {
		t.Errorf("garbage for a version: %v", err)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Dir: "d", Lists: []string{""}},
		{Dir: "d", Lists: []string{"ftp://example.com/SECRET"}},
		{Dir: "d", Lists: []string{"http://"}},
		{Dir: "d", Lists: []string{"http://u:SECRET@exa mple/"}},
	} {
		if _, err := New(cfg); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%+v: error %v", cfg, err)
		}
	}
	l, err := New(Config{Dir: "d", Lists: []string{"https://u:p@example.com/l?a", "https://u:p@example.com/l?b", "https://example.com/l"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range l.Status().Lists {
		got = append(got, s.Name)
	}
	if diff := cmp.Diff([]string{"https://example.com/l?…", "https://example.com/l?… (2)", "https://example.com/l"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestViewStaysActiveIfSetCannotBeWritten(t *testing.T) {
	f := newFixture(t)
	path := f.file("a.txt", "a.example\n")
	l := f.start(Config{Lists: []string{path}})
	f.run(l)
	// The overlay cannot be written, because a folder has its name.
	snapshot := filepath.Join(f.data, overlayFile)
	os.Remove(snapshot)
	os.MkdirAll(filepath.Join(snapshot, "in the way"), 0o700)
	f.file("a.txt", "b.example\n")
	eventually(t, "the failure", func() bool { return l.Status().Err != "" })
	if s := l.Status(); !blocks(t, l, "a.example") || s.Version != 1 {
		t.Errorf("the earlier view is no longer active: %+v", s)
	}
	time.Sleep(100 * time.Millisecond) // some retries
	if n := strings.Count(f.log.String(), "could not be written"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	os.RemoveAll(snapshot)
	eventually(t, "recovery", func() bool { return blocks(t, l, "b.example") && l.Status().Err == "" })
	if v := l.Status().Version; v < 2 {
		t.Errorf("version %d", v)
	}
}

func TestStartFallsBackToLastSnapshot(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("a.txt", "a.example\n")}}
	f.once(cfg)
	// The version counter cannot be written, so no new set can get a version.
	version := filepath.Join(f.data, versionFile)
	f.file("a.txt", "b.example\n")
	l := f.new(cfg)
	if err := l.takeFolder(); err != nil {
		t.Fatal(err)
	}
	l.unlock()
	os.Remove(version)
	os.MkdirAll(filepath.Join(version, "in the way"), 0o700)
	for _, li := range l.lists {
		l.copies.loadCopy(li)
		l.copies.refreshFile(li)
	}
	if err := l.publisher.publish(); err == nil {
		t.Fatal("a set got a version although the counter cannot be written")
	}
	l.publisher.fallBack()
	if !blocks(t, l, "a.example") {
		t.Error("the last snapshot is not in force")
	}
}

func TestBackoff(t *testing.T) {
	for failures, want := range map[int]time.Duration{1: 10 * time.Second, 2: 20 * time.Second, 3: 40 * time.Second, 10: time.Hour, 1 << 30: time.Hour} {
		if got := backoff(10*time.Second, time.Hour, failures); got != want {
			t.Errorf("after %d failures %v, want %v", failures, got, want)
		}
	}
	if got := backoff(10*time.Second, time.Second, 1); got != time.Second {
		t.Errorf("the backoff is longer than the refresh interval: %v", got)
	}
	for range 1000 {
		if d := jitter(time.Hour); d < 54*time.Minute || d > 66*time.Minute {
			t.Fatalf("jitter changed an hour to %v", d)
		}
	}
}

// TestChangesBehindSymbolicLinksAreDetected checks that changes of watched files behind symbolic links are detected: a write to the file, and a new target of
// the link.
func TestChangesBehindSymbolicLinksAreDetected(t *testing.T) {
	f := newFixture(t)
	for _, v := range []string{"v1", "v2"} {
		os.Mkdir(filepath.Join(f.dir, v), 0o755)
	}
	f.file("v1/list.txt", "a.example\nc.example\n")
	f.file("v2/list.txt", "b.example\nc.example\nd.example\n")
	f.file("v1/allow.txt", "# none\n")
	f.file("v2/allow.txt", "c.example\n")
	current := filepath.Join(f.dir, "current")
	if err := os.Symlink("v1", current); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"list.txt", "allow.txt", "later.txt"} {
		if err := os.Symlink("current/"+name, filepath.Join(f.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	path := func(name string) string { return filepath.Join(f.dir, name) }
	l := f.start(Config{Lists: []string{path("list.txt"), path("later.txt")}, Allow: path("allow.txt")})
	f.run(l)
	f.file("v1/allow.txt", "a.example\n")
	eventually(t, "a file written behind a link", func() bool { return action(t, l, "a.example") == blocklist.Allow })
	os.Symlink("v2", path("next"))
	os.Rename(path("next"), current)
	eventually(t, "a switched link", func() bool { return blocks(t, l, "d.example") && action(t, l, "c.example") == blocklist.Allow })
	f.file("v2/later.txt", "late.example\n")
	eventually(t, "a file that appears behind links", func() bool { return blocks(t, l, "late.example") })
}

// TestReleaseAppliesToFetchedLists checks that a change of the file of released names applies to the stored content of a URL, without a new request.
func TestReleaseAppliesToFetchedLists(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("bad.example\n")
	released := f.file("released.txt", "# none\n")
	l := f.start(Config{Lists: []string{srv.URL}, Guards: f.guards(guardfile.Config{Popular: f.file("popular.csv", "1,popular.example\n"), Released: released})})
	f.run(l)
	srv.Say("bad.example\npopular.example\n")
	l.Reload()
	eventually(t, "the popular name is held", func() bool { return l.Status().Lists[0].Held["hold popular"] == 1 })
	asked := srv.Requests()
	f.file("released.txt", "popular.example\n")
	eventually(t, "the released name is blocked", func() bool { return blocks(t, l, "popular.example") })
	if n := srv.Requests(); n != asked {
		t.Errorf("the list was fetched %d more times, want none", n-asked)
	}
}
