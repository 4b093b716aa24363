package probezone

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/grant"
	"rempart/internal/web/layout"
	"rempart/internal/web/onward"
	"rempart/internal/web/webtest"
)

const zone = "probe.rempart.internal"

// newPages returns pages by which readers continue to bad.example only.
func newPages(t testing.TB, zone string) *Pages {
	t.Helper()
	site, err := layout.New("Example & Co")
	if err != nil {
		t.Fatal(err)
	}
	apex, err := blocklist.AppendName(nil, zone)
	if err != nil {
		t.Fatal(err)
	}
	secrets := grant.Random()
	links := onward.New(onward.Config{
		Zone: grant.NewZone(apex), Secrets: func() *grant.Secrets { return secrets },
		MayContinue: func(name []byte) bool { return blocklist.NameText(name) == "bad.example" },
	})
	p, err := New(Config{Site: site, Zone: zone, Links: links, Duration: time.Hour, Wait: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t testing.TB, p *Pages, host, target, from string) (*http.Response, string) {
	t.Helper()
	if !p.Handles(host) {
		t.Fatalf("%s is not handled", host)
	}
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host, r.RemoteAddr = host, from+":1234"
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
		webtest.CheckMarkup(t, w.Body.String())
	}
	return w.Result(), w.Body.String()
}

var formAction = regexp.MustCompile(`<form action="([^"]*)"`)

func TestReaderContinues(t *testing.T) {
	p := newPages(t, zone)
	res, body := get(t, p, "bad.example.ask."+zone+":8080", "/?lang=en", "192.0.2.1")
	action := formAction.FindStringSubmatch(body)
	if res.StatusCode != 403 || action == nil || !strings.Contains(body, "Yes, open <bdi>bad.example</bdi>") || !strings.Contains(body, "<bdi>1\u00a0h</bdi>") {
		t.Fatalf("confirmation: %d %s", res.StatusCode, body)
	}
	if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "form-action http://*."+zone+":8080") || strings.Contains(body, `href="http://`) {
		t.Errorf("policy %q; the page must not link to the confirmed URL: %s", policy, body)
	}
	u, err := url.Parse(action[1])
	if err != nil || !strings.HasSuffix(u.Host, ".bad.example.go."+zone+":8080") {
		t.Fatalf("the form is sent to %s, %v", action[1], err)
	}
	if res, body := get(t, p, u.Host, "/?lang=en", "192.0.2.1"); res.StatusCode != 200 || !strings.Contains(body, `content="31; url=http://bad.example:8080/"`) || !strings.Contains(body, "about <bdi>31</bdi> seconds") {
		t.Errorf("opening: %d %s", res.StatusCode, body)
	}
	if res, body := get(t, p, u.Host, "/?lang=en", "192.0.2.2"); res.StatusCode != 403 || strings.Contains(body, "refresh") || !strings.Contains(body, "stays blocked for you") {
		t.Errorf("another client: %d %s", res.StatusCode, body)
	}
	if res, body := get(t, p, "other.example.ask."+zone, "/?lang=en", "192.0.2.1"); res.StatusCode != 403 || formAction.MatchString(body) {
		t.Errorf("a name to which nobody may continue: %d %s", res.StatusCode, body)
	}
}

func TestConnectionIsChecked(t *testing.T) {
	p := newPages(t, zone)
	res, body := get(t, p, "x.any."+zone, "/?lang=en", "192.0.2.1")
	for _, want := range []string{"This filter protects this device", ".any." + zone + "/yes.svg?lang=en", ".tls." + zone, ".quic." + zone, ".ipv6." + zone, ">no</object>"} {
		if res.StatusCode != 200 || !strings.Contains(body, want) {
			t.Errorf("%d, no %q in %s", res.StatusCode, want, body)
		}
	}
	if strings.Contains(body, ".other.") {
		t.Errorf("nobody else answers a private zone: %s", body)
	}
	if !strings.Contains(res.Header.Get("Content-Security-Policy"), "object-src http://*."+zone) {
		t.Errorf("policy %q", res.Header.Get("Content-Security-Policy"))
	}
	if _, body := get(t, newPages(t, "probe.isp.fr"), "x.any.probe.isp.fr", "/", "192.0.2.1"); !strings.Contains(body, ".other.probe.isp.fr/yes.svg") {
		t.Errorf("a public zone: %s", body)
	}
	if res, body := get(t, p, "x.tls."+zone, "/yes.svg?lang=en", "192.0.2.1"); res.StatusCode != 200 || !strings.HasPrefix(body, "<svg") || !strings.Contains(body, "<title>yes</title>") {
		t.Errorf("sign: %d %s", res.StatusCode, body)
	}
}

func TestOtherHostsAreNotHandled(t *testing.T) {
	p := newPages(t, zone)
	for _, host := range []string{"", "bad.example", "x" + zone, "192.0.2.1", zone + ".example", "[::1]:80"} {
		if p.Handles(host) {
			t.Errorf("%q is handled", host)
		}
	}
}

// FuzzPages checks that no host and no parameter is read as markup.
func FuzzPages(f *testing.F) {
	for _, host := range []string{"bad.example.ask", "x.any", "<script>.ask", strings.Repeat("a.", 100) + "ask", "aaaaaaaaaaaaaaaaaaaaaaaa.bad.example.go"} {
		f.Add(host, "/", "lang=fr")
	}
	p := newPages(f, zone)
	f.Fuzz(func(t *testing.T, host, path, query string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host, r.RemoteAddr = host+"."+zone, "192.0.2.1:1"
		r.URL.Path, r.URL.RawQuery = path, query
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("status %d", w.Code)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html; charset=utf-8") {
			webtest.CheckMarkup(t, w.Body.String())
		}
	})
}
