package pushapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/internal/changeset"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// keys holds one key per role, under one root key.
type keys struct {
	root, control, desk, author, second, approver, feeds, unknown *signing.SecretKey
	ring                                                          signing.Ring
}

func newKeys(t testing.TB) *keys {
	t.Helper()
	key := func(name string) *signing.SecretKey {
		k, err := signing.NewKey(name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := &keys{key("root"), key("control"), key("desk"), key("author"), key("second"), key("approver"), key("feeds"), key("unknown"), signing.Ring{}}
	k.ring = signing.Ring{Serial: 1, Roots: []string{k.root.String()}, Keys: []signing.RingKey{
		{Key: k.control.String(), Roles: []signing.Role{signing.RoleControl}},
		{Key: k.desk.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.author.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.second.String(), Roles: []signing.Role{signing.RoleAuthor}},
		{Key: k.approver.String(), Roles: []signing.Role{signing.RoleApprover}},
		{Key: k.feeds.String(), Roles: []signing.Role{signing.RoleFeeds}},
	}}
	return k
}

// output stores the log, so that a test can search it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// fixture is a control and its API. secret maps the name of each token to its secret.
type fixture struct {
	*keys
	dir    string
	stream *stream.Stream
	journ  *publish.Control
	api    *pushapi.API
	srv    *httptest.Server
	logged *output
	secret map[string]string
	stop   func()
}

// setting changes the configuration of a fixture.
type setting struct {
	ring    func(*signing.Ring)
	config  func(*pushapi.Config)
	control func(*publish.Config)
	dir     string // folder of an earlier fixture that was stopped; keys must be its keys
	keys    *keys
	idle    bool // Run is not called
}

var shipped = sync.OnceValues(func() (*guard.Guards, error) { return guard.New(guard.Config{}) })

// start starts a control with a token for each of these: the publishers ada and bob, the approver eve, sam, who is publisher and approver, the auditor joe,
// and a node.
func start(t testing.TB, s setting) *fixture {
	t.Helper()
	f := &fixture{keys: s.keys, dir: s.dir, logged: &output{}, secret: map[string]string{}}
	if f.keys == nil {
		f.keys, f.dir = newKeys(t), t.TempDir()
	}
	if s.ring != nil {
		s.ring(&f.ring)
	}
	log := slog.New(slog.NewTextHandler(f.logged, nil))
	var err error
	if f.stream, err = stream.Open(t.Context(), stream.Config{Dir: filepath.Join(f.dir, "nats"), Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.stream.Close() })
	sealed, err := f.ring.Seal(f.root)
	if err != nil {
		t.Fatal(err)
	}
	cfg := publish.Config{Stream: f.stream, Key: f.control, Ring: sealed, Trust: []signing.PublicKey{f.root.PublicKey}, Dir: filepath.Join(f.dir, "state"), Log: log}
	ready := make(chan struct{})
	cfg.Changed = func(_, _ *blocklist.View, e journal.Effect) {
		if f.api != nil {
			f.api.Applied(e)
		}
	}
	if s.control != nil {
		s.control(&cfg)
	}
	if f.journ, err = publish.New(cfg); err == nil {
		err = f.journ.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := dnstest.Running(t, func(ctx context.Context) error { return f.journ.Run(ctx, func() { close(ready) }) })
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("control did not become ready")
	}
	push := pushapi.Config{
		Control: f.journ, Desk: f.desk, Guards: shipped, Grammar: format.Grammar{}, Dir: t.TempDir(), Version: "test", Log: log, Rate: 1000, Burst: 1000,
	}
	if s.config != nil {
		s.config(&push)
	}
	if f.api, err = pushapi.New(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	stopAPI := func() {}
	if !s.idle {
		stopAPI = dnstest.Running(t, f.api.Run)
	}
	f.srv = httptest.NewUnstartedServer(f.api.Handler())
	f.srv.Config = pushapi.Server(f.api.Handler())

	f.srv.Start()
	t.Cleanup(f.srv.Close)
	f.stop = func() { f.srv.Close(); stopAPI(); stop(); f.stream.Close() }
	if s.dir == "" {
		f.token(t, pushapi.Order{Name: "ada", Roles: []pushapi.Role{pushapi.Publisher}})
		f.token(t, pushapi.Order{Name: "bob", Roles: []pushapi.Role{pushapi.Publisher}})
		f.token(t, pushapi.Order{Name: "eve", Roles: []pushapi.Role{pushapi.Approver}})
		f.token(t, pushapi.Order{Name: "sam", Roles: []pushapi.Role{pushapi.Publisher, pushapi.Approver}})
		f.token(t, pushapi.Order{Name: "joe", Roles: []pushapi.Role{pushapi.Auditor}})
		f.token(t, pushapi.Order{Name: "node", Roles: []pushapi.Role{pushapi.Node}})
	}
	return f
}

// answer is the API's response to a call.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a *answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// into decodes the body of an answer. The test fails at once if the answer has another status.
func into[T any](t testing.TB, a *answer, status int) T {
	t.Helper()
	var v T
	if a.status != status {
		t.Fatalf("status %d, want %d: %.2000s", a.status, status, a.body)
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("decoding the answer: %v: %.2000s", err, a.body)
	}
	return v
}

// problemJSON is the body of an error response.
type problemJSON struct {
	Status int
	Detail string
	Errors []struct {
		Message, Location string
		Value             any
	}
}

// refused checks that an answer is an error with the status, and that the error names the field. An empty field is not checked.
func refused(t testing.TB, a *answer, status int, field string) problemJSON {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("error with media type %q, want application/problem+json: %s", got, a)
	}
	p := into[problemJSON](t, a, status)
	if p.Status != status || p.Detail == "" {
		t.Errorf("the error has another status in its body, or no detail: %s", a.body)
	}
	if field == "" {
		return p
	}
	for _, e := range p.Errors {
		if strings.HasPrefix(e.Location, field) {
			return p
		}
	}
	t.Errorf("no error names the field %s: %s", field, a.body)
	return p
}

// call calls the API with the token of who, or without a token if who is empty.
func (f *fixture) call(t testing.TB, who, method, path, mediaType string, body io.Reader) *answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, f.srv.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		r.Header.Set("Content-Type", mediaType)
	}
	if who != "" {
		r.Header.Set("Authorization", "Bearer "+f.secret[who])
	}
	res, err := f.srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &answer{res.StatusCode, res.Header, data}
}

