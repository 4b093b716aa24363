package grant

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

const now = int64(1_800_000_000)

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// TestToken checks for whom, for what and how long a token is valid.
func TestToken(t *testing.T) {
	s, other := Random(), Random()
	bad := dnstest.WireName(t, "bad.example")
	token := s.Token(bad, addr("192.0.2.1"), now)
	if len(token) != TokenLen || token != strings.ToLower(token) || len(token) > wire.MaxLabel {
		t.Fatalf("the token %q is not a label of %d lower-case characters", token, TokenLen)
	}
	six := s.Token(bad, addr("2001:db8:0:1::1"), now)
	mapped := s.Token(bad, addr("::ffff:192.0.2.1"), now)
	for _, tt := range []struct {
		what    string
		secrets *Secrets
		token   string
		name    string
		client  string
		at      int64
		want    Result
	}{
		{"at once", s, token, "bad.example", "192.0.2.1", now, Valid},
		{"again", s, token, "bad.example", "192.0.2.1", now + 60, Valid},
		{"at its end", s, token, "bad.example", "192.0.2.1", now + 120, Valid},
		{"after its end", s, token, "bad.example", "192.0.2.1", now + 121, Expired},
		{"another client", s, token, "bad.example", "192.0.2.2", now, Foreign},
		{"another name", s, token, "www.bad.example", "192.0.2.1", now, Foreign},
		{"another server", other, token, "bad.example", "192.0.2.1", now, Foreign},
		{"the last character", s, token[:23] + string(token[23]^1), "bad.example", "192.0.2.1", now, Foreign},
		{"a later expiry", s, "z" + token[1:], "bad.example", "192.0.2.1", now, Foreign},
		{"too short", s, token[1:], "bad.example", "192.0.2.1", now, Foreign},
		{"no base32", s, "\n" + token[1:], "bad.example", "192.0.2.1", now, Foreign},
		{"upper case", s, strings.ToUpper(token), "bad.example", "192.0.2.1", now, Foreign}, // names are in lower case before
		{"the same IPv6 /64", s, six, "bad.example", "2001:db8:0:1::ffff", now, Valid},
		{"another IPv6 /64", s, six, "bad.example", "2001:db8:0:2::1", now, Foreign},
		{"IPv4 in IPv6", s, mapped, "bad.example", "192.0.2.1", now, Valid},
		{"an IPv6 address with the bytes of an IPv4 address", s, token, "bad.example", "::c000:201", now, Foreign},
	} {
		got, expiry := tt.secrets.Check([]byte(tt.token), dnstest.WireName(t, tt.name), addr(tt.client), tt.at)
		if got != tt.want || got == Valid && expiry != now+120 {
			t.Errorf("%s: result %d, expiry %d, want %d", tt.what, got, expiry, tt.want)
		}
	}
}

