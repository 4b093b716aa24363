package warning

import (
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/web/authority"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
	"rempart/internal/web/webtest"
)

// known are the results of the lookups of the tests, by name; other names pass.
var known = map[string]lookup.Result{
	"phishing.test": {
		Outcome: lookup.Blocked, Category: blocklist.Phishing, Lists: []string{"one list", "<b>another</b>"}, Decision: "d-17",
		Since: time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC), Until: time.Date(2027, 1, 2, 0, 0, 0, 0, time.UTC),
	},
	"xn--discrd-zxa.test": {Outcome: lookup.Blocked},
	"ordered.test":        {Outcome: lookup.Blocked, Mark: blocklist.Censored, Decision: "arcom-2026-3"},
	"asked.test":          {Outcome: lookup.Blocked, Mark: blocklist.Filtered},
	"target.test":         {Outcome: lookup.Blocked, Category: blocklist.Scam, Target: "bad.example"},
	"observed.test":       {Outcome: lookup.Blocked, Observed: true},
}

func lookUp(_ context.Context, name []byte, _ netip.Addr) lookup.Result {
	text := blocklist.NameText(name)
	r := known[text]
	r.Name = text
	return r
}

func newPage(t testing.TB, change func(*Config)) *Page {
	t.Helper()
	site, err := layout.New("Example & Co")
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Site: site, Lookup: lookUp}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(p *Page, method, host, path, lang string) (*http.Response, string) {
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	if lang != "" {
		r.Header.Set("Accept-Language", lang)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}

func TestPageSaysWhoBlockedWhatAndWhy(t *testing.T) {
	p := newPage(t, nil)
	for _, tt := range []struct {
		host, lang, wantLang string
		status               int
		want                 []string
	}{
		{"phishing.test", "fr-FR,fr;q=0.9,en;q=0.8", "fr", 403, []string{"hameçonnage", "Example &amp; Co", "one list", "&lt;b&gt;another&lt;/b&gt;", "d-17", "9 mars 2026", "2 janvier 2027", "17cyber.gouv.fr"}},
		{"phishing.test:8080", "en-GB", "en", 403, []string{"phishing", "9 March 2026"}},
		{"Phishing.test.", "", "fr", 403, []string{"hameçonnage"}},
		{"xn--discrd-zxa.test", "en", "en", 403, []string{"malicious site", "(xn--discrd-zxa.test)"}},
		{"ordered.test", "en", "en", 451, []string{"An authority ordered", "arcom-2026-3"}},
		{"asked.test", "en", "en", 403, []string{"The filter that you asked for"}},
		{"target.test", "en", "en", 403, []string{"<bdi>bad.example</bdi>", "scam"}},
		{"observed.test", "en", "en", 403, []string{"This address is not blocked"}},
		{"ok.example", "en", "en", 403, []string{"This address is not blocked"}},
	} {
		res, body := get(p, http.MethodGet, tt.host, "/any/path?x=1", tt.lang)
		if res.StatusCode != tt.status || res.Header.Get("Content-Language") != tt.wantLang {
			t.Errorf("%s in %q: %d, %s", tt.host, tt.lang, res.StatusCode, res.Header.Get("Content-Language"))
		}
		for _, want := range tt.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s in %q: no %q in %s", tt.host, tt.lang, want, body)
			}
		}
	}
}

