package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"html"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

// Names below measuredZone. Each measurement takes a new name below one of the last two, so that no cache of the browser knows it.
const (
	linksName   = "links." + measuredZone   // the site with the links
	listedName  = "listed." + measuredZone  // blocked from the beginning
	visitedName = "visited." + measuredZone // visited with HSTS, which includes the names below it, and blocked afterwards
)

// refusalWay is what happens to a connection to port 443 of the page. Each way has a page of its own.
type refusalWay struct {
	name, page string
	settings   []string
	silent     bool
}

var refusalWays = []refusalWay{
	{"alert", "203.0.113.80", []string{"REMPART_PAGE_HTTPS_LISTEN=203.0.113.80:443", "REMPART_PAGE_HTTPS=alert"}, false},
	{"reset", "203.0.113.81", []string{"REMPART_PAGE_HTTPS_LISTEN=203.0.113.81:443", "REMPART_PAGE_HTTPS=reset"}, false},
	{"closed port", "203.0.113.82", nil, false},
	{"silence", "203.0.113.83", nil, true},
}

// measuredBrowser is a browser whose page can be looked at while it changes.
type measuredBrowser interface {
	Open(t testing.TB, url string) dnstest.Page
	Type(t testing.TB, text string)
	Evaluate(t testing.TB, expression string) string
}

const (
	refusalRuns     = 5                // measurements of each cell
	refusalPatience = 20 * time.Second // how long a measurement waits
	refusalBound    = 2 * time.Second  // within which a refused connection must have an outcome: browsers wait for 3 s if there is no answer
	measuredFilter  = "Measured Filter"
)

// siteText is the text of the pages of serveSite.
const siteText = "the site"

