package rpz

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// These tests use other resolvers as secondaries. If a resolver is not installed, its test is skipped, or fails if REMPART_INTEROP is "require".

const (
	pageAddr   = "198.51.100.1"
	originAddr = "192.0.2.1"
)

// scenarioViews are listings, in addition to many names, and the names that are blocked before and after a change.
var (
	scenarioListings = []blocklist.Change{
		listing("a", "exact.bad.test", blocklist.Exact, blocklist.Block),
		listing("a", "below.bad.test", blocklist.Below, blocklist.Block),
		listing("a", "tree.bad.test", blocklist.Subtree, blocklist.Block),
		listing("a", "twice.deep.tree.bad.test", blocklist.Subtree, blocklist.Block),
		listing("a", "leaving.bad.test", blocklist.Subtree, blocklist.Block),
		listing("operator", "good.other.tree.bad.test", blocklist.Exact, blocklist.Allow),
		listing("a", "allowed.test", blocklist.Subtree, blocklist.Block),
		listing("operator", "allowed.test", blocklist.Subtree, blocklist.Allow),
		listing("a", "later.allowed.test", blocklist.Subtree, blocklist.Block),
	}
	scenarioNames = strings.Fields(`exact.bad.test www.exact.bad.test below.bad.test www.below.bad.test a.b.below.bad.test
		tree.bad.test www.tree.bad.test deep.tree.bad.test other.deep.tree.bad.test twice.deep.tree.bad.test x.twice.deep.tree.bad.test
		good.other.tree.bad.test x.good.other.tree.bad.test other.tree.bad.test y.other.tree.bad.test
		leaving.bad.test www.leaving.bad.test arriving.bad.test www.arriving.bad.test innocent.test bad.test
		allowed.test www.allowed.test later.allowed.test x.later.allowed.test n0.d0.many.test www.n0.d0.many.test other.d0.many.test`)
)

