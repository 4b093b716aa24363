package main

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// measuredZone has a public suffix: browsers treat other names in another way.
const measuredZone = "measured-names.com"

// Addresses of the network in which browsers are tested. Browsers treat loopback and private addresses in another way.
const (
	browserDoH    = "203.0.113.10"
	browserSystem = "203.0.113.53"
	browserPage   = "203.0.113.80" // what answers over HTTPS give for blocked names
	browserOrigin = "203.0.113.90" // what the system's resolver gives for every name
)

// browserNet is a network with a DoH server, a resolver of the system, and a web server on each address that they give.
type browserNet struct {
	ca     *authority
	mu     sync.Mutex
	system map[string]int  // queries by name
	asked  map[string]bool // extended errors in queries over HTTPS
}

// newBrowserNet is to be called in an isolated test.
func newBrowserNet(t *testing.T) *browserNet {
	t.Helper()
	browserAddresses(t, browserDoH, browserSystem, browserPage, browserOrigin)
	n := &browserNet{ca: newAuthority(t), system: map[string]int{}, asked: map[string]bool{}}
	n.ca.issue("dns", &x509.Certificate{DNSNames: []string{"dns.example"}, IPAddresses: []net.IP{net.ParseIP(browserDoH)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	n.serveSystem(t)
	for addr, text := range map[string]string{browserPage: "the page", browserOrigin: "the origin"} {
		l, err := net.Listen("tcp", addr+":80")
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text) })}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
	}
	return n
}

// browserAddresses makes a network with these addresses, in which browserSystem is the resolver of the system. It is to be called in an isolated test.
func browserAddresses(t *testing.T, addrs ...string) {
	t.Helper()
	dnstest.Command(t, "ip", "link", "add", "out", "type", "veth", "peer", "name", "peer")
	dnstest.Command(t, "ip", "link", "set", "peer", "up")
	for _, addr := range addrs {
		dnstest.Command(t, "ip", "addr", "add", addr+"/24", "dev", "out")
	}
	dnstest.Command(t, "ip", "link", "set", "out", "up")
	dnstest.Command(t, "ip", "route", "add", "default", "via", "203.0.113.1")
	systemResolvers(t)("nameserver " + browserSystem)
}

// serveSystem answers every question for an IPv4 address with browserOrigin.
func (n *browserNet) serveSystem(t *testing.T) {
	conn, err := net.ListenPacket("udp", browserSystem+":53")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		n.mu.Lock()
		n.system[q.Question[0].Name]++
		n.mu.Unlock()
		if q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{addressRecord(q, browserOrigin)}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
}

func addressRecord(q *dns.Msg, addr string) dns.RR {
	return &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}, A: net.ParseIP(addr)}
}

// serveDoH answers over HTTPS as the first label of the name says: "page-4-15" is the page's address with the extended errors 4 and 15.
func (n *browserNet) serveDoH(t *testing.T) {
	l, err := net.Listen("tcp", browserDoH+":443")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		packed, err := io.ReadAll(r.Body)
		if r.Method == http.MethodGet {
			packed, err = base64.RawURLEncoding.DecodeString(r.URL.Query().Get("dns"))
		}
		q := new(dns.Msg)
		if err != nil || q.Unpack(packed) != nil || len(q.Question) != 1 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		answer, err := n.answer(q).Pack()
		if err != nil {
			panic(err)
		}
		w.Header().Set("Content-Type", "application/dns-message")
		_, _ = w.Write(answer)
	})}
	go func() { _ = s.ServeTLS(l, n.ca.path("dns.pem"), n.ca.path("dns.key")) }()
	t.Cleanup(func() { s.Close() })
}

