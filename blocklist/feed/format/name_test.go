package format

import (
	"errors"
	"strings"
	"testing"

	"rempart/blocklist"
)

func TestName(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	longest := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	tests := []struct {
		text string
		want string
		why  Reason
	}{
		{text: "example.com", want: "example.com"},
		{text: "example.com.", want: "example.com"},
		{text: " Example.COM\t", want: "example.com"},
		{text: "jNKmS0zFuEh.click", want: "jnkms0zfueh.click"},
		{text: "574835-de-prob-kenntnis-konto_identity.hilfeservice-personal.cf", want: "574835-de-prob-kenntnis-konto_identity.hilfeservice-personal.cf"},
		{text: "___id___.c.mystat-in.net", want: "___id___.c.mystat-in.net"},
		{text: "r3---sn-apo3qvuoxuxbt-j5pe.example.com", want: "r3---sn-apo3qvuoxuxbt-j5pe.example.com"},
		{text: "discörd.com", want: "xn--discrd-zxa.com"},
		{text: "disçordapp.com", want: "xn--disordapp-s3a.com"},
		{text: "попротоколу.academy", want: "xn--j1achaabcbjvp.academy"},
		{text: "1.黑貓宅配.top", want: "1.xn--09s945i07cm1q.top"},
		{text: "Yahoo國際簽約擔保平臺.top", want: "xn--yahoo-cs3hz24bono4qnj60dt1bs1yml9d.top"},
		{text: "straße.de", want: "xn--strae-oqa.de"},            // non-transitional: not strasse.de
		{text: "exa_mplé.com", want: "xn--exa_mpl-hya.com"},      // the underscore stays
		{text: "example。com", want: "example.com"},               // U+3002 is a dot (RFC 3490 section 3.1)
		{text: "ｅｘａｍｐｌｅ.com", want: "example.com"},               // full width
		{text: "xn--ls8h.la", want: "xn--ls8h.la"},               // an emoji: registered, and listed
		{text: "XN--DISCRD-ZXA.com", want: "xn--discrd-zxa.com"}, // folded before it is checked
		{text: "-foo.example.com", want: "-foo.example.com"},
		{text: longest, want: longest},
		{text: label63 + ".com", want: label63 + ".com"},

		{text: "", why: NotAName},
		{text: ".", why: NotAName},
		{text: "a..b.com", why: NotAName},
		{text: ".a.com", why: NotAName},
		{text: "a.com..", why: NotAName},
		{text: "a b.com", why: NotAName},
		{text: "a\x00b.com", why: NotAName},
		{text: "*.example.com", why: NotAName},
		{text: `ex\097mple.com`, why: NotAName},
		{text: "redacted@redacted.invalid", why: NotAName},
		{text: "example.com-", why: NotAName},
		{text: "example._tcp", why: NotAName},
		{text: "com", why: SingleLabel},
		{text: "h4fm7", why: SingleLabel},
		{text: "dhl-commx.", why: SingleLabel},
		{text: "한국", why: SingleLabel},
		{text: "localhost", why: LocalName},
		{text: "localhost.localdomain", why: LocalName},
		{text: "a.localhost", why: LocalName},
		{text: "ip6-allnodes", why: LocalName},
		{text: "1.0.164.165", why: Address},
		{text: "0000153.0000255.0000011.0000125", why: Address},
		{text: "0x7f.0x0.0x0.0x1", why: Address},
		{text: "c67f045c2f.ipv6.1433", why: Address},
		{text: "C91.196.152.28", why: Address},
		{text: "12345", why: Address},
		{text: "xn--kr.com", why: Punycode},
		{text: "example.xn--kr", why: Punycode},
		{text: "xn--.com", why: Punycode},
		{text: "xn--example-.com", why: Punycode},
		{text: "a\xff.com", why: Punycode},
		{text: "a\u200db.com", why: Punycode}, // a zero width joiner is not allowed between these letters
		{text: "℀.com", why: NotAName},        // maps to "a/c"
		{text: label63 + "a.com", why: TooLong},
		{text: "lockbitapt280e8defa5377018b093b5b90de0f2957f7062144c83a09a56bba1fe4eda932ce.onion", why: TooLong},
		{text: longest + "c", why: TooLong},
		{text: strings.Repeat("é", 2000) + ".com", why: TooLong},
	}
	for _, tt := range tests {
		got, err := Name(tt.text)
		if tt.why == accepted {
			if err != nil || blocklist.NameText(got) != tt.want {
				t.Errorf("Name(%q) = %q, %v; want %q", tt.text, blocklist.NameText(got), err, tt.want)
			}
			continue
		}
		var why Reason
		if !errors.As(err, &why) || why != tt.why || got != nil {
			t.Errorf("Name(%q) = %q, %v; want %v", tt.text, got, err, tt.why)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"example.com", "discörd.com.", "xn--ls8h.la", "a_b.c", "1.2.3.4", "℀.com", "\xff.com"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := Name(text)
		if err == nil {
			checkName(t, name)
		}
	})
}

// checkName checks the conditions that every name returned by this package must meet.
func checkName(t *testing.T, name []byte) {
	t.Helper()
	labels, bytes := 0, 0
	for i := 0; ; labels++ {
		if i >= len(name) || name[i] > maxLabel || i+int(name[i]) >= len(name) {
			t.Fatalf("invalid wire name %q", name)
		}
		if bytes = i + 1; name[i] == 0 {
			break
		}
		for _, c := range name[i+1 : i+1+int(name[i])] {
			if hostByte[c] != c || c == '.' {
				t.Fatalf("byte %q in name %q", c, name)
			}
		}
		i += 1 + int(name[i])
	}
	if bytes != len(name) || len(name) > maxWire || labels < 2 {
		t.Fatalf("name %q: %d labels, %d bytes", name, labels, len(name))
	}
	text := blocklist.NameText(name)
	again, err := Name(text)
	if err != nil || string(again) != string(name) {
		t.Fatalf("%q reads back as %q, %v", text, again, err)
	}
}

func TestReasonsAreUniqueLabels(t *testing.T) {
	seen := map[string]bool{}
	for r := range reasonCount {
		text := r.String()
		if text == "" || seen[text] || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("reason %d is called %q", r, text)
		}
		seen[text] = true
	}
}
