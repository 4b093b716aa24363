package guard

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

func newGuards(t testing.TB, c Config) *Guards {
	t.Helper()
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestCheck(t *testing.T) {
	g := newGuards(t, Config{
		Essential: strings.NewReader("hospital.example # all of it\n=pages.example\r\n\nlogin.pages.example\n=typeform.com\n"),
		Own:       []string{"page.rempart.example", "feeds.github.io", "me.code.run"},
		Popular:   strings.NewReader("1,top.example\n10000,last.example\n10001,next.example\n5,a.b.deep.example\n9,com\n20000,shop.example\n7,blogspot.com\n"),
	})
	long := strings.Repeat("a.", 125) + "aa"
	tests := []struct {
		name  string
		scope blocklist.Scope
		want  string // outcome and guard
	}{
		{"evil.example", blocklist.Subtree, "pass none"},
		{"a_b.evil.example", blocklist.Exact, "pass none"},
		{"xn--dmin-moa0i.example", blocklist.Below, "pass none"},
		{long, blocklist.Subtree, "pass none"},

		{".", blocklist.Subtree, "refuse name"},
		{"com", blocklist.Exact, "refuse name"},
		{"unknowntld", blocklist.Subtree, "refuse name"},
		{"192.0.2.1", blocklist.Exact, "refuse name"},
		{"evil.0x7f", blocklist.Exact, "refuse name"},
		{"evil.0xcafe0", blocklist.Exact, "refuse name"},
		{"localhost", blocklist.Exact, "refuse name"},
		{"a.localhost", blocklist.Exact, "refuse name"},
		{`a\.b.example`, blocklist.Exact, "refuse name"},
		{`a\032b.example`, blocklist.Exact, "refuse name"},
		{"evil.example", 0, "refuse name"},

		{"co.uk", blocklist.Subtree, "refuse public-suffix"},
		{"github.io", blocklist.Exact, "refuse public-suffix"},
		{"github.io", blocklist.Below, "refuse public-suffix"},
		{"evil.github.io", blocklist.Subtree, "pass none"},
		{"www.evil.github.io", blocklist.Subtree, "pass none"},
		{"ec2-1-2-3-4.compute-1.amazonaws.com", blocklist.Exact, "hold public-suffix"},
		{"x.at.ply.gg", blocklist.Subtree, "hold public-suffix"},
		{"y.x.at.ply.gg", blocklist.Subtree, "pass none"},
		{"at.ply.gg", blocklist.Subtree, "refuse public-suffix"},
		{"at.ply.gg", blocklist.Exact, "pass none"},
		{"ply.gg", blocklist.Subtree, "hold public-suffix"},
		{"evil.ck", blocklist.Exact, "hold public-suffix"},
		{"www.ck", blocklist.Subtree, "pass none"},
		{"city.kobe.jp", blocklist.Subtree, "pass none"},
		{"kobe.jp", blocklist.Subtree, "refuse public-suffix"},

		{"a.root-servers.net", blocklist.Exact, "refuse essential"},
		{"root-servers.net", blocklist.Below, "refuse essential"},
		{"0.pool.ntp.org", blocklist.Subtree, "refuse essential"},
		{"impots.gouv.fr", blocklist.Subtree, "refuse essential"},
		{"gouv.fr", blocklist.Subtree, "refuse public-suffix"},
		{"deep.down.hospital.example", blocklist.Exact, "refuse essential"},
		{"hospital.example", blocklist.Below, "refuse essential"},
		{"free.fr", blocklist.Subtree, "refuse essential"},
		{"www.free.fr", blocklist.Subtree, "refuse essential"},
		{"evil.free.fr", blocklist.Subtree, "pass none"},
		{"pages.example", blocklist.Exact, "refuse essential"},
		{"pages.example", blocklist.Below, "refuse essential"}, // login is below
		{"www.pages.example", blocklist.Exact, "refuse essential"},
		{"evil.pages.example", blocklist.Subtree, "pass none"},
		{"a.login.pages.example", blocklist.Subtree, "refuse essential"},
		{"page.rempart.example", blocklist.Exact, "refuse essential"},
		{"rempart.example", blocklist.Subtree, "refuse essential"},
		{"rempart.example", blocklist.Exact, "pass none"},
		{"a.rempart.example", blocklist.Subtree, "pass none"},
		{"feeds.github.io", blocklist.Exact, "refuse essential"},

		{"me.code.run", blocklist.Subtree, "refuse essential"},
		{"you.code.run", blocklist.Subtree, "hold public-suffix"},
		{"typeform.com", blocklist.Subtree, "refuse essential"},

		{"top.example", blocklist.Exact, "hold popular"},
		{"top.example", blocklist.Below, "hold popular"},
		{"www.top.example", blocklist.Exact, "hold popular"},
		{"last.example", blocklist.Subtree, "hold popular"},
		{"next.example", blocklist.Subtree, "pass none"},
		{"evil.top.example", blocklist.Subtree, "pass none"},
		{"deep.example", blocklist.Subtree, "hold popular"},
		{"b.deep.example", blocklist.Below, "hold popular"},
		{"deep.example", blocklist.Exact, "pass none"},
		{"evil.blogspot.com", blocklist.Subtree, "pass none"},
	}
	for _, tt := range tests {
		f := g.Check(blocklist.Listing{Name: dnstest.WireName(t, tt.name), Scope: tt.scope})
		if got := f.Outcome.String() + " " + f.Guard.String(); got != tt.want {
			t.Errorf("%s %v: %s (%s), want %s", tt.name, tt.scope, got, f.Explain(dnstest.WireName(t, tt.name)), tt.want)
		}
	}
	for _, d := range []blocklist.Decision{blocklist.Allow, blocklist.Except} {
		if f := g.Check(blocklist.Listing{Name: dnstest.WireName(t, "github.io"), Scope: blocklist.Subtree, Decision: d}); f != (Finding{}) {
			t.Errorf("decision %d: %v", d, f)
		}
	}
}

func TestMalformedNamesAreRefused(t *testing.T) {
	g := newGuards(t, Config{})
	for _, name := range []string{
		"", "\x03com", "\x04evil\x07example", "\x04evil\x07exampl\x00e\x00", "\x04evil\x07example\x00\x00", "\xc0\x0c", "\x09evil\x00",
		"\x04Evil\x07example\x00", "\x04evil\x07exam.le\x00", "\x40" + strings.Repeat("a", 64) + "\x00",
		strings.Repeat("\x01a", 128) + "\x00", strings.Repeat("\x01a", 200) + "\x00",
	} {
		f := g.Check(blocklist.Listing{Name: []byte(name), Scope: blocklist.Subtree})
		if f.Outcome != Refuse || f.Guard != Name {
			t.Errorf("Check(%q): %v by %v, want a refusal by the guard Name", name, f.Outcome, f.Guard)
		}
		if _, ok := g.Rank([]byte(name)); ok || g.SharedHost([]byte(name)) {
			t.Errorf("%q has a rank or is shared", name)
		}
	}
}

func TestExplain(t *testing.T) {
	g := newGuards(t, Config{Own: []string{"page.example"}})
	got := map[string]string{}
	for _, name := range []string{"www.impots.gouv.fr", "www.free.fr", "google.com", "page.example", "wikipedia.org", "nothing.example", "x.at.ply.gg"} {
		w := dnstest.WireName(t, name)
		got[name] = g.Check(blocklist.Listing{Name: w, Scope: blocklist.Exact}).Explain(w)
	}
	want := map[string]string{
		"www.impots.gouv.fr": "gouv.fr is essential",
		"www.free.fr":        "free.fr is essential",
		"google.com":         "google.com is essential",
		"page.example":       "this service is called that, or uses it",
		"wikipedia.org":      "it is among the first 1000 in popularity, and the bound is 10000: a person should look",
		"nothing.example":    "nothing speaks against it",
		"x.at.ply.gg":        "it is a public suffix by a wildcard only: it may be one person's, a person should look",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for why, text := range reasonTexts {
		f := Finding{Outcome: Refuse, why: reason(why)}
		if text == "" || strings.Contains(f.Explain(nil), "%!") {
			t.Errorf("reason %d: %q", why, f.Explain(nil))
		}
	}
}

func TestWideAndInternalPrefixesAreRefused(t *testing.T) {
	g := newGuards(t, Config{OwnAddresses: []netip.Addr{netip.MustParseAddr("::ffff:198.41.0.4"), netip.MustParseAddr("2001:500:2::c")}})
	for prefix, want := range map[string]string{
		"8.8.8.0/24": "pass none", "8.8.8.8/32": "pass none", "8.8.8.0/23": "refuse address", "0.0.0.0/0": "refuse address",
		"198.41.0.0/24": "refuse address", "198.41.0.4/32": "refuse address", "198.41.0.5/32": "pass none",
		"192.168.1.0/24": "refuse address", "127.0.0.1/32": "refuse address", "100.64.1.0/24": "refuse address", "224.0.0.1/32": "refuse address",
		"255.255.255.255/32": "refuse address", "169.254.169.254/32": "refuse address",
		"2a00:1450::/48": "pass none", "2a00:1450::/47": "refuse address", "fe80::/64": "refuse address", "fd00::/48": "refuse address",
		"2001:db8::/48": "refuse address", "::1/128": "refuse address", "::ffff:8.8.8.0/120": "refuse address", "64:ff9b::/96": "refuse address",
		"2001:500:2::/48": "refuse address", "2001:500:2::c/128": "refuse address", "2001:500:3::/48": "pass none", "::/0": "refuse address",
	} {
		f := g.Check(blocklist.Listing{Prefix: netip.MustParsePrefix(prefix), Scope: blocklist.Exact})
		if got := f.Outcome.String() + " " + f.Guard.String(); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

func TestMassChange(t *testing.T) {
	for _, tt := range []struct {
		before, after int
		bounds        Bounds
		want          string
	}{
		{0, 5_000_000, Bounds{}, ""},
		{999, 0, Bounds{}, ""},
		{1000, 500, Bounds{}, ""},
		{1000, 499, Bounds{}, "it shrank from 1000 to 499 listings"},
		{1001, 0, Bounds{}, "it shrank from 1001 to 0 listings"},
		{1000, 4000, Bounds{}, ""},
		{1000, 4001, Bounds{}, "it grew from 1000 to 4001 listings"},
		{20, 1, Bounds{Least: 10, Shrink: 10}, "it shrank from 20 to 1 listings"},
		{1000, 4001, Bounds{Grow: 10}, ""},
		{math.MaxInt / 2, math.MaxInt, Bounds{}, ""},
		{-1, -1, Bounds{}, ""},
	} {
		f := MassChange(tt.before, tt.after, tt.bounds)
		got := ""
		if f.Outcome == Hold && f.Guard == Mass {
			got = f.Explain(nil)
		}
		if got != tt.want {
			t.Errorf("%d to %d: %q, want %q", tt.before, tt.after, got, tt.want)
		}
	}
}

func TestSmallList(t *testing.T) {
	for _, tt := range []struct {
		before, after Content
		common        int
		want          string
	}{
		{Content{0, 0}, Content{900, 0}, 0, ""},
		{Content{900, 0}, Content{1, 1}, 0, "it shrank from 900 to 1 listings"},
		{Content{10, 0}, Content{1, 0}, 1, ""},
		{Content{20, 0}, Content{1, 0}, 1, "it shrank from 20 to 1 listings"},
		{Content{900, 0}, Content{90, 0}, 90, ""},
		{Content{14, 0}, Content{973, 0}, 0, ""},
		{Content{14, 0}, Content{1500, 0}, 14, "it grew from 14 to 1500 listings"},
		{Content{3, 0}, Content{1, 1}, 0, "nothing it listed is left, and of its lines 1 are not understood: it became something else than a list"},
		{Content{3, 0}, Content{1, 1}, 1, ""},
		{Content{3, 3}, Content{1, 1}, 0, ""},
		{Content{3, 0}, Content{3, 0}, 0, ""},
		{Content{1000, 0}, Content{1, 1}, 0, ""}, // of MassChange
	} {
		got := ""
		if f := SmallList(tt.before, tt.after, tt.common); f.Outcome == Hold && f.Guard == Mass {
			got = f.Explain(nil)
		}
		if got != tt.want {
			t.Errorf("%v to %v with %d in common: %q, want %q", tt.before, tt.after, tt.common, got, tt.want)
		}
	}
	if f := Emptied(3); f.Outcome != Hold || f.Explain(nil) != "it lists nothing any more, after 3 listings" {
		t.Errorf("emptied: %v %s", f.Outcome, f.Explain(nil))
	}
}

func TestSharedHostAndRank(t *testing.T) {
	g := newGuards(t, Config{Popular: strings.NewReader("google.com\n\nWikipedia.org\r\nwikipedia.org\n")})
	for name, want := range map[string]bool{
		"github.io": true, "evil.github.io": false, "www.evil.github.io": false, "google.com": true, "a.b.google.com": true,
		"bit.ly": true, "linktr.ee": true, "pastebin.com": true, "evil.example": false, "com": false, "co.uk": true,
		"x.at.ply.gg": true, "y.x.at.ply.gg": false, "www.ck": false, "evil.pages.dev": false, "docs.google.com": true,
	} {
		if got := g.SharedHost(dnstest.WireName(t, name)); got != want {
			t.Errorf("SharedHost(%s) is %v", name, got)
		}
	}
	if rank, ok := g.Rank(dnstest.WireName(t, "wikipedia.org")); rank != 2 || !ok {
		t.Errorf("Rank(wikipedia.org) is %d, %v", rank, ok)
	}
	if rank, ok := g.Rank(dnstest.WireName(t, "evil.example")); rank != 0 || ok {
		t.Errorf("Rank(evil.example) is %d, %v", rank, ok)
	}
}

func TestPopularityListErrors(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte("1,google.com\n2,example.com\n"))
	z.Close()
	many := strings.Repeat("nonsense line\n", 3)
	for _, tt := range []struct {
		what    string
		config  Config
		popular Stats
		wantErr string
	}{
		{"gzip", Config{Popular: &packed}, Stats{Popular: 2}, ""},
		{"some bad lines", Config{Popular: strings.NewReader("rank,name\n# comment\n0,a.example\n1,a.example\n2,b.example\n99999999,c.example\n3,c.example\n")},
			Stats{Popular: 3, BadPopular: 3}, ""},
		{"an empty list", Config{Popular: strings.NewReader("\n\n")}, Stats{}, "popularity list: no line of it is a name"},
		{"no list", Config{Popular: strings.NewReader(many + "a.example\n")}, Stats{}, "3 lines that are none"},
		{"broken gzip", Config{Popular: strings.NewReader("\x1f\x8b\x08nothing")}, Stats{}, "unpacking it"},
		{"cut gzip", Config{Popular: bytes.NewReader([]byte(popularGzip)[:1000])}, Stats{}, "unexpected EOF"},
		{"a line without end", Config{Popular: strings.NewReader(strings.Repeat("a", 100_000) + "\n1,a.example\n2,b.example")},
			Stats{Popular: 2, BadPopular: 1}, ""},
		{"endless line", Config{Popular: io.LimitReader(endless{}, 1<<20)}, Stats{}, "no line of it is a name"},
		{"essential names without end", Config{Essential: endless{}}, Stats{}, "cannot be protected"},
		{"essential too large", Config{Essential: comments{}}, Stats{}, errTooLarge.Error()},
		{"essential typo", Config{Essential: strings.NewReader("ok.example\nnot a name\n")}, Stats{}, `essential names: line 2: "not a name" cannot be protected`},
		{"essential top-level domain", Config{Essential: strings.NewReader("=fr\n")}, Stats{}, "it is a top-level domain"},
		{"own name", Config{Own: []string{"a..example"}}, Stats{}, "names of this service"},
	} {
		g, err := New(tt.config)
		if tt.wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
				t.Errorf("%s: %v, want %q", tt.what, err, tt.wantErr)
			}
			continue
		}
		if err != nil {
			t.Errorf("New with %s: %v", tt.what, err)
			continue
		}
		got := g.Stats()
		got.Essential = 0
		if got != tt.popular {
			t.Errorf("%s: %+v, want %+v", tt.what, got, tt.popular)
		}
	}
}

// endless is a reader of one line that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

// comments is a reader of comment lines that never ends.
type comments struct{}

func (comments) Read(p []byte) (int, error) { return copy(p, "# nothing\n"), nil }

// TestEachLine checks lines that are longer than what the buffer still holds, with readers that return one byte or many bytes.
func TestEachLine(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	want := []string{"1 a", "2 ", "3 " + strings.Repeat("y", maxLine-10), "4 b", "5 " + long, "6 c", "7 d"}
	text := "a\r\n\n" + want[2][2:] + "\nb\n" + long + long + "zzz\nc\nd"
	for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
		var got []string
		if err := eachLine(r, 1<<20, func(number int, line string) error {
			got = append(got, fmt.Sprint(number, " ", line))
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("lines (-want +got):\n%.500s", diff)
		}
	}
}

// TestShippedLists checks that every line of the shipped essential names is read as intended, and that README.md has the right numbers.
func TestShippedLists(t *testing.T) {
	g := newGuards(t, Config{})
	if s := g.Stats(); s.Essential < 500 || s.Popular < 20_000 || s.BadPopular > 200 {
		t.Errorf("shipped lists: %+v, want at least 500 essential and 20,000 popular names, and at most 200 bad lines", s)
	}
	if g.names.used > shippedNames {
		t.Errorf("%d names: shippedNames is %d", g.names.used, shippedNames)
	}
	t.Logf("%+v, %d entries, %d bytes", g.Stats(), g.names.used, len(g.names.hashes)*12)
	seen := map[string]bool{}
	for line := range strings.Lines(essentialText) {
		text, _, _ := strings.Cut(line, "#")
		text = strings.TrimSpace(text)
		if text != "" && seen[text] {
			t.Errorf("essential.txt has %s twice", text)
		}
		seen[text] = true
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("\x04evil\x07example\x00"), uint8(3))
	f.Add([]byte("\x03www\x02ck\x00"), uint8(2))
	f.Add([]byte("\x03www\x00"), uint8(1))
	g := newGuards(f, Config{})
	f.Fuzz(func(t *testing.T, name []byte, scope uint8) {
		found := g.Check(blocklist.Listing{Name: name, Scope: blocklist.Scope(scope)})
		found.Explain(name)
		found.Explain(nil)
		g.SharedHost(name)
		g.Rank(name)
	})
}

// TestCheckAllow checks that an allow is refused for a name below which many people have names.
func TestCheckAllow(t *testing.T) {
	g, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Outcome{
		"co.uk": Refuse, "github.io": Refuse, "amazonaws.com": Refuse, "windows.net": Refuse, "com": Refuse,
		"google.com": Pass, "login.bank.example.com": Pass, "me.github.io": Pass,
	} {
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		if f := g.CheckAllow(blocklist.Listing{Name: name, Scope: blocklist.Subtree, Decision: blocklist.Allow}); f.Outcome != want {
			t.Errorf("%s: %v, want %v: %s", text, f.Outcome, want, f.Explain(name))
		}
	}
}
