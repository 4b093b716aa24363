package fetch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
)

// mispFeed serves a feed as MISP publishes one: static files.
type mispFeed struct {
	*fetchtest.Server
	mu     sync.Mutex
	stamps map[string]int64
	events map[string]string
	etag   string
	asked  []string // for events
}

func newMISPFeed(t *testing.T) *mispFeed {
	m := &mispFeed{Server: fetchtest.NewServer(t), stamps: map[string]int64{}, events: map[string]string{}}
	m.Do(m.file)
	return m
}

func (m *mispFeed) file(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if user, password, _ := r.BasicAuth(); user != "user" || password != "SECRET" || r.URL.Query().Get("key") != "SECRET" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/feed/")
	if name != manifestFile {
		m.asked = append(m.asked, strings.TrimSuffix(name, ".json"))
		if text, ok := m.events[strings.TrimSuffix(name, ".json")]; ok {
			io.WriteString(w, text)
			return
		}
		http.NotFound(w, r)
		return
	}
	if m.etag != "" && r.Header.Get("If-None-Match") == m.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("ETag", m.etag)
	manifest := map[string]any{}
	for uuid, at := range m.stamps {
		manifest[uuid] = map[string]any{"Orgc": map[string]any{"id": 1, "name": "CIRCL"}, "info": "x", "timestamp": at}
	}
	json.NewEncoder(w).Encode(manifest)
}

func (m *mispFeed) put(uuid string, stamp int64, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stamps[uuid], m.events[uuid] = stamp, text
}

// were returns the events that were requested since the last call of were.
func (m *mispFeed) were() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := slices.Sorted(slices.Values(m.asked))
	m.asked = nil
	return asked
}

func (m *mispFeed) origin(file string) Origin {
	return Origin{URL: strings.Replace(m.URL, "://", "://user:SECRET@", 1) + "/feed/" + file + "?key=SECRET", Format: format.MISP}
}

func uuidOf(n int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", n) }

// eventOf returns an event that lists domains.
func eventOf(n int, domains ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  \"Event\": {\r\n\t\"info\": \"x\", \"uuid\": %q, \"Attribute\": [", uuidOf(n))
	for i, d := range domains {
		if i > 0 {
			b.WriteString(",\n")
		}
		fmt.Fprintf(&b, `{"type": "domain", "to_ids": true, "value": %q}`, d)
	}
	b.WriteString("]}\n}\n")
	return b.String()
}

func TestMISPFeed(t *testing.T) {
	m := newMISPFeed(t)
	for i := range 40 {
		m.put(uuidOf(i), 1700000000, eventOf(i, fmt.Sprintf("n%d.example", i)))
	}
	want := names{}
	for i := range 40 {
		want[fmt.Sprintf("n%d.example", i)] = blocklist.Subtree
	}
	f := newFetching(t, m.origin(""))
	f.mustFetch(false)
	f.listed(want)
	if asked := m.were(); len(asked) != 40 {
		t.Errorf("asked for %d events", len(asked))
	}
	f.mustFetch(true)
	if asked := m.were(); len(asked) != 0 {
		t.Errorf("asked for %q", asked)
	}

	// One event is new, one has changed and one was removed.
	m.put(uuidOf(100), 1700000001, eventOf(100, "new.example"))
	m.put(uuidOf(7), 1700000001, eventOf(7, "changed.example"))
	delete(m.stamps, uuidOf(9))
	want["new.example"], want["changed.example"] = blocklist.Subtree, blocklist.Subtree
	delete(want, "n7.example")
	delete(want, "n9.example")
	f.from = m.origin(manifestFile)
	f.mustFetch(false)
	f.listed(want)
	if diff := cmp.Diff([]string{uuidOf(7), uuidOf(100)}, m.were()); diff != "" {
		t.Errorf("asked for (-want +got)\n%s", diff)
	}
	body := f.body()

	// If the stored body was altered, the altered events are fetched again.
	line := strings.Index(body, `{"uuid":"`+uuidOf(20))
	altered := body[:line] + strings.Replace(body[line:], "n20.example", "evil.example", 1)
	for name, text := range map[string]string{"altered": altered, "cut short": body[:line+40], "another": "n1.example\n", "empty": ""} {
		if err := os.WriteFile(f.before, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f.mustFetch(false)
		if f.body() != body {
			t.Errorf("%s: the body was not repaired", name)
		}
	}
	if asked := m.were(); len(asked) != 1+21+40+40 {
		t.Errorf("asked for %d events", len(asked))
	}

	// ETag: an unchanged manifest reports nothing new.
	m.etag = `"v1"`
	f.mustFetch(true)
	f.validators = Validators{ETag: m.etag}
	f.mustFetch(true)

	// One event in twenty may fail. It is fetched again later, and its stored version stays.
	m.put(uuidOf(3), 1700000002, "<html>")
	m.put(uuidOf(101), 1700000002, `{"Event": {"uuid": "`+uuidOf(102)+`"}}`)
	m.etag = `"v2"`
	if got := f.mustFetch(false); got.MissedEvents != 2 || got.Validators != (Validators{}) {
		t.Errorf("fetched %+v, want two missed events and no validators", got)
	}
	f.listed(want)
	m.were()
	m.put(uuidOf(3), 1700000002, eventOf(3, "repaired.example"))
	delete(m.stamps, uuidOf(101))
	want["repaired.example"] = blocklist.Subtree
	delete(want, "n3.example")
	f.mustFetch(false)
	f.listed(want)
	if diff := cmp.Diff([]string{uuidOf(3)}, m.were()); diff != "" {
		t.Errorf("asked for (-want +got)\n%s", diff)
	}

	// If three events in forty fail, the fetch fails.
	m.etag = `"v3"`
	for i := 200; i < 203; i++ {
		m.put(uuidOf(i), 1, "[")
	}
	f.mustFail("could not be fetched")
	f.from.URL = strings.Replace(f.from.URL, "user:SECRET", "user:SECRETO", 1)
	f.mustFail("401")
}

// TestMISPFeedReadsRealEvents fetches a feed of real published events.
func TestMISPFeedReadsRealEvents(t *testing.T) {
	const events = "../../../shared/data/feeds/"
	files, _ := filepath.Glob(events + "misp-events/*.json")
	if len(files) == 0 {
		t.Skip("the real data is not available")
	}
	m := newMISPFeed(t)
	want := names{}
	for _, name := range append(files, events+"assoechap-stalkerware/generated_misp_event.json") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var e struct {
			UUID  string
			Event struct{ UUID string }
		}
		if err := json.Unmarshal(text, &e); err != nil {
			t.Fatal(err)
		}
		m.put(e.UUID+e.Event.UUID, 1, string(text))
		if _, err := format.Parse(bytes.NewReader(text), format.Options{Format: format.MISP}, want); err != nil {
			t.Logf("%s: %v", name, err) // one of them lists nothing
		}
	}
	f := newFetching(t, m.origin(""))
	f.mustFetch(false)
	f.listed(want)
	if len(want) < 500 {
		t.Errorf("only %d names", len(want))
	}
}