func (n *browserNet) answer(q *dns.Msg) *dns.Msg {
	name := q.Question[0].Name
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.SetEdns0(1232, false)
	n.mu.Lock()
	if o := q.IsEdns0(); o != nil {
		for _, e := range o.Option {
			if ede, ok := e.(*dns.EDNS0_EDE); ok {
				n.asked[fmt.Sprintf("15 %04x%s", ede.InfoCode, ede.ExtraText)] = true
			}
		}
	}
	n.mu.Unlock()
	label, _, _ := strings.Cut(name, ".")
	style, codes, _ := strings.Cut(label, "-")
	switch {
	case style == "null" && q.Question[0].Qtype == dns.TypeA:
		m.Answer = []dns.RR{addressRecord(q, "0.0.0.0")}
	case style == "refused":
		m.Rcode = dns.RcodeRefused
	case style == "nxdomain" || style == "nodata" || q.Question[0].Qtype != dns.TypeA:
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 30}, Ns: "localhost.", Mbox: "nobody.invalid.", Serial: 1, Refresh: 3600, Retry: 1200, Expire: 604800, Minttl: 30}}
		if style == "nxdomain" {
			m.Rcode = dns.RcodeNameError
		}
	default: // probes too
		m.Answer = []dns.RR{addressRecord(q, browserPage)}
	}
	for code := range strings.SplitSeq(codes, "-") {
		if number, err := strconv.Atoi(code); err == nil {
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_EDE{InfoCode: uint16(number)})
		}
	}
	return m
}

type browser interface {
	Open(t testing.TB, url string) dnstest.Page
}

const dohURL = "https://" + browserDoH + "/dns-query"

// firefox starts Firefox in a mode of its DNS over HTTPS: 2 falls back to the system's resolver, 3 does not.
func (n *browserNet) firefox(t *testing.T, mode int) browser {
	return dnstest.StartFirefox(t, n.ca.path("ca.pem"), map[string]any{
		"network.trr.mode": mode, "network.trr.uri": dohURL, "network.trr.confirmationNS": "skip", "dom.security.https_first": false,
		"network.captive-portal-service.enabled": false, "network.connectivity-service.enabled": false, "app.update.enabled": false,
	})
}

// chromium starts Chromium in a mode of its DNS over HTTPS: "automatic" falls back to the system's resolver, "secure" does not.
func (n *browserNet) chromium(t *testing.T, mode string, flags ...string) browser {
	state := map[string]any{"dns_over_https": map[string]any{"mode": mode, "templates": dohURL}}
	return dnstest.StartChromium(t, n.ca.path("ca.pem"), state, append(flags, "--disable-features=HttpsUpgrades,HttpsFirstBalancedMode,HttpsFirstBalancedModeAutoEnable")...)
}

// untilUsed opens pages until the browser asks over HTTPS. Chromium in the mode "automatic" asks the system until a probe succeeded.
func (n *browserNet) untilUsed(t *testing.T, b browser) {
	t.Helper()
	for range 100 {
		name := fmt.Sprintf("probe%d.%s", time.Now().UnixNano(), measuredZone)
		if n.outcome(t, b, name) == "page" {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatal("the browser does not ask over HTTPS")
}

// outcome opens the page of a name, and returns what the browser does: it shows the page or an error, or it asks the system's resolver.
func (n *browserNet) outcome(t *testing.T, b browser, name string) string {
	t.Helper()
	count := func() int {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.system[name+"."]
	}
	before := count()
	p := b.Open(t, "http://"+name+"/")
	asked := count() > before
	switch {
	case p.Error == "" && p.Text == "the page" && !asked:
		return "page"
	case p.Error == "" && p.Text == "the origin" && asked:
		return "system"
	case p.Error != "" && !asked:
		return "error"
	}
	return fmt.Sprintf("error %q, text %q, asked the system: %v", p.Error, p.Text, asked)
}

// TestBrowsersAndExtendedErrors compares the table in deploy/browsers.md with what browsers do. If a new version of a browser does something else, correct the table.
func TestBrowsersAndExtendedErrors(t *testing.T) {
	if os.Getenv(longTests) == "" {
		t.Skip("skipped without " + longTests)
	}
	if !dnstest.Isolated(t) {
		return
	}
	n := newBrowserNet(t)
	n.serveDoH(t)
	columns := []func(*testing.T) browser{
		func(t *testing.T) browser { return n.firefox(t, 2) },
		func(t *testing.T) browser { return n.firefox(t, 3) },
		func(t *testing.T) browser { return n.chromium(t, "automatic") },
		func(t *testing.T) browser { return n.chromium(t, "secure") },
	}
	codes := strings.Fields("none 15 16 17 4 4-15 15-4 4-16 16-4 4-17 17-4 15-17 17-15")
	styles := []string{"page", "nxdomain", "nodata", "null", "refused"} // refused last: it makes Chromium avoid HTTPS for a while
	outcomes := map[string]string{}                                     // by style and codes: the cells of all browsers
	for i, start := range columns {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			b := start(t)
			for _, style := range styles {
				n.untilUsed(t, b)
				for _, c := range codes {
					outcome := "system"
					for i := 0; i < 3 && outcome == "system"; i++ { // on a loaded machine, an answer over HTTPS may be too late
						outcome = n.outcome(t, b, fmt.Sprintf("%s-%s-try%d.%s", style, c, i, measuredZone))
					}
					outcomes[style+c] += " " + outcome + " |"
				}
			}
		})
	}
	table := ""
	for _, style := range styles {
		var rows []string // codes with equal cells
		var cells []string
		for _, c := range codes {
			i := slices.Index(cells, outcomes[style+c])
			if i < 0 {
				i, cells, rows = len(cells), append(cells, outcomes[style+c]), append(rows, "")
			}
			rows[i] = strings.TrimPrefix(rows[i]+"; "+strings.ReplaceAll(c, "-", ", "), "; ")
		}
		for i := range rows {
			table += fmt.Sprintf("| %s | %s |%s\n", style, rows[i], cells[i])
		}
	}
	guide, err := os.ReadFile("../../deploy/browsers.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(guide), table) {
		t.Errorf("deploy/browsers.md does not contain the measured table:\n%s", table)
	}
}