func TestAuthorityHasPageOfItsOwn(t *testing.T) {
	table, err := authority.Parse([]byte("[[authority]]\nname = 'Arcom'\ndecisions = ['arcom-*']\nlink = 'https://arcom.example/why'\n[authority.text]\nfr = 'Le texte <de> l’autorité.'\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPage(t, func(c *Config) { c.Authorities = func() *authority.Table { return table } })
	_, body := get(p, http.MethodGet, "ordered.test", "/", "en")
	for _, want := range []string{"<bdi>Arcom</bdi>", `<p lang="fr">Le texte &lt;de&gt; l’autorité.</p>`, `href="https://arcom.example/why"`, "contact the authority"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	if _, body := get(p, http.MethodGet, "phishing.test", "/", "en"); strings.Contains(body, "Arcom") {
		t.Errorf("the page about another decision names the authority: %s", body)
	}
}

func TestReaderCanObject(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"portal":   {func(c *Config) { c.Portal, c.Contact = "https://filter.example", "mailto:abuse@isp.example" }, `href="https://filter.example/appeal?lang=en&amp;name=phishing.test"`},
		"contact":  {func(c *Config) { c.Contact, c.IsHome = "mailto:abuse@isp.example", true }, `href="mailto:abuse@isp.example"`},
		"tel":      {func(c *Config) { c.Contact = "tel:+33123456789" }, `<bdi>+33123456789</bdi>`},
		"at home":  {func(c *Config) { c.IsHome = true }, "rempart allow phishing.test"},
		"by order": {nil, "Ask the person or organisation"},
	} {
		if _, body := get(newPage(t, tt.change), http.MethodGet, "phishing.test", "/", "en"); !strings.Contains(body, tt.want) {
			t.Errorf("%s: no %q in %s", name, tt.want, body)
		}
	}
}

func TestHelpOfAnotherCountry(t *testing.T) {
	help, err := texts.ParseHelp([]byte("first = 'nl'\n[[help.nl]]\ntitle = 'Bel uw bank'\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, body := get(newPage(t, func(c *Config) { c.Help = func() *texts.Help { return help } }), http.MethodGet, "phishing.test", "/", "en")
	if !strings.Contains(body, `<ol lang="nl">`) || !strings.Contains(body, "Bel uw bank") || strings.Contains(body, "17Cyber") {
		t.Errorf("page: %s", body)
	}
}

func TestPageLoadsNothing(t *testing.T) {
	p := newPage(t, nil)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead, "PROPFIND"} {
		res, body := get(p, method, "phishing.test", "/", "fr")
		if res.StatusCode != http.StatusForbidden || len(res.Cookies()) > 0 {
			t.Errorf("%s: %d, cookies %v", method, res.StatusCode, res.Cookies())
		}
		if method == http.MethodHead && body != "" {
			t.Errorf("HEAD has a body: %s", body)
		}
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "form-action 'none'") {
			t.Errorf("Content-Security-Policy %q, want default-src 'none', no form and no unsafe source", policy)
		}
		for _, foreign := range []string{"<script", "<img", "<link", "<iframe", "@import", "url(", "src="} {
			if strings.Contains(body, foreign) {
				t.Errorf("the page contains %q", foreign)
			}
		}
	}
}

func TestFilesThatBrowsersAskFor(t *testing.T) {
	p := newPage(t, nil)
	if res, body := get(p, http.MethodGet, "phishing.test", "/favicon.ico", ""); res.StatusCode != http.StatusNotFound || body != "" {
		t.Errorf("favicon.ico: %d %q", res.StatusCode, body)
	}
	if res, body := get(p, http.MethodGet, "phishing.test", "/robots.txt", ""); res.StatusCode != http.StatusOK || !strings.Contains(body, "Disallow: /\n") {
		t.Errorf("robots.txt: %d %q", res.StatusCode, body)
	}
}

// maxPage is the largest size of the compressed page: what a server sends before the first acknowledgement.
const maxPage = 14 << 10

// TestPageIsSmall measures the page in every language, with everything that may be on it.
func TestPageIsSmall(t *testing.T) {
	p := newPage(t, func(c *Config) { c.Portal = "https://filter.example" })
	site := p.config.Site
	for _, l := range site.Languages() {
		_, body := get(p, http.MethodGet, "phishing.test", "/?lang="+l.Tag, "")
		var n counter
		z := gzip.NewWriter(&n)
		_, _ = io.WriteString(z, body)
		z.Close()
		t.Logf("%s: %d bytes, compressed %d", l.Tag, len(body), n)
		if n > maxPage {
			t.Errorf("%s: %d bytes compressed, more than %d", l.Tag, n, maxPage)
		}
	}
}

type counter int

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// FuzzPage checks that no text in a request or a list is read as markup, and that the size and the status are bounded.
func FuzzPage(f *testing.F) {
	for _, host := range []string{"phishing.test", "<script>alert(1)</script>", "[::1]:80", "", "a..b", strings.Repeat("a.", 400), "xn--\x00", "É.test"} {
		f.Add(host, "/", "fr", "list")
	}
	f.Add("phishing.test", "/?lang=%3Cb%3E", `"><script>`, `"><script>x</script>`)
	site, err := layout.New(`A "quoted" <organisation>`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, host, target, lang, list string) {
		p, err := New(Config{Site: site, IsHome: true, Lookup: func(_ context.Context, name []byte, _ netip.Addr) lookup.Result {
			return lookup.Result{Name: blocklist.NameText(name), Outcome: lookup.Blocked, Lists: []string{list}, Decision: list, Target: list}
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		r.URL.Path, r.URL.RawQuery = target, target
		r.Header.Set("Accept-Language", lang)
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Fatal("status 500")
		}
		if w.Header().Get("Content-Type") == "text/html; charset=utf-8" {
			webtest.CheckMarkup(t, w.Body.String())
		}
		if most := 20_000 + 40*(len(host)+len(list)); w.Body.Len() > most {
			t.Errorf("%d bytes, more than %d", w.Body.Len(), most)
		}
	})
}

func BenchmarkPage(b *testing.B) {
	p := newPage(b, nil)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = "phishing.test"
	b.ReportAllocs()
	for b.Loop() {
		p.ServeHTTP(httptest.NewRecorder(), r)
	}
}
