package dnstest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// cookieSecret is a secret that several servers share.
const cookieSecret = "e5e973e5a6b2a43f48e7dc849e37bfcf"

// metricsOf returns the metrics of a server as text.
func metricsOf(t *testing.T, r *Program) string {
	t.Helper()
	answer, err := http.Get("http://" + r.Metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// cookieNumber returns how many queries with cookies of one kind a server has received over UDP.
func cookieNumber(t *testing.T, r *Program, kind string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^rempart_udp_cookies_total\{cookie="` + kind + `"\} (\d+)$`).FindStringSubmatch(metricsOf(t, r))
	if found == nil {
		t.Fatalf("no number of cookies of the kind %q", kind)
	}
	return found[1]
}

// testDigCookies checks what dig and kdig show of cookies, and that they ask again after BADCOOKIE and after a truncated answer.
func testDigCookies(t *testing.T, p *peers) {
	u := NewUpstream(t, nil)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String())
	const sound = `COOKIE: 00112233445566770100[0-9a-f]{28} \(good\)`
	const forged, passed = `^bad\.example\.\s+30\s+IN\s+A\s+127\.0\.0\.1$`, `^good\.example\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$`
	for _, a := range []asked{
		{"bad.example +cookie=0011223344556677", []string{sound, forged}, nil},
		{"good.example +cookie=0011223344556677", []string{sound, passed}, nil},
		{"good.example +cookie=0011223344556677", []string{sound, passed}, nil}, // cached
		{"good.example +tcp +cookie=0011223344556677", []string{sound, passed}, nil},
		{"good.example +cookie=00112233445566770100000000000000deadbeefdeadbeef", []string{sound, passed}, []string{"BADCOOKIE"}},
		{"good.example +cookie", []string{`\(good\)`, passed}, nil},
		{"good.example +nocookie", []string{passed}, []string{"COOKIE"}},
		{"good.example +nocookie +ednsopt=10:00112233445566", []string{"status: FORMERR"}, []string{"COOKIE", passed}},
		{"good.example +nocookie +ednsopt=10:001122334455667788", []string{"status: FORMERR"}, []string{"COOKIE", passed}},
	} {
		a.check(t, "dig", r.DNS)
	}
	limited := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String(), "REMPART_LIMITS=1/s,127.0.0.0/8=1/s")
	for _, a := range []asked{
		{"bad.example +nocookie", []string{"Truncated, retrying in TCP mode", forged, `\(TCP\)`}, nil},
		{"bad.example +cookie=0011223344556677", []string{"BADCOOKIE, retrying", sound, forged, `\(UDP\)`}, nil},
		{"new.example +cookie=0011223344556677", []string{"BADCOOKIE, retrying", sound, `\(UDP\)`}, nil},
	} {
		limitedDig(t, limited, a)
	}
}

// limitedDig uses up the answer of this second and asks. It tries again if the next second has begun before dig asks.
func limitedDig(t *testing.T, limited *Program, a asked) {
	t.Helper()
	out := ""
	for range 20 {
		outputOf(t, "dig", append(at(limited.DNS), "bad.example", "+nocookie", "+ignore")...)
		out = outputOf(t, "dig", append(at(limited.DNS), strings.Fields(a.args)...)...)
		if !slices.ContainsFunc(a.want, func(want string) bool { return !regexp.MustCompile(`(?m)` + want).MatchString(out) }) {
			return
		}
	}
	t.Errorf("dig %s: not all of %q are in\n%s", a.args, a.want, out)
}

func testKdigCookies(t *testing.T, p *peers) {
	u := NewUpstream(t, nil)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String(), "REMPART_LIMITS=1/s,127.0.0.0/8=1/s")
	const page, origin = `bad\.example\.\s+30\s+IN\s+A\s+127\.0\.0\.1$`, `good\.example\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$`
	for range 3 {
		asked{"good.example +cookie=0011223344556677 +badcookie", []string{`COOKIE: 0011223344556677`, origin}, []string{`WARNING: [^b]|\bERROR`}}.check(t, "kdig", r.DNS)
		asked{"bad.example +cookie +badcookie", []string{`COOKIE: `, page}, []string{`WARNING: [^b]|\bERROR`}}.check(t, "kdig", r.DNS)
	}
}

// testSharedCookies checks that BIND and Rempart accept each other's server cookies if they have the same secret (RFC 9018), and that the secrets can be replaced
// while the servers run.
func testSharedCookies(t *testing.T, p *peers) {
	u := NewUpstream(t, nil)
	file := filepath.Join(p.dir, "cookies")
	secrets := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const other, third = "445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"
	secrets("# "+third, cookieSecret)
	n := p.named(t, fmt.Sprintf("  cookie-algorithm siphash24;\n  cookie-secret %q;\n  require-server-cookie yes;\n", cookieSecret))
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String(), "REMPART_COOKIE_SECRETS="+file)
	cookie := func(addr, sent string) (*dns.Msg, string) {
		t.Helper()
		m := new(dns.Msg).SetQuestion("a.good.example.", dns.TypeA)
		m.SetEdns0(1232, false)
		SetCookie(m, sent)
		a := Exchange(t, "udp", addr, m)
		for _, o := range a.IsEdns0().Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				return a, c.Cookie
			}
		}
		t.Fatalf("an answer without a cookie:\n%v", a)
		return nil, ""
	}
	_, ofBIND := cookie(n.addr, "0011223344556677")
	if _, got := cookie(r.DNS, ofBIND); got != ofBIND || cookieNumber(t, r, "valid") != "1" {
		t.Errorf("Rempart answered BIND's cookie %s with %s, and counts %s valid ones", ofBIND, got, cookieNumber(t, r, "valid"))
	}
	_, ours := cookie(r.DNS, "8899aabbccddeeff")
	if a, _ := cookie(n.addr, ours); a.Rcode != dns.RcodeSuccess || n.counter(t, "CookieMatch") != 1 {
		t.Errorf("BIND answered our cookie with rcode %d, and counts %d valid ones", a.Rcode, n.counter(t, "CookieMatch"))
	}
	secrets(other, cookieSecret)
	Eventually(t, "new cookies have the new secret", func() bool { _, got := cookie(r.DNS, ours); return got != ours })
	valid := cookieNumber(t, r, "valid")
	if _, replaced := cookie(r.DNS, ours); replaced == ours || cookieNumber(t, r, "valid") == valid {
		t.Error("a cookie of the old secret is not valid, or is not replaced")
	}
	secrets("no secret")
	Eventually(t, "the bad file is reported", func() bool { return strings.Contains(r.Stderr(), "is not a secret") })
	if strings.Contains(r.Stderr(), other) {
		t.Error("the log contains a secret")
	}
	if _, again := cookie(r.DNS, ours); again == "" || cookieNumber(t, r, "wrong") != "0" {
		t.Error("a bad file changed the secrets in use")
	}
	secrets(third)
	Eventually(t, "the old secret is no longer accepted", func() bool { cookie(r.DNS, ours); return cookieNumber(t, r, "wrong") != "0" })
}

// testOwnCookies forwards from one Rempart to another one whose limit is one answer per second: with cookies, no question is asked over TCP after the first ones.
func testOwnCookies(t *testing.T, p *peers) {
	u := NewUpstream(t, nil)
	server := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String(), "REMPART_LIMITS=1/s,127.0.0.0/8=1/s")
	client := p.rempart(t, "REMPART_UPSTREAMS=udp://"+server.DNS)
	asked := 0
	ask := func() {
		t.Helper()
		asked++
		m := Exchange(t, "udp", client.DNS, new(dns.Msg).SetQuestion(fmt.Sprintf("n%d.good.example.", asked), dns.TypeA))
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
			t.Fatalf("answer:\n%v", m)
		}
	}
	Eventually(t, "the first server sends a valid cookie", func() bool { ask(); return cookieNumber(t, server, "valid") != "0" })
	limited := limitedAnswers(t, server)
	for range 50 {
		ask()
	}
	if got := limitedAnswers(t, server); got != limited {
		t.Errorf("answers to valid cookies were limited: %s, then %s", limited, got)
	}
}

// limitedAnswers returns the numbers of limited answers of a server.
func limitedAnswers(t *testing.T, r *Program) string {
	t.Helper()
	return strings.Join(regexp.MustCompile(`(?m)^rempart_udp_answers_limited_total\{.*$`).FindAllString(metricsOf(t, r), -1), "\n")
}
