package fetch

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
)

// taxiiServer serves one collection in the same way as medallion, the server of OASIS.
type taxiiServer struct {
	*fetchtest.Server
	mu      sync.Mutex
	objects []taxiiObject // in the order they were added
	all     bool          // versions; else the newest of each object
	size    int           // of a page
	asked   []string      // queries
}

type taxiiObject struct {
	added, id, modified string
	text                json.RawMessage
}

const taxiiCollection = "/trustgroup1/collections/91a7b528-80eb-42ed-a74d-c6fbd5a26116/"

func newTAXIIServer(t *testing.T) *taxiiServer {
	s := &taxiiServer{Server: fetchtest.NewServer(t), size: 2}
	s.Do(s.page)
	return s
}

func (s *taxiiServer) origin() Origin {
	return Origin{URL: strings.Replace(s.URL, "://", "://user:SECRET@", 1) + taxiiCollection, Format: format.TAXII}
}

func (s *taxiiServer) page(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.RawQuery)
	user, password, _ := r.BasicAuth()
	switch {
	case user != "user" || password != "SECRET":
		w.WriteHeader(http.StatusUnauthorized)
		return
	case r.Header.Get("Accept") != "application/taxii+json;version=2.1":
		w.WriteHeader(http.StatusNotAcceptable)
		return
	case r.URL.Path != taxiiCollection+"objects/":
		http.NotFound(w, r)
		return
	}
	var matching []taxiiObject
	for i, o := range s.objects {
		newer := slices.ContainsFunc(s.objects[i+1:], func(n taxiiObject) bool { return n.id == o.id && n.modified > o.modified })
		if o.added > r.URL.Query().Get("added_after") && (s.all || !newer) {
			matching = append(matching, o)
		}
	}
	from := 0
	if next := r.URL.Query().Get("next"); next != "" {
		from, _ = strconv.Atoi(strings.TrimPrefix(next, "page-"))
	}
	shown := matching[min(from, len(matching)):min(from+s.size, len(matching))]
	w.Header().Set("Content-Type", "application/taxii+json;version=2.1")
	if len(shown) == 0 {
		io.WriteString(w, "{}")
		return
	}
	w.Header().Set("X-TAXII-Date-Added-First", shown[0].added)
	w.Header().Set("X-TAXII-Date-Added-Last", shown[len(shown)-1].added)
	e := map[string]any{"more": from+len(shown) < len(matching)}
	if e["more"] == true {
		e["next"] = fmt.Sprintf("page-%d", from+len(shown))
	}
	var texts []json.RawMessage
	for _, o := range shown {
		texts = append(texts, o.text)
	}
	e["objects"] = texts
	json.NewEncoder(w).Encode(e)
}

// add adds an indicator of a domain.
func (s *taxiiServer) add(minute, n, version int, domain, more string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := taxiiObject{
		added:    fmt.Sprintf("2026-08-01T10:%02d:00.000000Z", minute),
		id:       "indicator--" + uuidOf(n),
		modified: fmt.Sprintf("2026-07-01T00:00:%02d.000Z", version),
	}
	o.text = json.RawMessage(fmt.Sprintf(`{"type": "indicator", "id": %q, "created": "2026-07-01T00:00:00.000Z", "modified": %q, `+
		`"valid_from": "2026-07-01T00:00:00Z", "pattern_type": "stix", "pattern": "[domain-name:value = '%s']"%s}`, o.id, o.modified, domain, more))
	s.objects = append(s.objects, o)
}

func (s *taxiiServer) were() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := strings.Join(s.asked, " ")
	s.asked = nil
	return asked
}