func (f *fixture) get(t testing.TB, who, path string) *answer {
	t.Helper()
	return f.call(t, who, http.MethodGet, path, "", nil)
}

func (f *fixture) post(t testing.TB, who, path string) *answer {
	t.Helper()
	return f.call(t, who, http.MethodPost, path, "", nil)
}

// push pushes a value that is encoded as JSON.
func (f *fixture) push(t testing.TB, who string, set any) *answer {
	t.Helper()
	data, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return f.call(t, who, http.MethodPost, "/v1/changesets", pushapi.TypeJSON, bytes.NewReader(data))
}

func (f *fixture) order(t testing.TB, o pushapi.Order, by *signing.SecretKey) *answer {
	t.Helper()
	if o.Time == 0 {
		o.Time = time.Now().Unix()
	}
	if o.Do == "" {
		o.Do = "create"
	}
	payload, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return f.call(t, "", http.MethodPost, "/v1/tokens", "application/vnd.rempart.order", bytes.NewReader(signing.Seal(signing.KindOrder, payload, by)))
}

func (f *fixture) token(t testing.TB, o pushapi.Order) {
	t.Helper()
	f.secret[o.Name] = into[pushapi.TokenInfo](t, f.order(t, o, f.root), http.StatusOK).Secret
}

// set returns a change set that blocks the names.
func set(id string, names ...string) pushapi.ChangeSet {
	s := pushapi.ChangeSet{ID: id}
	for _, n := range names {
		s.Changes = append(s.Changes, changeset.Change{Do: journal.Block, Name: n})
	}
	return s
}

// signed returns a change set that is signed by the keys.
func signed(t testing.TB, s *journal.ChangeSet, changes []journal.Change, by ...*signing.SecretKey) []byte {
	t.Helper()
	if s.Time == 0 {
		s.Time = time.Now().Unix()
	}
	payload, err := journal.Encode(s, changes)
	if err != nil {
		t.Fatal(err)
	}
	return signing.Seal(signing.KindChanges, payload, by...)
}

// verdict returns the verdict of control's set on a name.
func (f *fixture) verdict(t testing.TB, name string) blocklist.Action {
	t.Helper()
	wire, err := format.Name(name)
	if err != nil {
		t.Fatal(err)
	}
	return f.journ.State().View().Match(wire, blocklist.AllCategories, time.Now().Unix()).Action
}

func (f *fixture) wants(t testing.TB, name string, want blocklist.Action) {
	t.Helper()
	if got := f.verdict(t, name); got != want {
		t.Errorf("version %d: %s: %v, want %v", f.journ.State().Version, name, got, want)
	}
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout while waiting for %s", what)
		}
	}
}