// serveSite serves linksName and visitedName over HTTPS, as a page with a link to the URL in the parameter "to".
func serveSite(t *testing.T, ca *authority) {
	t.Helper()
	ca.issue("site", &x509.Certificate{DNSNames: []string{linksName, visitedName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pair, err := tls.LoadX509KeyPair(ca.path("site.pem"), ca.path("site.key"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", browserOrigin+":443")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == visitedName {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
		}
		fmt.Fprintf(w, "<!doctype html><title>site</title><a href='%s'>%s</a>", html.EscapeString(r.URL.Query().Get("to")), siteText)
	})}
	go func() { _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { s.Close() })
}

// silentPort makes a port of which the kernel drops every connection attempt: the queue of its listener is full.
func silentPort(t *testing.T, addr string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	to := &unix.SockaddrInet4{Port: 443, Addr: [4]byte(net.ParseIP(addr).To4())}
	if err := unix.Bind(fd, to); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		c, err := net.DialTimeout("tcp", addr+":443", time.Second)
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the port answers although nobody accepts")
}

// shown is what a person sees first: the warning page, a question of the browser whether to open it without encryption, an error, or nothing.
type shown struct {
	what string // "page", "question", "error" or "nothing"
	took time.Duration
}

// pageState is a JavaScript expression for the address of the document, its state and its text.
const pageState = `JSON.stringify([document.documentURI, document.readyState, document.body ? document.body.innerText : ""])`

// awaitOutcome waits until the browser shows another page than the one with the links, or an error.
func awaitOutcome(t *testing.T, b measuredBrowser, began time.Time) shown {
	t.Helper()
	empty := time.Duration(0) // when an error of Chromium without a text was first seen
	for ; ; time.Sleep(5 * time.Millisecond) {
		var state [3]string // all empty while one document replaces another
		_ = json.Unmarshal([]byte(b.Evaluate(t, pageState)), &state)
		took := time.Since(began)
		uri, ready, text := state[0], state[1], state[2]
		switch {
		case took > refusalPatience:
			return shown{"nothing", refusalPatience}
		case strings.HasPrefix(uri, "about:neterror?") && ready != "loading", strings.HasPrefix(uri, "chrome-error:") && text != "":
			t.Logf("%.300s %.300q", uri, text)
			return shown{"error", took}
		case strings.HasPrefix(uri, "http:") && ready == "complete" && strings.Contains(text, measuredFilter):
			return shown{"page", took}
		case !strings.HasPrefix(uri, "chrome-error:") || ready != "complete":
		case empty == 0:
			empty = took
		case took > empty+time.Second: // the DevTools protocol does not show the text of the question; that of an error appears within milliseconds
			return shown{"question", empty}
		}
	}
}

// follow clicks a link to a URL, on a page over HTTPS.
func follow(t *testing.T, b measuredBrowser, url string) shown {
	t.Helper()
	if p := b.Open(t, "https://"+linksName+"/?to="+url); p.Text != siteText {
		t.Fatalf("the page with the link: %+v", p)
	}
	began := time.Now()
	b.Evaluate(t, `document.querySelector("a").click()`)
	return awaitOutcome(t, b, began)
}

// enter types an address.
func enter(t *testing.T, b measuredBrowser, text string) shown {
	t.Helper()
	b.Open(t, "about:blank")
	began := time.Now()
	b.Type(t, text)
	return awaitOutcome(t, b, began)
}

// TestHTTPSRefusalInChromium measures the rows of Chromium in the table of deploy/isp.md. Its address bar cannot be controlled: a typed name is opened as http://
// with the mark of a typed address, so that Chromium upgrades it to https:// as it does with a name without a scheme.
func TestHTTPSRefusalInChromium(t *testing.T) {
	measureRefusals(t, "Chromium", func(t *testing.T, ca *authority) measuredBrowser {
		return dnstest.StartChromium(t, ca.path("ca.pem"), nil)
	}, "http://")
}

// TestHTTPSRefusalInFirefox measures the rows of Firefox in the table of deploy/isp.md.
func TestHTTPSRefusalInFirefox(t *testing.T) {
	measureRefusals(t, "Firefox", func(t *testing.T, ca *authority) measuredBrowser {
		return dnstest.StartFirefox(t, ca.path("ca.pem"), map[string]any{
			"network.captive-portal-service.enabled": false, "network.connectivity-service.enabled": false, "app.update.enabled": false,
		})
	}, "")
}

// TestHTTPSRefusalInChromiumThatAsks measures the rows of a Chromium that asks before it opens a page over HTTP.
func TestHTTPSRefusalInChromiumThatAsks(t *testing.T) {
	measureRefusals(t, "Chromium that asks", func(t *testing.T, ca *authority) measuredBrowser {
		return dnstest.StartChromium(t, ca.path("ca.pem"), nil, "--enable-features=HttpsFirstBalancedMode,HttpsFirstBalancedModeAutoEnable")
	}, "http://")
}

// measureRefusals measures how long a browser takes to show the page or an error, for each kind of address and each way to refuse https://. It compares what is
// shown with deploy/isp.md, and logs the rows with the times. A typed address is typed and a name.
func measureRefusals(t *testing.T, title string, open func(*testing.T, *authority) measuredBrowser, typed string) {
	if os.Getenv(longTests) == "" {
		t.Skip("skipped without " + longTests)
	}
	if !dnstest.Isolated(t) {
		return
	}
	addrs := []string{browserSystem, browserOrigin}
	for _, way := range refusalWays {
		addrs = append(addrs, way.page)
	}
	browserAddresses(t, addrs...)
	ca := newAuthority(t)
	serveSite(t, ca)
	kinds := []struct {
		title, zone string
		open        func(t *testing.T, b measuredBrowser, name string) shown
	}{
		{"name that was typed", listedName, func(t *testing.T, b measuredBrowser, name string) shown { return enter(t, b, typed+name) }},
		{"link with http://", listedName, func(t *testing.T, b measuredBrowser, name string) shown { return follow(t, b, "http://"+name+"/") }},
		{"link with https://", listedName, func(t *testing.T, b measuredBrowser, name string) shown { return follow(t, b, "https://"+name+"/") }},
		{"link with http://, HSTS", visitedName, func(t *testing.T, b measuredBrowser, name string) shown { return follow(t, b, "http://"+name+"/") }},
	}
	rows := make([]string, len(kinds))
	for i, k := range kinds {
		rows[i] = fmt.Sprintf("| %s: %s |", title, k.title)
	}
	for _, way := range refusalWays {
		t.Run(way.name, func(t *testing.T) {
			b, p := openBlocked(t, ca, way, open)
			for i, k := range kinds {
				var all []shown
				before := refusedConnections(t, p)
				for run := range refusalRuns {
					s := k.open(t, b, fmt.Sprintf("n%d-%d.%s", i, run, k.zone))
					if all = append(all, s); s.what != all[0].what {
						t.Errorf("%s: %s, before %s", k.title, s.what, all[0].what)
					}
					if s.what == "nothing" {
						break
					}
				}
				slices.SortFunc(all, func(a, b shown) int { return cmp.Compare(a.took, b.took) })
				median := all[len(all)/2]
				t.Logf("%s, %s: %v; %d connections were refused", way.name, k.title, all, refusedConnections(t, p)-before)
				if median.took > refusalBound && !way.silent {
					t.Errorf("%s: %s after %v", k.title, median.what, median.took)
				}
				rows[i] += fmt.Sprintf(" %s, %.2f s |", median.what, median.took.Seconds())
			}
		})
	}
	compareRefusals(t, rows)
}

// compareRefusals checks that the table of deploy/isp.md shows the outcomes of rows. The times differ from one machine to another.
func compareRefusals(t *testing.T, rows []string) {
	t.Helper()
	t.Logf("measured:\n%s", strings.Join(rows, "\n"))
	guide, err := os.ReadFile("../../deploy/isp.md")
	if err != nil {
		t.Fatal(err)
	}
	number := regexp.MustCompile(`\d+\.\d\d s`)
	documented := number.ReplaceAllString(string(guide), "")
	if table := number.ReplaceAllString(strings.Join(rows, "\n"), ""); !strings.Contains(documented, table) {
		t.Errorf("deploy/isp.md does not contain the measured table:\n%s", strings.Join(rows, "\n"))
	}
}

// refusedConnections returns the number of connections for blocked names that the program has refused; 0 if it refuses none itself.
func refusedConnections(t *testing.T, p *dnstest.Program) (n int) {
	t.Helper()
	_, metrics := get(t, p, "/metrics")
	_, value, _ := strings.Cut(metrics, "\nrempart_page_https_refused_total{verdict=\"block\"} ")
	_, _ = fmt.Sscan(value, &n)
	return n
}

// openBlocked starts Rempart and a browser, which has visited visitedName before that name is blocked.
func openBlocked(t *testing.T, ca *authority, way refusalWay, open func(*testing.T, *authority) measuredBrowser) (measuredBrowser, *dnstest.Program) {
	t.Helper()
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		question := q.Msg.Question[0]
		m := q.Reply(dns.RcodeSuccess)
		if !strings.HasSuffix(strings.ToLower(question.Name), "."+measuredZone+".") {
			m = q.Reply(dns.RcodeNameError) // a name that the browser asks for on its own
		} else if question.Qtype == dns.TypeA {
			m.Answer = []dns.RR{addressRecord(q.Msg, browserOrigin)}
		}
		q.Send(m)
	})
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, listedName)
	p := start(t, append(way.settings, upstreams(u), "REMPART_LISTEN="+browserSystem+":53", "REMPART_LISTS="+list, "REMPART_PAGE_IPV4="+way.page, "REMPART_PAGE_IPV6=none",
		"REMPART_PAGE_LISTEN="+way.page+":80", "REMPART_ORGANISATION="+measuredFilter)...)
	if way.silent {
		silentPort(t, way.page)
	}
	b := open(t, ca)
	if site := b.Open(t, "https://"+visitedName+"/"); site.Text != siteText {
		t.Fatalf("the site before it is blocked: %+v", site)
	}
	write(t, list, listedName, visitedName)
	dnstest.Eventually(t, "the visited name is blocked", func() bool { return address(ask(t, p, visitedName)) == way.page })
	return b, p
}
