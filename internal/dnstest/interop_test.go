package dnstest

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The address of the warning page, and the address in the answers of the fake upstream.
const (
	pageAddr   = "127.0.0.1"
	originAddr = "192.0.2.1"
)

// TestInterop tests the whole program with other DNS software: dig, delv, kdig, Unbound, BIND and dnsperf. The tests of a program that is not installed are skipped,
// or fail if REMPART_INTEROP is "require".
func TestInterop(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts other servers")
	}
	binary := buildProgram(t)
	for _, tt := range []struct {
		name  string
		tools []string
		run   func(*testing.T, *peers)
	}{
		{"dig", []string{"dig"}, testDig},
		{"kdig", []string{"kdig"}, testKdig},
		{"delv", []string{"delv"}, testDelv},
		{"unbound upstream", []string{"unbound"}, testUnboundUpstream},
		{"unbound downstream", []string{"unbound"}, testUnboundDownstream},
		{"named upstream", []string{"named"}, testNamedCookies},
		{"dig with cookies", []string{"dig"}, testDigCookies},
		{"kdig with cookies", []string{"kdig"}, testKdigCookies},
		{"named with shared cookies", []string{"named"}, testSharedCookies},
		{"cookies between two", nil, testOwnCookies},
		{"dnsperf", []string{"dnsperf"}, testDnsperf},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, tool := range tt.tools {
				Need(t, tool)
			}
			tt.run(t, &peers{binary: binary, dir: t.TempDir()})
		})
	}
}

// buildProgram builds Rempart for a test.
func buildProgram(t *testing.T) (binary string) {
	t.Helper()
	// go test caches a result together with the files that the test read: read the sources of the program, so that a change of them runs the test again.
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(t.TempDir(), "rempart")
	if out, err := exec.Command("go", "build", "-o", binary, "rempart/cmd/rempart").CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, out)
	}
	return binary
}

// peers starts what a test needs, in a folder of its own.
type peers struct{ binary, dir string }

// rempart starts the program with a list that blocks bad.example and what is below it, the names
// of which signed.example has two among them.
func (p *peers) rempart(t *testing.T, env ...string) *Program {
	t.Helper()
	list := filepath.Join(p.dir, "list.txt")
	if err := os.WriteFile(list, []byte("||bad.example^\n||bad.signed.example^\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return StartProgram(t, exec.Command(p.binary), append([]string{"REMPART_LISTS=" + list}, env...)...)
}

// outputOf runs a command and returns its output. The exit code is ignored.
func outputOf(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "LC_ALL=C"} // no .digrc
	out, _ := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Errorf("%s %s does not end", name, strings.Join(args, " "))
	}
	return string(out)
}

// at returns the arguments of dig, kdig and delv for a server.
func at(addr string) []string {
	host, port, _ := net.SplitHostPort(addr)
	return []string{"@" + host, "-p", port}
}

// asked is a command's arguments and what its output holds, and does not: regular expressions.
type asked struct {
	args      string
	want, not []string
}

func (a asked) check(t *testing.T, tool, addr string) {
	t.Helper()
	out := outputOf(t, tool, append(at(addr), strings.Fields(a.args)...)...)
	for _, want := range a.want {
		if !regexp.MustCompile(`(?m)` + want).MatchString(out) {
			t.Errorf("%s %s: no match of %q in\n%s", tool, a.args, want, out)
		}
	}
	for _, not := range a.not {
		if regexp.MustCompile(`(?m)` + not).MatchString(out) {
			t.Errorf("%s %s: a match of %q in\n%s", tool, a.args, not, out)
		}
	}
}

// large is an answer that does not fit into a datagram.
func large(q *Query) {
	text := strings.TrimSpace(strings.Repeat(` "`+strings.Repeat("x", 250)+`"`, 8))
	Answer("@ 60 IN TXT " + text)(q)
}

