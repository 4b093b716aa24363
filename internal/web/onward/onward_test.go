package onward

import (
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rempart/blocklist"
	"rempart/internal/grant"
)

const probe = "probe.rempart.internal"

// newLinks returns links by which people may continue to bad.example and the names below it.
func newLinks(t testing.TB) *Links {
	t.Helper()
	apex, err := blocklist.AppendName(nil, probe)
	if err != nil {
		t.Fatal(err)
	}
	secrets := grant.Random()
	return New(Config{
		Zone: grant.NewZone(apex), Secrets: func() *grant.Secrets { return secrets },
		MayContinue: func(name []byte) bool { return strings.HasSuffix("."+blocklist.NameText(name), ".bad.example") },
	})
}

// TestLinks checks the way of a reader: the offer, the confirmation, and the request afterwards.
func TestLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, client := newLinks(t), netip.MustParseAddr("192.0.2.1")
		url, ok := l.Offer("WWW.bad.example")
		if want := "http://www.bad.example.ask." + probe + "/"; !ok || url != want {
			t.Fatalf("offered %q, want %q", url, want)
		}
		asked, ok := l.Parse("www.bad.example.ask." + probe + ":80")
		if want := (Request{Kind: Ask, Name: "www.bad.example"}); !ok || asked != want {
			t.Fatalf("read %+v, want %+v", asked, want)
		}
		url, ok = l.Confirm(asked.Name, client)
		if host := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/"); !ok || !strings.HasSuffix(host, ".www.bad.example.go."+probe) {
			t.Fatalf("the URL of the confirmation is %q", url)
		}
		confirmed, ok := l.Parse(strings.ToUpper(strings.Trim(strings.TrimPrefix(url, "http:"), "/")) + ".")
		if !ok || confirmed.Kind != Go || confirmed.Name != "www.bad.example" || len(confirmed.Token) != grant.TokenLen {
			t.Fatalf("read %+v", confirmed)
		}
		if !l.IsValid(confirmed, client) || l.IsValid(confirmed, netip.MustParseAddr("192.0.2.2")) || l.IsValid(asked, client) || l.IsValid(confirmed, netip.Addr{}) {
			t.Error("a token is valid for others, or not for its client")
		}
		time.Sleep(grant.Lifetime + time.Second)
		if l.IsValid(confirmed, client) {
			t.Error("a token is valid after its time")
		}
	})
}

// TestNothingIsOffered checks the names for which the page has no link.
func TestNothingIsOffered(t *testing.T) {
	l, client := newLinks(t), netip.MustParseAddr("192.0.2.1")
	for _, name := range []string{"good.example", "", ".", "a..bad.example", `a\ .bad.example`, strings.Repeat("a.", 101) + "bad.example"} {
		if url, ok := l.Offer(name); ok {
			t.Errorf("%q: offered %s", name, url)
		}
		if url, ok := l.Confirm(name, client); ok {
			t.Errorf("%q: confirmed by %s", name, url)
		}
	}
	if _, ok := l.Confirm("bad.example", netip.Addr{}); ok {
		t.Error("a link without a client")
	}
	if _, ok := l.Offer("bad.example"); !ok {
		t.Error("the name that people may continue to is not offered")
	}
	var off *Links
	if _, ok := off.Offer("bad.example"); ok {
		t.Error("nil Links offer something")
	}
	if _, ok := off.Confirm("bad.example", client); ok {
		t.Error("nil Links confirm something")
	}
	if _, ok := off.Parse("bad.example.ask." + probe); ok || off.IsValid(Request{Kind: Go}, client) {
		t.Error("nil Links recognize something")
	}
}

func TestOtherHosts(t *testing.T) {
	l := newLinks(t)
	for _, host := range []string{
		"", "bad.example", probe, "ask." + probe, "x." + probe, "bad.example.go." + probe, `bad\.example.ask.` + probe, `b\ d.example.ask.` + probe,
		"[2001:db8::1]:80", "192.0.2.1", "bad.example.ask." + probe + ".evil.example", "bad..example.ask." + probe,
	} {
		if r, ok := l.Parse(host); ok {
			t.Errorf("%q was read as %+v", host, r)
		}
	}
}

// FuzzParse checks that a request that was read makes the same host again, without characters that have a meaning in a URL.
func FuzzParse(f *testing.F) {
	for _, host := range []string{
		"bad.example.ask." + probe, "BAD.example.ask." + probe + ".:8080", strings.Repeat("a", grant.TokenLen) + ".bad.example.go." + probe, "[::1]:80", `\000.ask.` + probe,
	} {
		f.Add(host)
	}
	l := newLinks(f)
	f.Fuzz(func(t *testing.T, host string) {
		r, ok := l.Parse(host)
		if !ok {
			return
		}
		made := r.Name + ".ask." + probe
		if r.Kind == Go {
			made = r.Token + "." + r.Name + ".go." + probe
		}
		if again, ok := l.Parse(made); !ok || again != r {
			t.Fatalf("%q was read as %+v, and %q as %+v", host, r, made, again)
		}
		if strings.ContainsAny(made, "/\\:?#@ \"'<>%&") {
			t.Fatalf("%q has characters of URLs or HTML", made)
		}
	})
}
