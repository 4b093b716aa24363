package portal

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/web/authority"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/webtest"
)

// known are the results of the lookups of the tests, by name; other names pass.
var known = map[string]lookup.Result{
	"bad.example":      {Outcome: lookup.Blocked, Category: blocklist.Scam, Entry: "bad.example", Lists: []string{"a list"}, Decision: "d-1", Version: 7},
	"ordered.example":  {Outcome: lookup.Blocked, Mark: blocklist.Censored, Decision: "arcom-1"},
	"asked.example":    {Outcome: lookup.Blocked, Mark: blocklist.Filtered},
	"target.example":   {Outcome: lookup.Blocked, Target: "other.example"},
	"observed.example": {Outcome: lookup.Blocked, Observed: true},
	"allowed.example":  {Outcome: lookup.Allowed},
	"x.onion":          {Outcome: lookup.Reserved},
	"router.example":   {Outcome: lookup.Withheld},
	"unsure.example":   {Unsure: true},
}

func newPortal(t testing.TB, change func(*Config)) *Portal {
	t.Helper()
	site, err := layout.New("Example & Co")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Site:  site,
		Parse: func(text string) ([]byte, error) { return blocklist.AppendName(nil, text) },
		Lookup: func(_ context.Context, name []byte, _ netip.Addr) lookup.Result {
			r := known[blocklist.NameText(name)]
			r.Name = blocklist.NameText(name)
			return r
		},
	}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t testing.TB, p *Portal, target string) (int, string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		webtest.CheckMarkup(t, w.Body.String())
	}
	return w.Code, w.Body.String()
}

func TestSearch(t *testing.T) {
	table, err := authority.Parse([]byte("[[authority]]\nname = 'Arcom'\ndecisions = ['arcom-*']\nlink = 'https://arcom.example/why'\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPortal(t, func(c *Config) {
		c.Authorities = func() *authority.Table { return table }
		c.Contact = "mailto:abuse@isp.example"
	})
	for _, tt := range []struct {
		typed  string
		status int
		want   []string
	}{
		{"bad.example", 200, []string{"<bdi>bad.example</bdi> is blocked", "scam", "a list", "d-1", "<dd>7</dd>", "protection from dangerous sites", "mailto:abuse@isp.example", "Do not try to get around"}},
		{"ordered.example", 200, []string{"decision of an authority", "Arcom", "https://arcom.example/why", "An authority ordered"}},
		{"asked.example", 200, []string{"choice of the subscriber"}},
		{"target.example", 200, []string{"This address leads to <bdi>other.example</bdi>"}},
		{"observed.example", 200, []string{"This filter only observes"}},
		{"allowed.example", 200, []string{"is allowed"}},
		{"x.onion", 200, []string{"is a reserved name"}},
		{"router.example", 200, []string{"is withheld"}},
		{"unsure.example", 200, []string{"did not answer"}},
		{"ok.example", 200, []string{"<bdi>ok.example</bdi> is not blocked"}},
		{"<b>..", 400, []string{"not the address of a site", "&lt;b&gt;"}},
		{strings.Repeat("x", 5000), 400, []string{"not the address of a site"}},
		{"", 200, []string{"Why does this site not open?"}},
	} {
		status, body := get(t, p, "/?lang=en&name="+url.QueryEscape(tt.typed))
		if status != tt.status {
			t.Errorf("%.40q: status %d, want %d", tt.typed, status, tt.status)
		}
		for _, want := range tt.want {
			if !strings.Contains(body, want) {
				t.Errorf("%.40q: no %q in %s", tt.typed, want, body)
			}
		}
	}
}