func TestTAXII(t *testing.T) {
	s := newTAXIIServer(t)
	s.all = true
	for i, d := range []string{"a.example", "b.example", "c.example", "d.example", "e.example"} {
		s.add(i, i, 1, d, "")
	}
	f := newFetching(t, s.origin())
	f.mustFetch(false)
	f.listed(blocked("a.example", "b.example", "c.example", "d.example", "e.example"))
	if asked := s.were(); asked != " next=page-2 next=page-4" {
		t.Errorf("asked %q", asked)
	}
	f.mustFetch(true)
	if asked := s.were(); asked != "added_after=2026-08-01T10%3A04%3A00.000000Z" {
		t.Errorf("asked %q", asked)
	}

	// A newer version replaces or revokes an older one, in any order of arrival.
	s.add(10, 0, 3, "a3.example", "")
	s.add(11, 0, 2, "a2.example", "")
	s.add(12, 1, 2, "b.example", `, "revoked": true`)
	s.add(13, 6, 1, "f.example", "")
	want := blocked("a3.example", "c.example", "d.example", "e.example", "f.example")
	f.mustFetch(false)
	f.listed(want)
	if asked := s.were(); !strings.HasPrefix(asked, "added_after=2026-08-01T10%3A04%3A00.000000Z added_after=2026-08-01T10%3A04%3A00.000000Z&next=page-2") {
		t.Errorf("asked %q", asked)
	}
	incremental := f.body()
	known := f.validators

	// The whole collection is fetched again after a day, or if the stored body cannot be used.
	for name, alter := range map[string]func(){
		"a day later":                   func() { f.validators.Complete -= 24 * 3600 },
		"fetched in the future":         func() { f.validators.Complete += 24 * 3600 },
		"stored body cut short":         func() { os.WriteFile(f.before, []byte(incremental[:200]), 0o600) },
		"stored body is another format": func() { os.WriteFile(f.before, []byte("a.example\n"), 0o600) },
		"no stored body":                func() { f.before = "" },
		"no validators":                 func() { f.validators = Validators{} },
	} {
		f.validators = known
		alter()
		f.mustFetch(false)
		if asked := s.were(); strings.Contains(asked, "added_after") {
			t.Errorf("%s: asked %q", name, asked)
		}
		f.listed(want)
	}
	if f.validators.Complete < known.Complete || f.validators.AddedLast != known.AddedLast {
		t.Errorf("known %+v", f.validators)
	}

	f.from.URL = strings.Replace(f.from.URL, "SECRET", "SECRETO", 1)
	f.mustFail("user:password@")
	f.from.URL = strings.Replace(s.origin().URL, "91a7", "91a8", 1)
	f.mustFail("no such collection")
}

// TestTAXIIReadsRealObjects serves the test data of medallion.
func TestTAXIIReadsRealObjects(t *testing.T) {
	text, err := os.ReadFile("../../../shared/data/feeds/taxii21-medallion/medallion_test_data_default_data.json")
	if err != nil {
		t.Skip(err)
	}
	var data struct {
		Group struct {
			Collections []struct {
				ID       string
				Objects  []json.RawMessage
				Manifest []struct {
					Added   string `json:"date_added"`
					ID      string `json:"id"`
					Version string `json:"version"`
				}
			}
		} `json:"trustgroup1"`
	}
	if err := json.Unmarshal(text, &data); err != nil {
		t.Fatal(err)
	}
	s := newTAXIIServer(t)
	s.all = true
	for _, c := range data.Group.Collections {
		if !strings.Contains(taxiiCollection, c.ID) {
			continue
		}
		for i, m := range c.Manifest {
			s.objects = append(s.objects, taxiiObject{m.Added, m.ID, m.Version, c.Objects[i]})
		}
	}
	s.add(0, 1, 1, "a.example", "") // the other indicators are for hashes and pages
	slices.SortFunc(s.objects, func(a, b taxiiObject) int { return strings.Compare(a.added, b.added) })
	f := newFetching(t, s.origin())
	f.mustFetch(false)
	f.listed(blocked("a.example"))
	ids := map[string]int{}
	var e struct {
		Objects []struct{ ID, Modified, Name string }
	}
	if err := json.Unmarshal([]byte(f.body()), &e); err != nil {
		t.Fatal(err)
	}
	for _, o := range e.Objects {
		ids[o.ID]++
		if ids[o.ID] > 1 {
			t.Errorf("%s is there %d times", o.ID, ids[o.ID])
		}
		if o.ID == "indicator--6770298f-0fd8-471a-ab8c-1c658a46574e" && o.Modified != "2017-01-27T13:49:53.935Z" {
			t.Errorf("%s is of %s", o.ID, o.Modified)
		}
	}
	if len(e.Objects) != 6 || len(s.objects) != 9 {
		t.Errorf("%d objects of %d versions", len(e.Objects), len(s.objects))
	}
	f.mustFetch(true)
}

