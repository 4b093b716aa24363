package journal_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/mirror"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// keys holds one key per role, and the root key of their ring.
type keys struct {
	root, control, author, second, approver, feeds, unauthorized *signing.SecretKey
	ring                                                         signing.Ring
	sealed                                                       []byte
}

func key(t testing.TB, name string) *signing.SecretKey {
	t.Helper()
	k, err := signing.NewKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeys(t testing.TB) *keys {
	k := &keys{
		root: key(t, "root"), control: key(t, "control"), author: key(t, "desk"), second: key(t, "other"), approver: key(t, "boss"),
		feeds: key(t, "feeds"), unauthorized: key(t, "unauthorized"),
	}
	k.ring = signing.Ring{Serial: 1, Roots: []string{k.root.String()}, Keys: []signing.RingKey{
		{Key: k.control.String(), Roles: []signing.Role{signing.RoleControl}},
		{Key: k.author.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.second.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.approver.String(), Roles: []signing.Role{signing.RoleApprover}},
		{Key: k.feeds.String(), Roles: []signing.Role{signing.RoleFeeds}},
	}}
	k.seal(t)
	return k
}

func (k *keys) seal(t testing.TB) {
	t.Helper()
	var err error
	if k.sealed, err = k.ring.Seal(k.root); err != nil {
		t.Fatal(err)
	}
}

func (k *keys) trust() []signing.PublicKey { return []signing.PublicKey{k.root.PublicKey} }

// set returns a sealed change set.
func (k *keys) set(t testing.TB, id string, changes ...journal.Change) []byte {
	t.Helper()
	payload, err := journal.Encode(&journal.ChangeSet{ID: id, Time: time.Now().Unix()}, changes)
	if err != nil {
		t.Fatal(err)
	}
	return signing.Seal(signing.KindChanges, payload, k.author)
}

func block(name string) journal.Change {
	return journal.Change{Do: journal.Block, Name: name, Category: "phishing", Reason: "seen in a mail"}
}

func logs(t testing.TB) *slog.Logger {
	if tt, ok := t.(*testing.T); ok {
		return slog.New(slog.NewTextHandler(tt.Output(), nil))
	}
	return slog.New(slog.DiscardHandler)
}

// control is a Control under test.
type control struct {
	*journal.Control
	stream *stream.Stream
	stop   func()
}

// openControlIn returns a control that does not run yet, and a function that closes its stream.
func openControlIn(t testing.TB, k *keys, dir string, change func(*journal.ControlConfig)) (c *journal.Control, end func()) {
	t.Helper()
	s, err := stream.Open(t.Context(), stream.Config{
		Dir: filepath.Join(dir, "nats"), Log: logs(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	cfg := journal.ControlConfig{Stream: s, Key: k.control, Ring: k.sealed, Trust: k.trust(), Dir: filepath.Join(dir, "state"), Log: logs(t)}
	if change != nil {
		change(&cfg)
	}
	if c, err = journal.NewControl(cfg); err == nil {
		err = c.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c, func() { s.Close() }
}

func startControl(t testing.TB, k *keys, dir string, change func(*journal.ControlConfig)) *control {
	t.Helper()
	c, end := openControlIn(t, k, dir, change)
	ready := make(chan struct{})
	stop := dnstest.Running(t, func(ctx context.Context) error { return c.Run(ctx, func() { close(ready) }) })
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("control is not ready in time")
	}
	return &control{c, c.Stream, func() { stop(); end() }}
}

func (c *control) publish(t testing.TB, d journal.Draft) journal.Receipt {
	t.Helper()
	r, err := c.Publish(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (c *control) push(t testing.TB, body []byte) journal.Receipt {
	t.Helper()
	return c.publish(t, journal.Draft{Kind: journal.RecordChanges, By: "desk", Body: body})
}

// edge is a Follower under test.
type edge struct {
	*journal.Follower
	stop func()
}

func startEdge(t testing.TB, k *keys, dir string, source journal.Source, node journal.Node) *edge {
	t.Helper()
	f, err := journal.NewFollower(journal.FollowerConfig{Dir: dir, Source: source, Trust: k.trust(), Node: node, Log: logs(t)})
	if err == nil {
		err = f.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &edge{f, dnstest.Running(t, f.Run)}
}

func (e *edge) reaches(t testing.TB, version uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := e.Wait(ctx, version); err != nil {
		t.Fatalf("version %d is in force, not %d: %+v", e.InForce(), version, e.Health())
	}
}

// judge returns the verdict on a name.
func judge(t testing.TB, v *blocklist.View, name string) blocklist.Action {
	t.Helper()
	wire, err := blocklist.AppendName(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return v.Match(wire, blocklist.AllCategories, time.Now().Unix()).Action
}

func wantVerdict(t testing.TB, v *blocklist.View, name string, want blocklist.Action) {
	t.Helper()
	if got := judge(t, v, name); got != want {
		t.Errorf("version %d: %s: %v, want %v", v.Version(), name, got, want)
	}
}

// overHTTP returns a source that reads control's journal over HTTP.
func overHTTP(t testing.TB, c *control) journal.Source {
	t.Helper()
	srv := httptest.NewServer(mirror.NewHandler(c, func(*http.Request, []byte) error { return nil }))
	t.Cleanup(srv.Close)
	client, err := mirror.NewClient(srv.URL, nil, srv.Client())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// fromStream returns a source that reads control's own stream, as a node in control's process does.
func fromStream(c *control, name string) journal.Source {
	return journal.FromStream(c.stream.Reader, name)
}

func TestPushReachesEveryEdge(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	edges := map[string]*edge{
		"stream": startEdge(t, k, filepath.Join(dir, "e1"), fromStream(c, "e1"), journal.Node{ID: "e1", Country: "FR"}),
		"http":   startEdge(t, k, filepath.Join(dir, "e2"), overHTTP(t, c), journal.Node{ID: "e2", Country: "DE"}),
	}
	all := func(version uint64, name string, want blocklist.Action) {
		t.Helper()
		for at, e := range edges {
			e.reaches(t, version)
			t.Log(at)
			wantVerdict(t, e.Set().View(), name, want)
		}
		wantVerdict(t, c.State().View(), name, want)
	}
	r := c.push(t, k.set(t, "one", block("bad.example")))
	all(r.Version, "www.bad.example", blocklist.BlockedBy)
	r = c.push(t, k.set(t, "two", journal.Change{Do: journal.Allow, Name: "good.bad.example", Scope: "exact"}))
	all(r.Version, "good.bad.example", blocklist.Allowed)
	r = c.push(t, k.set(t, "three", journal.Change{Do: journal.Withdraw, Name: "bad.example"}, journal.Change{Do: journal.Withdraw, Name: "good.bad.example"}))
	all(r.Version, "www.bad.example", blocklist.Pass)

	r = c.push(t, k.set(t, "four", journal.Change{Do: journal.Block, Name: "fr.example", Countries: []string{"FR"}}, block("all.example")))
	all(r.Version, "all.example", blocklist.BlockedBy)
	wantVerdict(t, edges["stream"].Set().View(), "fr.example", blocklist.BlockedBy)
	wantVerdict(t, edges["http"].Set().View(), "fr.example", blocklist.Pass)
	if _, err := c.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := startEdge(t, k, filepath.Join(dir, "e3"), overHTTP(t, c), journal.Node{ID: "e3", Country: "FR"})
	late.reaches(t, c.State().Version)
	wantVerdict(t, late.Set().View(), "fr.example", blocklist.BlockedBy)
	wantVerdict(t, late.Set().View(), "all.example", blocklist.BlockedBy)

	r = c.publish(t, journal.Draft{Kind: journal.RecordSuspend, By: "boss", Reason: "something is badly wrong"})
	for _, e := range edges {
		e.reaches(t, r.Version)
		if !e.Set().View().Suspended() {
			t.Error("an edge still enforces after the suspension")
		}
	}
	r = c.publish(t, journal.Draft{Kind: journal.RecordResume, By: "boss"})
	for _, e := range edges {
		e.reaches(t, r.Version)
		if e.Set().View().Suspended() {
			t.Error("an edge does not enforce after the resumption")
		}
	}
}

// TestPushesDuringSnapshotAreInForce checks that a snapshot of many names, and changes that are pushed while it is published, are in force on every node.
func TestPushesDuringSnapshotAreInForce(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	e := startEdge(t, k, filepath.Join(dir, "e1"), fromStream(c, "e1"), journal.Node{ID: "e1"})
	load, pushed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(pushed)
		<-load
		c.push(t, k.set(t, "during", block("during.example")))
	}()
	r, err := c.PublishSnapshot(t.Context(), journal.SnapshotDraft{By: "lists", Compile: func(w io.Writer, st *journal.State) error {
		close(load)
		<-pushed
		b := blocklist.NewBuilder()
		for i := range 20_000 {
			name, _ := blocklist.AppendName(nil, fmt.Sprintf("n%d.list.example", i))
			if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree}); err != nil {
				return err
			}
		}
		return blocklist.Compile(w, blocklist.Info{Version: st.Version}, b.Input(blocklist.Source{Name: "a list"}), st.View().Input())
	}})
	if err != nil {
		t.Fatal(err)
	}
	after := c.push(t, k.set(t, "after", block("after.example")))
	if after.Version <= r.Version {
		t.Errorf("version %d after %d", after.Version, r.Version)
	}
	e.reaches(t, after.Version)
	for _, name := range []string{"n1.list.example", "n19999.list.example", "during.example", "after.example"} {
		wantVerdict(t, e.Set().View(), name, blocklist.BlockedBy)
	}
	e.stop()
	again := startEdge(t, k, filepath.Join(dir, "e1"), offline{}, journal.Node{ID: "e1"})
	if v := again.Set().View().Version(); v < after.Version {
		t.Errorf("version %d after a restart without control, %d before", v, after.Version)
	}
	for _, name := range []string{"n1.list.example", "during.example", "after.example"} {
		wantVerdict(t, again.Set().View(), name, blocklist.BlockedBy)
	}
}

// offline is a source that cannot be reached.
type offline struct{}

func (offline) Follow(ctx context.Context, _ journal.Position, _ journal.Consumer) error {
	return fmt.Errorf("unreachable")
}
func (offline) Newest(context.Context) (journal.SequencedRecord, error) {
	return journal.SequencedRecord{}, fmt.Errorf("unreachable")
}
func (offline) Object(context.Context, string) (io.ReadCloser, error) {
	return nil, fmt.Errorf("unreachable")
}
func (offline) Report(context.Context, []byte) error { return fmt.Errorf("unreachable") }

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout while waiting for %s", what)
		}
	}
}

func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestSecondSnapshotContainsUnfetchedFirst checks that a snapshot which is published before the previous one was fetched also contains the names of the
// previous one.
func TestSecondSnapshotContainsUnfetchedFirst(t *testing.T) {
	k, dir := newKeys(t), t.TempDir()
	c := startControl(t, k, dir, nil)
	var last journal.Receipt
	for i := range 4 {
		var err error
		last, err = c.PublishSnapshot(t.Context(), journal.SnapshotDraft{By: "desk", Compile: func(w io.Writer, st *journal.State) error {
			view, err := journal.Apply(st.View(), &journal.ChangeSet{}, func(yield func(journal.Change, error) bool) {
				for n := range 2000 {
					if !yield(block(fmt.Sprintf("n%d.load%d.example", n, i)), nil) {
						return
					}
				}
			})
			if err != nil {
				return err
			}
			return view.Compact(w, view.Info())
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Follower().Wait(t.Context(), last.Version); err != nil {
		t.Fatal(err)
	}
	if n := c.State().View().Stats().Names; n != 8000 {
		t.Errorf("%d names", n)
	}
	// A change set is published once, even if it is pushed again.
	body := k.set(t, "once", block("once.example"))
	first := c.push(t, body)
	if again := c.push(t, body); again.Version != first.Version {
		t.Errorf("version %d, and again %d", first.Version, again.Version)
	}
}
