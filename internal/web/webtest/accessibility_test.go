package webtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/grant"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/onward"
	"rempart/internal/web/portal"
	"rempart/internal/web/probezone"
	"rempart/internal/web/statement"
	"rempart/internal/web/warning"
)

// lookUp blocks every name, with all that the pages can show; free.example passes, and ordered.example is blocked by an order.
func lookUp(_ context.Context, name []byte, _ netip.Addr) lookup.Result {
	r := lookup.Result{
		Name: blocklist.NameText(name), Outcome: lookup.Blocked, Category: blocklist.Phishing, Entry: "example", Lists: []string{"one-list", "another-list"},
		Since: time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC), Target: "tracker.bad.example", Decision: "2026-114", Version: 42,
	}
	switch r.Name {
	case "free.example":
		return lookup.Result{Name: r.Name}
	case "ordered.example":
		r.Mark, r.Until = blocklist.Censored, r.Since.AddDate(0, 3, 0)
	}
	return r
}

// desk knows one request for a review.
type desk struct{}

func (desk) NewCode() string { return "abcdefghijklmnopqrstuvwxyz" }

func (desk) File(context.Context, string, portal.Filing) (*portal.Appeal, error) {
	return nil, portal.FieldError("reason")
}

func (desk) Prove(ctx context.Context, code string) (*portal.Appeal, error) {
	return desk{}.Find(ctx, code)
}

func (desk) Find(_ context.Context, code string) (*portal.Appeal, error) {
	if code != "abc" {
		return nil, portal.ErrNoAppeal
	}
	return &portal.Appeal{
		Number: "ABCDE-FGHJK", Name: "login.bad.example", Owner: true, Suspended: true, Filed: time.Unix(1_800_000_000, 0), Due: time.Unix(1_805_000_000, 0), Service: "A service", Contact: "contact@isp.example",
		Routes: map[string]string{"fr": "Le tribunal administratif."}, Proof: "rempart-appeal=0123456789abcdef", ProofName: "_rempart-appeal.login.bad.example", ProofFile: "https://login.bad.example/.well-known/rempart-appeal.txt",
	}, nil
}