// TestBrowserAsksForStructuredErrors checks the option by which Chromium asks for structured errors.
func TestBrowserAsksForStructuredErrors(t *testing.T) {
	if os.Getenv(longTests) == "" {
		t.Skip("skipped without " + longTests)
	}
	if !dnstest.Isolated(t) {
		return
	}
	n := newBrowserNet(t)
	n.serveDoH(t)
	n.untilUsed(t, n.chromium(t, "secure", "--enable-features=UseStructuredDnsErrors"))
	n.mu.Lock()
	defer n.mu.Unlock()
	if want := map[string]bool{"15 0000": true}; !maps.Equal(n.asked, want) {
		t.Errorf("Chromium sends the options %v, want %v", n.asked, want)
	}
}

// TestBlocksHoldInBrowsers checks that browsers neither reach a blocked site nor ask another resolver for it, in each style of a blocked answer for which that
// is possible.
func TestBlocksHoldInBrowsers(t *testing.T) {
	if os.Getenv(longTests) == "" {
		t.Skip("skipped without " + longTests)
	}
	if !dnstest.Isolated(t) {
		return
	}
	n := newBrowserNet(t)
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, measuredZone)
	for _, tt := range []struct{ style, page, want string }{{"page", browserPage, "page"}, {"page", "none", "error"}, {"nxdomain", browserPage, "error"}, {"nodata", browserPage, "error"}} {
		t.Run(tt.style+" "+tt.page, func(t *testing.T) {
			u := dnstest.NewUpstream(t, nil)
			start(t, upstreams(u), "REMPART_LISTS="+list, "REMPART_BLOCK_ANSWER="+tt.style, "REMPART_PAGE_IPV4="+tt.page, "REMPART_PAGE_IPV6=none",
				"REMPART_CERT="+n.ca.path("dns.pem"), "REMPART_KEY="+n.ca.path("dns.key"), "REMPART_HTTPS_LISTEN="+browserDoH+":443")
			browsers := map[string]browser{"Firefox 2": n.firefox(t, 2), "Firefox 3": n.firefox(t, 3), "Chromium secure": n.chromium(t, "secure")}
			for name, b := range browsers {
				if got := n.outcome(t, b, "www."+measuredZone); got != tt.want {
					t.Errorf("%s: %s, want %s", name, got, tt.want)
				}
			}
		})
	}
}