func TestMISPFeedErrors(t *testing.T) {
	const entry = `{"timestamp": "1700000000"}`
	var changed atomic.Int64
	manifest := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, manifestFile) {
				io.WriteString(w, text)
				return
			}
			http.NotFound(w, r)
		}
	}
	event := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, manifestFile) {
				fmt.Fprintf(w, `{%q: {"timestamp": %d}}`, uuidOf(1), changed.Load())
				return
			}
			h(w, r)
		}
	}
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"no manifest", http.NotFound, "404"},
		{"HTML page", manifest("<html>"), "not a MISP manifest"},
		{"array", manifest("[]"), "not a MISP manifest"},
		{"empty", manifest(""), "not a MISP manifest"},
		{"manifest cut short", manifest(`{"` + uuidOf(1) + `": ` + entry), "EOF"},
		{"path as event name", manifest(`{"../../../../../../../etc/passwd00000": ` + entry + `}`), "not the UUID"},
		{"short path as event name", manifest(`{"../x": ` + entry + `}`), "not the UUID"},
		{"no timestamp", manifest(`{"` + uuidOf(1) + `": {}}`), "no timestamp"},
		{"timestamp is an object", manifest(`{"` + uuidOf(1) + `": {"timestamp": {"a": 1}}}`), "no timestamp"},
		{"huge entry", manifest(`{"` + uuidOf(1) + `": {"a": [` + strings.Repeat(`"0123456789",`, maxEntry/10) + `1]}}`), "too large"},
		{"deeply nested manifest", manifest(`{"` + uuidOf(1) + `": ` + strings.Repeat("[", 1000)), "too large"},
		{"endless manifest", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "{")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(w, `%q: %s,`, uuidOf(i), entry); err != nil {
					return
				}
			}
		}, "too large"},
		{"no event", event(http.NotFound), "404"},
		{"another event", event(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, eventOf(2, "a.example")) }), "another event"},
		{"event cut short", event(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, eventOf(1, "a.example")[:60]) }), "not a MISP event"},
		{"two events", event(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, eventOf(1)+eventOf(1)) }), "not a MISP event"},
		{"slow event", event(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), "deadline"},
		{"endless event", event(func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := io.WriteString(w, "[1],"); err != nil {
					return
				}
			}
		}), "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := fetchtest.NewServer(t)
			f := newFetching(t, Origin{URL: srv.URL + "/feed/?key=SECRET", Format: format.MISP})
			srv.Do(event(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, eventOf(1, "a.example")) }))
			f.mustFetch(false)
			changed.Add(1)
			if tt.want == "deadline" {
				f.client.partTimeout = 100 * time.Millisecond
			}
			f.client.maxBody = 4 << 20
			srv.Do(tt.handler)
			f.mustFail(tt.want)
			f.listed(blocked("a.example"))
		})
	}
}

// TestMISPFetchesAreBounded checks the limits of concurrent requests and of the size of a body.
func TestMISPFetchesAreBounded(t *testing.T) {
	var now, most atomic.Int32
	srv := fetchtest.NewServer(t)
	srv.Do(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, manifestFile) {
			var entries []string
			for i := range 50 {
				entries = append(entries, fmt.Sprintf(`%q: {"timestamp": %d}`, uuidOf(i), i))
			}
			io.WriteString(w, "{"+strings.Join(entries, ",")+"}")
			return
		}
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		var i int
		fmt.Sscanf(r.URL.Path, "/%08x", &i)
		io.WriteString(w, eventOf(i, "a.example"))
	})
	f := newFetching(t, Origin{URL: srv.URL, Format: format.MISP})
	f.mustFetch(false)
	if n := most.Load(); n > maxEventFetches || n < 1 {
		t.Errorf("%d requests at the same time", n)
	}
	f.client.maxBody = 2 << 10
	f.validators, f.before = Validators{}, ""
	f.mustFail("too large")
}
