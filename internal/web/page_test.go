package web

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rempart/blocklist"
)

func testPage(t *testing.T, contact string) *Page {
	t.Helper()
	b := blocklist.NewBuilder()
	for text, category := range map[string]blocklist.Category{"phishing.test": blocklist.Phishing, "xn--discrd-zxa.test": blocklist.Malicious} {
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree, Category: category}); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	if err := blocklist.Compile(&buf, blocklist.Info{Version: 1}, b.Input(blocklist.Source{Name: "test"})); err != nil {
		t.Fatal(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	v := blocklist.NewView(s, nil)
	p, err := New(Config{View: func() *blocklist.View { return v }, Contact: contact, Organisation: "Example & Co"})
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

func TestPageShowsReasonInClientLanguage(t *testing.T) {
	p := testPage(t, "mailto:abuse@isp.example")
	for _, tt := range []struct{ host, lang, wantLang, want string }{
		{"phishing.test", "fr-FR,fr;q=0.9,en;q=0.8", "fr", "hameçonnage"},
		{"www.Phishing.test:8080", "en-GB", "en", "phishing"},
		{"phishing.test.", "", "fr", "hameçonnage"},
		{"phishing.test", "de-DE", "en", "imitates a site"},
		{"phishing.test", "de,fr;q=0.5", "fr", "imite un site"},
		{"phishing.test", strings.Repeat("x", 10000), "fr", "imite un site"},
		{"xn--discrd-zxa.test", "en", "en", "malicious site"},
	} {
		res, body := get(p, http.MethodGet, tt.host, "/any/path?x=1", tt.lang)
		if res.StatusCode != http.StatusForbidden || res.Header.Get("Content-Language") != tt.wantLang || !strings.Contains(body, tt.want) {
			t.Errorf("%s in %q: %d, %s, %s", tt.host, tt.lang, res.StatusCode, res.Header.Get("Content-Language"), body)
		}
		if !strings.Contains(body, "mailto:abuse@isp.example") || !strings.Contains(body, "Example &amp; Co") {
			t.Errorf("%s: no contact or organisation in %s", tt.host, body)
		}
	}
}

func TestPageLoadsNothingFromOtherSites(t *testing.T) {
	p := testPage(t, "")
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead, "PROPFIND"} {
		res, body := get(p, method, "phishing.test", "/", "fr")
		if res.StatusCode != http.StatusForbidden || len(res.Cookies()) > 0 {
			t.Errorf("%s: %d, cookies %v", method, res.StatusCode, res.Cookies())
		}
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("Content-Security-Policy %q, want default-src 'none' and no unsafe source", policy)
		}
		for _, foreign := range []string{"http://", "https://", "<script", "<img", "@import", "url("} {
			if strings.Contains(body, foreign) {
				t.Errorf("the page contains %q", foreign)
			}
		}
	}
}

func TestPageForUnlistedHosts(t *testing.T) {
	p := testPage(t, "")
	for _, host := range []string{"ok.example", "127.0.0.1:8080", "[::1]:8080", "", `<script>alert(1)</script>`, strings.Repeat("a.", 400)} {
		res, body := get(p, http.MethodGet, host, "/", "en")
		if res.StatusCode != http.StatusForbidden || !strings.Contains(body, "not on our lists") || strings.Contains(body, "<script") {
			t.Errorf("page for the host %q: status %d, want 403 and a body that says that the name is not listed: %s", host, res.StatusCode, body)
		}
	}
}