// startPages serves the warning page for all hosts except portal.example, which is the portal, and returns the address.
func startPages(t *testing.T) (address string, languages []string) {
	t.Helper()
	site, err := layout.New("Filtre Exemple")
	if err != nil {
		t.Fatal(err)
	}
	const zone = "probe.rempart.internal"
	apex, err := blocklist.AppendName(nil, zone)
	if err != nil {
		t.Fatal(err)
	}
	secrets := grant.Random()
	links := onward.New(onward.Config{Zone: grant.NewZone(apex), Secrets: func() *grant.Secrets { return secrets }, MayContinue: func([]byte) bool { return true }})
	probe, err := probezone.New(probezone.Config{Site: site, Zone: zone, Links: links, Duration: time.Hour, Wait: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	page, err := warning.New(warning.Config{Site: site, Lookup: lookUp, Portal: "https://portal.example", Offer: links.Offer})
	if err != nil {
		t.Fatal(err)
	}
	devices := portal.Devices{
		Name: "dns.filter.example", URL: "https://dns.filter.example/dns-query", Addresses: []string{"192.0.2.53", "2001:db8::53"},
		Windows: "netsh dns add encryption server=192.0.2.53 dohtemplate=https://dns.filter.example/dns-query autoupgrade=yes udpfallback=no\n",
		Profile: func() ([]byte, error) { return nil, nil },
	}
	public, err := portal.New(portal.Config{
		Site: site, Lookup: lookUp, Parse: func(text string) ([]byte, error) { return blocklist.AppendName(nil, text) }, Appeals: desk{},
		Devices:   func() portal.Devices { return devices },
		QRCode:    func(string) (string, int, error) { return "M4 4h21v21h-21z", 29, nil },
		Check:     func(lang string) string { return probezone.Start(zone, lang) },
		Statement: func() statement.Facts { return statement.Facts{Organisation: "Filtre Exemple", TapSample: 1000} },
		History: func(context.Context, string) ([]portal.Event, error) {
			return []portal.Event{{Time: time.Unix(1_790_000_000, 0), Do: portal.Withdraw, Name: "bad.example"}}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, _ := net.SplitHostPort(r.Host); host == "portal.example" || r.Host == "portal.example" {
			public.ServeHTTP(w, r)
			return
		}
		if probe.Handles(r.Host) {
			probe.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	for _, l := range site.Languages() {
		languages = append(languages, l.Tag)
	}
	return s.Listener.Addr().String(), languages
}

// pages are the pages that are checked. The language is added.
var pages = []string{
	"http://login.bad.example/?lang=", "http://ordered.example/?lang=", "http://free.example/?lang=",
	"http://portal.example/?lang=", "http://portal.example/?name=login.bad.example&lang=", "http://portal.example/?name=free.example&lang=", "http://portal.example/?name=a..b&lang=",
	"http://portal.example/appeal?name=login.bad.example&lang=", "http://portal.example/appeal/abc?lang=", "http://portal.example/appeal/unknown?lang=",
	"http://portal.example/devices?lang=", "http://portal.example/privacy?lang=", "http://portal.example/connection?lang=",
	"http://x.any.probe.rempart.internal/?lang=", "http://login.bad.example.ask.probe.rempart.internal/?lang=", "http://aaaaaaaaaaaaaaaaaaaaaaaa.bad.example.go.probe.rempart.internal/?lang=",
}

// looks are the ways in which each page is checked.
var looks = []struct {
	name   string
	screen dnstest.Screen
	zoom   string // of the text
}{
	{"320 pixels", dnstest.Screen{Width: 320, Height: 640}, "100%"},
	{"320 pixels, dark", dnstest.Screen{Width: 320, Height: 640, IsDark: true}, "100%"},
	{"text of 200 %", dnstest.Screen{Width: 1280, Height: 800}, "200%"},
	{"forced colours", dnstest.Screen{Width: 768, Height: 800, HasForced: true}, "100%"},
}

// startBrowser starts Chromium, which finds every name at address.
func startBrowser(t *testing.T, address string) *dnstest.Chromium {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, dnstest.PEM(dnstest.Authority(t, "test")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dnstest.StartChromium(t, ca, nil, "--host-resolver-rules=MAP * "+address, "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable")
}

// violation is what axe-core reports.
type violation struct {
	ID, Help string
	Nodes    []struct{ HTML string }
}

// TestPagesAreAccessible checks every page in every language with axe-core, as shown on small, dark and enlarged screens and with forced colours. It also checks
// that no page is wider than the screen. REMPART_AXE is the path of axe.min.js.
func TestPagesAreAccessible(t *testing.T) {
	path := os.Getenv("REMPART_AXE")
	if path == "" {
		t.Skip("REMPART_AXE does not name axe.min.js of the npm package axe-core")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	address, languages := startPages(t)
	if testing.Short() {
		languages = []string{"fr", "ar"}
	}
	b := startBrowser(t, address)
	for _, page := range pages {
		for _, lang := range languages {
			url := page + lang
			if p := b.Open(t, url); p.Error != "" {
				t.Fatalf("%s: %s", url, p.Error)
			}
			b.Run(t, "for (const d of document.querySelectorAll('details')) d.open = true; 0")
			b.Run(t, string(axe)+"; 0")
			for _, look := range looks {
				b.ShowOn(t, look.screen)
				b.Run(t, fmt.Sprintf("document.documentElement.style.fontSize = %q; 0", look.zoom))
				checkPage(t, b, url+", "+look.name)
			}
		}
	}
}

// checkPage checks the page that the browser shows.
func checkPage(t *testing.T, b *dnstest.Chromium, about string) {
	t.Helper()
	text, _ := b.Run(t, `axe.run({runOnly: ["RGAAv4", "wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}).then(r => JSON.stringify({passes: r.passes.length, violations: r.violations}))`).(string)
	var found struct {
		Passes     int
		Violations []violation
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatal(err)
	}
	if found.Passes < 20 {
		t.Errorf("%s: only %d rules passed: the page was not checked", about, found.Passes)
	}
	for _, v := range found.Violations {
		t.Errorf("%s: %s: %s: %.500s", about, v.ID, v.Help, v.Nodes)
	}
	if wide, _ := b.Run(t, "document.documentElement.scrollWidth - innerWidth").(float64); wide > 0 {
		t.Errorf("%s: the page is %v pixels wider than the screen", about, wide)
	}
}

// TestScreenshots writes pictures of the pages to the folder REMPART_SCREENSHOTS, for people to look at.
func TestScreenshots(t *testing.T) {
	folder := os.Getenv("REMPART_SCREENSHOTS")
	if folder == "" {
		t.Skip("REMPART_SCREENSHOTS names no folder")
	}
	address, _ := startPages(t)
	b := startBrowser(t, address)
	for _, width := range []int{320, 390, 768, 1280} {
		for _, dark := range []bool{false, true} {
			b.ShowOn(t, dnstest.Screen{Width: width, Height: 900, IsDark: dark})
			for _, lang := range []string{"fr", "ar"} {
				for i, page := range pages {
					b.Open(t, page+lang)
					name := fmt.Sprintf("%02d-%s-%d-%s.png", i, lang, width, map[bool]string{false: "light", true: "dark"}[dark])
					if err := os.WriteFile(filepath.Join(folder, name), b.Screenshot(t), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// TestPortalByKeyboard searches for a name with the keyboard only, without JavaScript.
func TestPortalByKeyboard(t *testing.T) {
	address, _ := startPages(t)
	b := startBrowser(t, address)
	b.DisableJavaScript(t)
	b.Open(t, "http://portal.example/?lang=en")
	for range 10 {
		b.Press(t, "Tab")
		if b.Run(t, "document.activeElement.id") == "name" {
			break
		}
	}
	b.Enter(t, "login.bad.example")
	b.Press(t, "Enter")
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if text, _ := b.Run(t, "document.body ? document.body.innerText : ''").(string); strings.Contains(text, "login.bad.example is blocked") {
			return
		}
	}
	t.Error("the result was not shown")
}