// bigView returns a view of the listings of the scenario and size more names, which are real ones if the real data is available.
func bigView(t testing.TB, size int) (*blocklist.View, [][]byte) {
	t.Helper()
	b := blocklist.NewBuilder()
	var sample [][]byte
	add := func(name []byte) {
		if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree}); err != nil {
			t.Fatal(err)
		}
		if b.Len()%(size/50) == 0 {
			sample = append(sample, bytes.Clone(name))
		}
	}
	realNames(t, size*7/10, add)
	for i := 0; b.Len() < size; i++ {
		add(wireOf(fmt.Sprintf("n%d.d%d.many.test", i, i%9973)))
	}
	operator := blocklist.NewBuilder()
	for _, c := range scenarioListings {
		of := b
		if c.Source.Name == "operator" {
			of = operator
		}
		if err := of.Add(c.Listing); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{"203.0.113.0/24", "2001:db8:0:1::2/128", "2001:db8:5::/48"} {
		if err := b.Add(blocklist.Listing{Prefix: netip.MustParsePrefix(p)}); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	err := blocklist.Compile(&buf, blocklist.Info{Version: 1, Created: time.Now()}, b.Input(blocklist.Source{Name: "a"}), operator.Input(blocklist.Source{Name: "operator"}))
	if err != nil {
		t.Fatal(err)
	}
	s, err := blocklist.Open(buf.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return blocklist.NewView(s, nil), sample
}

// realNames adds some of the shared real names, if they are available.
func realNames(t testing.TB, count int, add func([]byte)) {
	f, err := os.Open("../../../shared/data/scale/threat-names-5041083.sorted.txt.gz")
	if err != nil {
		return
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	for i := 0; lines.Scan() && count > 0; i++ {
		text := lines.Text()
		if i%5 > 0 || !strings.Contains(text, ".") || strings.HasSuffix(text, ".onion") {
			continue
		}
		if name, err := blocklist.AppendName(nil, text); err == nil {
			add(name)
			count--
		}
	}
}

// program is another resolver.
type program struct {
	*dnstest.Peer // nil before start
	dir           string
	addr          string // where it answers DNS queries
}

// newProgram returns a program with a folder and a free port. It skips the test if the program is not installed.
func newProgram(t *testing.T, name string) *program {
	t.Helper()
	dnstest.Need(t, name)
	return &program{dir: t.TempDir(), addr: dnstest.FreeAddr(t)}
}

func (p *program) port() string {
	_, port, _ := net.SplitHostPort(p.addr)
	return port
}

func (p *program) write(t *testing.T, file, text string) string {
	t.Helper()
	path := filepath.Join(p.dir, file)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts the program, which ends with the test.
func (p *program) start(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C"}
	p.Peer = dnstest.StartPeer(t, cmd)
}

// longTests is the environment variable that enables tests that take minutes.
const longTests = "REMPART_LONG_TESTS"

// interopSize returns the number of names in the zone.
func interopSize() int {
	if os.Getenv(longTests) == "" {
		return 20_000
	}
	return 1_000_000
}

// patience returns the time that a resolver has to load the zone.
func patience() time.Duration {
	if os.Getenv(longTests) == "" {
		return time.Minute
	}
	return 3 * time.Minute
}

// secondary is a resolver that follows the zone.
type secondary struct {
	*program
	answers   Resolver // how to interpret its answers
	namesOnly bool     // the resolver does not apply address triggers
	after     func()   // called after a change, for a resolver that does not fetch changes itself
}

// scenario lets a resolver load the zone and follow a change, and compares its verdicts with the set's.
func scenario(t *testing.T, change func(*Config), start func(*testing.T, *serving, *dnstest.Upstream) secondary) *serving {
	t.Helper()
	view, sample := bigView(t, interopSize())
	for _, text := range scenarioNames {
		sample = append(sample, wireOf(text))
	}
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		addr := originAddr
		switch dns.CanonicalName(q.Msg.Question[0].Name) {
		case testPage + ".":
			addr = pageAddr
		case "address.test.":
			addr = "203.0.113.7"
		}
		if q.Msg.Question[0].Qtype != dns.TypeA {
			dnstest.Rcode(dns.RcodeSuccess)(q)
			return
		}
		dnstest.Answer("@ 300 IN A " + addr)(q)
	})
	s := serve(t, view, change)
	p := start(t, s, u)
	p.agrees(t, s, sample, fmt.Sprintf("%d names loaded", interopSize()))
	if blocked, err := p.answers.Blocked(t.Context(), wireOf("address.test")); err != nil || blocked == p.namesOnly {
		t.Errorf("a name with a blocked address: blocked is %v (%v), want the opposite", blocked, err)
	}

	withdrawn := listing("a", "leaving.bad.test", blocklist.Subtree, blocklist.Block)
	withdrawn.Withdraw = true
	p.follow(t, s)(withdrawn, listing("operator", "arriving.bad.test", blocklist.Subtree, blocklist.Block))
	p.agrees(t, s, sample, "a change")

	// An allow below a blocked name and a block above a listed name also change the records of other names.
	p.follow(t, s)(listing("operator", "x.twice.deep.tree.bad.test", blocklist.Exact, blocklist.Allow), listing("a", "d0.many.test", blocklist.Subtree, blocklist.Block))
	p.agrees(t, s, sample, "a change that affects names below")
	return s
}

// follow returns a function that changes the set.
func (p secondary) follow(t *testing.T, s *serving) func(...blocklist.Change) {
	return func(changes ...blocklist.Change) {
		s.changed(t, changes...)
		if p.after != nil {
			p.after()
		}
	}
}

// agrees waits until the resolver blocks the same names of a sample as the set: some resolvers load a zone gradually.
func (p secondary) agrees(t *testing.T, s *serving, sample [][]byte, what string) {
	t.Helper()
	set := ByView(s.view.Load(), blocklist.AllCategories, clock())
	want, blocked, passed, err := Digest(t.Context(), slices.Values(sample), set)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for time.Since(began) < patience() {
		if got, _, _, err := Digest(t.Context(), slices.Values(sample), p.answers.Blocked); err == nil && got == want {
			t.Logf("%s in %.2f s: %d blocked, %d passed, digest %.16s", what, time.Since(began).Seconds(), blocked, passed, got)
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, name := range sample {
		w, _ := set(t.Context(), name)
		if g, err := p.answers.Blocked(t.Context(), name); w != g || err != nil {
			t.Errorf("%s: blocked %v, want %v (%v)", blocklist.NameText(name), g, w, err)
		}
	}
	t.Fatalf("never: %s", what)
}

// notifying returns a change of the configuration that sends NOTIFY to p's address.
func (p *program) notifying(key string) func(*Config) {
	return func(c *Config) {
		c.Secondaries = []Secondary{{Addr: netip.MustParseAddrPort(p.addr), Key: key}}
	}
}

// followed checks that the secondary transferred two changes as differences and answered two NOTIFY messages.
func followed(t *testing.T, s *serving) {
	t.Helper()
	byDifferences(t, s)
	dnstest.Eventually(t, "two notifications are answered", func() bool {
		return s.metric(t, "rempart_rpz_notifies_total", map[string]string{"result": "ok"}) >= 2
	})
}

// byDifferences checks that one whole zone was transferred, and at least two differences. A transfer is counted after its last byte was sent.
func byDifferences(t *testing.T, s *serving) {
	t.Helper()
	dnstest.Eventually(t, "two differences are transferred", func() bool { return s.transferred(t, "ixfr") >= 2 })
	if whole := s.transferred(t, "axfr") + s.transferred(t, "axfr_for_ixfr"); whole != 1 {
		t.Errorf("%v whole zones were transferred, want 1", whole)
	}
}

func TestBIND(t *testing.T) {
	p := newProgram(t, "named")
	s := scenario(t, p.notifying(testKeyName), func(t *testing.T, s *serving, u *dnstest.Upstream) secondary {
		p.named(t, s.addr, "", u)
		return secondary{program: p, answers: Resolver{Addr: p.addr, Page: testPage, Zones: []string{testZoneName}}}
	})
	followed(t, s)
	if said := p.Said(); strings.Contains(said, "invalid") {
		t.Errorf("named rejects a record:\n%s", said)
	}
}

// named starts BIND. transport is the text after the primary's key.
func (p *program) named(t *testing.T, primary, transport string, u *dnstest.Upstream, more ...string) {
	host, port, _ := net.SplitHostPort(primary)
	conf := p.write(t, "named.conf", fmt.Sprintf(`%s
key %q { algorithm hmac-sha256; secret %q; };
options {
	directory %q; pid-file none; session-keyfile none; lock-file none;
	listen-on port %s { 127.0.0.1; }; listen-on-v6 { none; };
	recursion yes; dnssec-validation no; notify no; allow-transfer { none; };
	forward only; forwarders port %d { 127.0.0.1; };
	response-policy { zone %q log no max-policy-ttl 30; } qname-wait-recurse no min-update-interval 1;
	empty-zones-enable no;
};
controls { };
zone %q { type secondary; file "zone"; masterfile-format raw; primaries { %s port %s key %q %s; }; allow-notify { key %q; }; };
`, strings.Join(more, "\n"), testKeyName, testSecret, p.dir, p.port(), u.Addr.Port(), testZoneName, testZoneName, host, port, testKeyName, transport, testKeyName))
	p.start(t, "named", "-g", "-n", "1", "-c", conf)
}