func TestTAXIIErrors(t *testing.T) {
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	const object = `{"type": "identity", "id": "identity--00000001-0000-4000-8000-000000000000", "name": "x"}`
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		want    string
	}{
		{"401", status(401), "401 Unauthorized; put the user"},
		{"403", status(403), "403 Forbidden; put the user"},
		{"404", status(404), "no such collection"},
		{"406", status(406), "does not speak TAXII 2.1"},
		{"415", status(415), "does not speak TAXII 2.1"},
		{"416", status(416), "TAXII 2.0"},
		{"500", status(500), "500"},
		{"HTML page", says("<html>"), "not a TAXII envelope"},
		{"empty body", says(""), "unexpected EOF"},
		{"array", says("[]"), "another document"},
		{"envelope cut short", says(`{"more": true, "objects": [` + object), "unexpected EOF"},
		{"objects are numbers", says(`{"objects": [1]}`), "one of its objects"},
		{"objects as an object", says(`{"objects": {}}`), "no list"},
		{"more is a string", says(`{"more": "yes"}`), "not a TAXII envelope"},
		{"page links to itself", says(`{"more": true, "next": "x"}`), "circle"},
		{"pages link in a circle", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"more": true, "next": "%c"}`, map[string]rune{"": 'a', "a": 'b', "b": 'c', "c": 'a'}[r.URL.Query().Get("next")])
		}, "circle"},
		{"more without next", says(`{"more": true}`), "but no next page"},
		{"time does not advance", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-TAXII-Date-Added-Last", "2026-08-01T10:00:00.000000Z")
			io.WriteString(w, `{"more": true}`)
		}, "but no next page"},
		{"long next", says(`{"more": true, "next": "` + strings.Repeat("x", 5000) + `"}`), "too large"},
		{"endless objects", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"objects": [`)
			for {
				if _, err := io.WriteString(w, object+","); err != nil {
					return
				}
			}
		}, "too large"},
		{"endless pages", func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Query().Get("next"))
			fmt.Fprintf(w, `{"more": true, "next": "%d", "x": "%s"}`, n+1, strings.Repeat("x", 10_000))
		}, "too large"},
		{"endless object", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"objects": [{"a": [1`)
			for {
				if _, err := io.WriteString(w, ",1"); err != nil {
					return
				}
			}
		}, "too large"},
		{"deeply nested object", says(`{"objects": [` + strings.Repeat("[", 1000)), "too large"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTAXIIServer(t)
			s.add(0, 0, 1, "a.example", "")
			f := newFetching(t, s.origin())
			f.mustFetch(false)
			s.Do(tt.handler)
			f.client.maxBody = 1 << 20
			f.mustFail(tt.want)
			f.listed(names{"a.example": blocklist.Subtree})
		})
	}
}

// TestTAXIIContinuesFromTimeOfLastObject fetches from a server that announces more objects but gives no link to them: the client continues from the time of the
// last object.
func TestTAXIIContinuesFromTimeOfLastObject(t *testing.T) {
	s := newTAXIIServer(t)
	for i := range 5 {
		s.add(i, i, 1, fmt.Sprintf("n%d.example", i), "")
	}
	s.Do(func(w http.ResponseWriter, r *http.Request) {
		s.page(dropNext{w}, r)
	})
	f := newFetching(t, s.origin())
	f.mustFetch(false)
	f.listed(blocked("n0.example", "n1.example", "n2.example", "n3.example", "n4.example"))
}

// dropNext removes "next" from envelopes.
type dropNext struct{ http.ResponseWriter }

func (d dropNext) Write(p []byte) (int, error) {
	var e map[string]any
	if err := json.Unmarshal(p, &e); err != nil {
		return 0, err
	}
	delete(e, "next")
	return len(p), json.NewEncoder(d.ResponseWriter).Encode(e)
}