// TestSharedSecrets checks that servers with a common secret accept each other's tokens while secrets are replaced.
func TestSharedSecrets(t *testing.T) {
	const first, second = "e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"
	parse := func(lines ...string) *Secrets {
		s, err := Parse([]byte(strings.Join(lines, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old, both, newest := parse(first), parse(second, first), parse(second)
	bad, client := dnstest.WireName(t, "bad.example"), addr("192.0.2.1")
	for _, tt := range []struct {
		what     string
		from, to *Secrets
		want     Result
	}{
		{what: "old to both", from: old, to: both, want: Valid},
		{what: "both to newest", from: both, to: newest, want: Valid},
		{what: "old to newest", from: old, to: newest, want: Foreign},
	} {
		if got, _ := tt.to.Check([]byte(tt.from.Token(bad, client, now)), bad, client, now); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
	if _, err := Parse([]byte("x")); err == nil {
		t.Error("a file without a secret was accepted")
	}
}

func TestZone(t *testing.T) {
	z := NewZone(dnstest.WireName(t, "probe.rempart.internal"))
	token := Random().Token(dnstest.WireName(t, "bad.example"), addr("192.0.2.1"), now)
	for full, want := range map[string]struct {
		kind  Kind
		token string
		name  string
	}{
		"bad.example.ask.probe.rempart.internal":                                    {Ask, "", "bad.example"},
		"ask.go.ask.probe.rempart.internal":                                         {Ask, "", "ask.go"},
		token + ".bad.example.go.probe.rempart.internal":                            {Go, token, "bad.example"},
		token + ".go.go.probe.rempart.internal":                                     {Go, token, "go"},
		token + ".go.probe.rempart.internal":                                        {},
		token[1:] + ".bad.example.go.probe.rempart.internal":                        {},
		token[1:] + "1.bad.example.go.probe.rempart.internal":                       {},
		"bad.example.go.probe.rempart.internal":                                     {},
		"ask.probe.rempart.internal":                                                {},
		"go.probe.rempart.internal":                                                 {},
		"probe.rempart.internal":                                                    {},
		"rempart.internal":                                                          {},
		"bad.example.ask.probe.rempart.example":                                     {},
		"bad.example.task.probe.rempart.internal":                                   {},
		`bad.example.ask\005probe.rempart.internal`:                                 {}, // the zone's bytes within a label
		"bad.example.askprobe.rempart.internal":                                     {},
		token + ".bad.example.go.probe.rempart.internal.ask.probe.rempart.internal": {Ask, "", token + ".bad.example.go.probe.rempart.internal"},
	} {
		kind, got, part := z.Split(dnstest.WireName(t, full))
		if kind != want.kind || string(got) != want.token || kind != Other && wire.Text(append(bytes.Clone(part), 0)) != want.name {
			t.Errorf("%s: kind %d, token %q, name %q, want %+v", full, kind, got, part, want)
		}
	}
	if kind, _, _ := (Zone{}).Split(dnstest.WireName(t, "a.ask")); kind != Other {
		t.Error("the zero Zone has names")
	}
}

// TestOffers checks that a name is offered only if all names that are made of it are valid.
func TestOffers(t *testing.T) {
	z := NewZone(dnstest.WireName(t, "probe.rempart.internal"))
	token := strings.Repeat("a", TokenLen)
	label := strings.Repeat("x", 63) + "."
	for n := range 64 {
		text := strings.Repeat(label, 3) + strings.Repeat("y", n)
		bad, err := wire.AppendName(nil, text)
		if err != nil {
			continue
		}
		long := len(z.GoName(token, bad)) > wire.MaxName || len(z.AskName(bad)) > wire.MaxName
		if z.Offers(bad) == long {
			t.Errorf("%d more characters: offered %v, too long %v", n, z.Offers(bad), long)
		}
		if !long && len(z.GoName(token, bad)) != wire.NameLen(z.GoName(token, bad)) {
			t.Errorf("%d more characters: not a name", n)
		}
	}
	for text, want := range map[string]bool{".": false, "a": true, "_x-1.example": true, `a\ b.example`: false, `a\.b.example`: false, `\255.example`: false, "Upper.example": true} {
		if got := z.Offers(dnstest.WireName(t, text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

// TestHotCallsDoNotAllocate checks the calls that the fast path makes.
func TestHotCallsDoNotAllocate(t *testing.T) {
	z := NewZone(dnstest.WireName(t, "probe.rempart.internal"))
	full := z.GoName(strings.Repeat("a", TokenLen), dnstest.WireName(t, "bad.example"))
	if n := testing.AllocsPerRun(100, func() { z.Split(full) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// FuzzSplit checks that the parts of any name make the same name again, and that a name that is offered is found in the names that are made of it.
func FuzzSplit(f *testing.F) {
	f.Add("bad.example.ask.probe.test", "probe.test")
	f.Add(strings.Repeat("a", TokenLen)+".bad.example.go.probe.test", "probe.test")
	f.Add("ask.test", "test")
	f.Fuzz(func(t *testing.T, text, apex string) {
		full, err := wire.AppendName(nil, text)
		if err != nil {
			return
		}
		zone, err := wire.AppendName(nil, apex)
		if err != nil || len(zone) == 1 {
			return
		}
		z := NewZone(zone)
		kind, token, part := z.Split(full)
		name := append(bytes.Clone(part), 0)
		switch kind {
		case Ask:
			if made := z.AskName(name); !bytes.Equal(made, full) {
				t.Fatalf("%q became %q", full, made)
			}
		case Go:
			if made := z.GoName(string(token), name); !bytes.Equal(made, full) {
				t.Fatalf("%q became %q", full, made)
			}
		}
		if kind != Other && wire.NameLen(name) != len(name) {
			t.Fatalf("%q is not a name", name)
		}
		if !z.Offers(full) {
			return
		}
		if k, _, p := z.Split(z.AskName(full)); k != Ask || !bytes.Equal(append(bytes.Clone(p), 0), full) {
			t.Fatalf("%q is offered, and its page is not found", full)
		}
		if k, _, p := z.Split(z.GoName(strings.Repeat("2", TokenLen), full)); k != Go || !bytes.Equal(append(bytes.Clone(p), 0), full) {
			t.Fatalf("%q is offered, and its token is not found", full)
		}
	})
}