func testDig(t *testing.T, p *peers) {
	u := NewUpstream(t, func(q *Query) {
		if q.Msg.Question[0].Qtype == dns.TypeTXT {
			Truncate(large)(q)
			return
		}
		Answer("@ 300 IN A " + originAddr)(q)
	})
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String(), "REMPART_CONTACT=mailto:abuse@isp.example")
	status := func(rcode string) string { return `status: ` + rcode + `,` }
	forged := []string{status("NOERROR"), `^bad\.example\.\s+30\s+IN\s+A\s+127\.0\.0\.1$`}
	passed := []string{status("NOERROR"), `^good\.example\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$`}
	ede := []string{`EDE: 4 \(Forged Answer\)`, `EDE: 15 \(Blocked\)`}
	const opt, malformed = `OPT PSEUDOSECTION`, `(?i)warning|malformed|extra bytes|mismatch`
	for _, a := range []asked{
		{"good.example", append(passed, opt), []string{malformed, `EDE:`}},
		{"bad.example +edns=0", append(forged, ede...), []string{malformed}},
		{"bad.example +noedns", forged, []string{opt, malformed}},
		{"bad.example +bufsize=512", append(forged, append(ede, `udp: 1232`)...), []string{malformed}},
		{"bad.example +bufsize=0", forged, []string{malformed}},
		{"bad.example +tcp", append(forged, `\(TCP\)`, ede[1]), []string{malformed}},
		{"+tcp +keepopen good.example bad.example good.example", append(forged, passed...), []string{malformed, "failed"}},
		{"bad.example +tcp +ednsopt=11", append(forged, `TCP.KEEPALIVE: 10\.0 secs`), []string{malformed}},
		{"bad.example +keepalive", forged, []string{`TCP.KEEPALIVE`, malformed}}, // never over UDP (RFC 7828 section 3.2.1)
		{"bad.example +ednsopt=65001", []string{status("NXDOMAIN"), `EDE: 15 \(Blocked\): \(\{.*abuse@isp\.example.*\}\)`, `IN\s+SOA`},
			[]string{`EDE: 4 `, pageAddr + `$`, malformed}},
		{"bad.example +ednsopt=100:deadbeef", append(forged, ede...), []string{malformed}},
		{"bad.example +cookie=0011223344556677", forged, []string{malformed}},
		{"good.example +subnet=192.0.2.0/24", passed, []string{malformed}},
		{"good.example +edns=1 +noednsneg", []string{status("BADVERS"), `EDNS: version: 0`}, []string{malformed}},
		{"good.example +edns=1 +ednsneg", append(passed, `BADVERS`), []string{malformed}},
		{"good.example +ednsflags=0x40", append(passed, `flags:;`), []string{`MBZ`}},
		{"good.example +opcode=notify", []string{`opcode: NOTIFY, status: NOTIMP`}, nil},
		{"good.example +opcode=status", []string{`opcode: STATUS, status: NOTIMP`}, nil},
		{"good.example +opcode=15", []string{`opcode: RESERVED15, status: NOTIMP`}, nil},
		{"+header-only +nocookie", []string{status("FORMERR"), `QUERY: 0`}, nil},
		{"+header-only", []string{status("NOERROR"), `QUERY: 0`, `COOKIE: .* \(good\)`}, nil}, // RFC 7873 section 5.4
		{"good.example ANY", []string{status("NOERROR"), `IN\s+HINFO\s+"RFC8482" ""`}, []string{malformed}},
		{"bad.example ANY", []string{status("NOERROR"), `IN\s+SOA`, ede[1]}, []string{`HINFO`, malformed}},
		{"bad.example HTTPS", []string{status("NOERROR"), `ANSWER: 0`, `IN\s+SOA`, ede[1]}, []string{malformed}},
		{"bad.example AAAA +dnssec", []string{status("NOERROR"), `AAAA\s+::1$`, `flags: do;`}, []string{malformed, ` ad;`}},
		{"good.example +dnssec +cdflag", append(passed, `flags: do;`, `flags: qr rd ra cd;`), []string{malformed}},
		{"good.example +norecurse", []string{status("REFUSED"), `EDE: 20 `}, nil},
		{"good.example AXFR", []string{`Transfer failed`}, nil},
		{"version.bind CH TXT", []string{status("NOERROR"), `CH\s+TXT\s+"Rempart"`}, []string{malformed}},
		{"large.example TXT +ignore", []string{status("NOERROR"), `flags: qr tc rd ra;`, `ANSWER: 0`}, []string{malformed}},
		{"large.example TXT", []string{status("NOERROR"), `Truncated, retrying in TCP mode`, `"x{250}"`}, []string{malformed}},
		{"large.example TXT +noedns", []string{status("NOERROR"), `Truncated, retrying in TCP mode`, `"x{250}"`}, []string{malformed, opt}},
		{"good.example +qid=0", append(passed, `id: 0$`), []string{malformed}},
		{"GooD.ExamplE", []string{`^;GooD\.ExamplE\.\s+IN\s+A`}, []string{malformed}},
		{"BaD.ExamplE", []string{`^;BaD\.ExamplE\.\s+IN\s+A`, `^BaD\.ExamplE\.\s+30\s+IN\s+A\s+127\.0\.0\.1$`}, []string{malformed}},
	} {
		a.check(t, "dig", r.DNS)
	}
}

func testKdig(t *testing.T, p *peers) {
	u := NewUpstream(t, nil)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String())
	const page, origin = `bad\.example\.\s+30\s+IN\s+A\s+127\.0\.0\.1$`, `good\.example\.\s+\d+\s+IN\s+A\s+192\.0\.2\.1$`
	const warning = `WARNING|\bERROR`
	for _, a := range []asked{
		{"bad.example +edns", []string{page, `EDE: 4 \(Forged Answer\)`, `EDE: 15 \(Blocked\)`}, []string{warning}},
		{"bad.example +noedns", []string{page}, []string{warning, `EDE`}},
		{"+tcp +keepopen bad.example good.example good.example", []string{page, origin, `\(TCP\)`}, []string{warning}},
		{"good.example +tcp +edns +padding=128", []string{origin}, []string{warning}},
		{"bad.example +ednsopt=65001", []string{`status: NXDOMAIN`, `EDE: 15 \(Blocked\): '\{.*\}'`}, []string{warning, `EDE: 4`}},
		{"good.example +ednsopt=65001:00", []string{origin}, []string{warning}},
		{"good.example +dnssec +bufsize=512", []string{origin}, []string{warning}},
	} {
		a.check(t, "kdig", r.DNS)
	}
}

// testDnsperf sends a bounded load of queries for blocked, cached and fetched names: every query must be answered.
func testDnsperf(t *testing.T, p *peers) {
	u := NewUpstream(t, nil)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String())
	var queries strings.Builder
	for i := range 500 {
		fmt.Fprintf(&queries, "n%d.good.example A\nn%d.bad.example AAAA\ngood.example A\n", i, i)
	}
	file := filepath.Join(p.dir, "queries")
	if err := os.WriteFile(file, []byte(queries.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(r.DNS)
	for _, mode := range []string{"udp", "tcp"} {
		out := outputOf(t, "dnsperf", "-s", host, "-p", port, "-m", mode, "-d", file, "-l", "2", "-c", "4", "-Q", "5000", "-e")
		for _, want := range []string{`Queries completed: +[1-9]\d{3}`, `Queries lost: +0 `, `Response codes: +NOERROR \d+ \(100\.00%\)`} {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("over %s: no match of %q in\n%s", mode, want, out)
			}
		}
	}
}