func TestSearchShowsDecisionsOfThePast(t *testing.T) {
	day := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	p := newPortal(t, func(c *Config) {
		c.History = func(_ context.Context, name string) ([]Event, error) {
			switch name {
			case "bad.example":
				return []Event{{day, Withdraw, "bad.example", ""}, {day.AddDate(0, -1, 0), Block, "example", "a list"}}, nil
			case "ok.example":
				return nil, nil
			}
			return nil, errors.New("busy")
		}
	})
	for name, want := range map[string]string{
		"bad.example": "<div><dt>1 May 2026</dt><dd>block or permission lifted<br><bdi>bad.example</bdi> – <bdi>Example &amp; Co</bdi></dd></div>\n<div><dt>1 April 2026</dt><dd>blocked<br><bdi>example</bdi> – <bdi>a list</bdi></dd></div>",
		"ok.example":  "The journal holds no other decision",
	} {
		if _, body := get(t, p, "/?lang=en&name="+name); !strings.Contains(body, want) {
			t.Errorf("%s: no %q in %s", name, want, body)
		}
	}
	if status, body := get(t, p, "/?lang=en&name=allowed.example"); status != 200 || strings.Contains(body, "Past decisions") {
		t.Errorf("without an answer of the journal: %d %s", status, body)
	}
}

func TestSearchesOfOneClientAreLimited(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	p := newPortal(t, func(c *Config) { c.Now = func() time.Time { return now } })
	for i := range searchBurst {
		if status, _ := get(t, p, "/?name=ok.example"); status != 200 {
			t.Fatalf("search %d: status %d", i, status)
		}
	}
	if status, body := get(t, p, "/?lang=en&name=ok.example"); status != http.StatusTooManyRequests || !strings.Contains(body, "Too many searches") {
		t.Errorf("status %d: %s", status, body)
	}
	if status, _ := get(t, p, "/"); status != 200 {
		t.Errorf("the page without a search: status %d", status)
	}
	if !p.searches.allow(netip.MustParseAddr("198.51.100.7"), now) {
		t.Error("another network may not search")
	}
	now = now.Add(2 * time.Second)
	if status, _ := get(t, p, "/?name=ok.example"); status != 200 {
		t.Errorf("two seconds later: status %d", status)
	}
}

func TestRememberedRatesAreBounded(t *testing.T) {
	r := newRates(searchRate, searchBurst)
	now := time.Unix(1_800_000_000, 0)
	for i := range 3 * maxRates {
		r.allow(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
		if len(r.by) > maxRates {
			t.Fatalf("%d clients are remembered", len(r.by))
		}
	}
}

// TestLinkOfWarningPageWithoutAppeals checks that the warning page's link to the form leads to the search on a portal without requests for a review.
func TestLinkOfWarningPageWithoutAppeals(t *testing.T) {
	p := newPortal(t, nil)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/appeal?lang=en&name=bad.example", nil))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/?lang=en&name=bad.example" {
		t.Errorf("%d %s", w.Code, w.Header())
	}
}

func TestOtherRequests(t *testing.T) {
	p := newPortal(t, nil)
	for target, want := range map[string]int{"/favicon.ico": 404, "/robots.txt": 200, "/nothing": 404} {
		if status, _ := get(t, p, target); status != want {
			t.Errorf("%s: status %d, want %d", target, status, want)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: status %d", w.Code)
	}
}

// FuzzSearch checks that no text of a reader or of the journal is read as markup.
func FuzzSearch(f *testing.F) {
	f.Add("bad.example", "list")
	f.Add(`"><script>alert(1)</script>`, `</dd><script>`)
	f.Add("https://user:pass@bad.example/path?x=<b>", "\x00\xff")
	site, err := layout.New(`A "quoted" <organisation>`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, typed, list string) {
		p, err := New(Config{
			Site: site, IsHome: true, Parse: func(text string) ([]byte, error) { return blocklist.AppendName(nil, text) },
			Lookup: func(_ context.Context, name []byte, _ netip.Addr) lookup.Result {
				return lookup.Result{Name: blocklist.NameText(name), Outcome: lookup.Blocked, Lists: []string{list}, Decision: list, Target: list, Entry: list}
			},
			History: func(context.Context, string) ([]Event, error) { return []Event{{Name: list, By: list}}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := get(t, p, "/?name="+url.QueryEscape(typed)); status >= 500 {
			t.Errorf("status %d", status)
		}
	})
}
