package format

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseFormat(t *testing.T) {
	for _, f := range Formats() {
		var got Format
		if err := got.UnmarshalText([]byte(strings.ToUpper(string(f)))); err != nil || got != f {
			t.Errorf("UnmarshalText of %s in upper case: %q, %v; want the same format", f, got, err)
		}
	}
	if f, err := ParseFormat(""); f != Auto || err != nil {
		t.Errorf("no name: %q, %v", f, err)
	}
	_, err := ParseFormat("xml")
	if err == nil || !strings.Contains(err.Error(), `"xml"`) || !strings.Contains(err.Error(), "hosts, domains, wildcards") {
		t.Errorf("xml: %v", err)
	}
	if _, err := Parse(strings.NewReader("a.example"), Options{Format: "xml"}, &transcript{t: t}); err == nil {
		t.Error("a list was read in a format that does not exist")
	}
}

// TestDeclaredFormats checks how each line format reads the same lines.
func TestDeclaredFormats(t *testing.T) {
	lines := []string{"# c", "a.example", "0.0.0.0 b.example c.example", "192.0.2.1 d.example", "*.e.example", ".f.example", "||g.example^",
		"@@||h.example^", "address=/i.example/", `local-zone: "j.example." static`, "k.example CNAME .", "http://l.example/", "m.example/x",
		"example.com##.ad", "$TTL 30", "evil[.]example", "127.0.0.1 localhost"}
	u := "!unknown-form"
	tests := map[Format][]string{
		Hosts: {"=a.example", "=b.example", "=c.example", "@=d.example", "!redirect", "!wildcard-inside", "!not-a-name", "!pattern", "!pattern",
			"!url-path", u, u, "!url-path", "!url-path", "!cosmetic", u, u, "!local-name"},
		Domains: {"a.example", u, u, "!wildcard-inside", "!not-a-name", "!pattern", "!pattern", "!url-path", u, u, "!url-path",
			"!url-path", "!cosmetic", u, "evil.example", u},
		Wildcards: {"a.example", u, u, "e.example", "f.example", "!pattern", "!pattern", "!url-path", u, u, "!url-path",
			"!url-path", "!cosmetic", u, u, u},
		Adblock: {"!pattern", "!pattern", "!pattern", "!wildcard-inside", "!pattern", "g.example", "@h.example", "!url-path", u,
			"!pattern", "!url-path", "!url-path", "!cosmetic", "!modifier", u, "!pattern"},
		Dnsmasq: {u, u, u, u, u, u, u, "i.example", u, u, u, u, u, u, u, u},
		Unbound: {u, u, u, u, u, u, u, u, "j.example", u, u, u, u, u, u, u},
		RPZ:     {u, u, u, u, u, u, u, u, u, "=k.example", u, u, u, u, u},
		URLs: {"=a.example", u, u, "!wildcard-inside", "!not-a-name", "!pattern", "!pattern", "!url-path", u, u, "=l.example", "!url-path",
			"!url-path", u, "=evil.example", u},
	}
	for f, want := range tests {
		if diff := cmp.Diff(want, readAs(t, Options{Format: f}, strings.Join(lines, "\n"))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", f, diff)
		}
	}
}

func TestSniff(t *testing.T) {
	tests := []struct {
		list string
		want Format
	}{
		{"", Auto},
		{"{", Auto},
		{"{}", JSON},
		{"\ufeff \n{ \"a\": 1}", JSON},
		{"[\n{", JSON},
		{"[\"a.example\"]", JSON},
		{"[]", JSON},
		{"[Adblock Plus 3.13]\n||a.example^", Auto},
		{"[2600:1f18::]\na.example", Auto},
		{"[[.].]", Auto},
		{"domain,copy9.com,TheTruthSpy", Auto},
		{"type,indicator,app\ndomain,copy9.com,TheTruthSpy", CSV},
		{"\"fqdn\";\"ip\"\n", CSV},
		{"# domain, url and host\na.example\n", Auto},
		{"# id,url\n\"1\",\"http://a.example/\"\n", CSV},
		{"# id,url\n# nothing yet\n", Auto},
		{"Timestamp,Source,Item\n", Auto},
		{"a.example,b.example\n", Auto},
	}
	for _, tt := range tests {
		s := &transcript{t: t}
		stats, _ := Parse(strings.NewReader(tt.list), Options{}, s)
		if stats.Format != tt.want {
			t.Errorf("%q is read as %s, not %s", tt.list, stats.Format, tt.want)
		}
	}
}

func TestURLs(t *testing.T) {
	shared := func(name []byte) bool { return strings.Contains(string(name), "shared") }
	tests := []struct{ url, plain, deep string }{
		{"http://a.example", "=a.example", "=a.example"},
		{"hxxps://a[.]example:8080/", "=a.example", "=a.example"},
		{"http://a.example/x", "!url-path", "=a.example"},
		{"http://a.example?x", "!url-path", "=a.example"},
		{"http://a.example#x", "!url-path", "=a.example"},
		{"http://shared.example/", "!shared-host", "!shared-host"},
		{"http://x.shared.example/x", "!url-path", "!shared-host"},
		{"shared.example/", "!shared-host", "!shared-host"},
		{"a.example/x", "!url-path", "=a.example"},
		{"a.example/x?y=1", "!url-path", "=a.example"},
		{"http://user@a.example/", "!not-a-name", "!not-a-name"},
		{"http://user:pass@a.example/x", "!url-path", "!unknown-form"},
		{"http://192.0.2.1/x", "!address", "!address"},
		{"http://192.0.2.1:80/", "!address", "!address"},
		{"http://[2001:db8::1]:80/x", "!address", "!address"},
		{"http://0x7f.1/", "!address", "!address"},
		{"http://a%2eexample/", "!not-a-name", "!not-a-name"},
		{"http://a.example\\@b.example/", "!regex", "!regex"},
		{"http:///x", "!url-path", "!not-a-name"},
		{"javascript://a.example/", "!unknown-form", "!unknown-form"},
		{"http://", "!not-a-name", "!not-a-name"},
		{"http://co/", "!single-label", "!single-label"},
	}
	for _, tt := range tests {
		for _, list := range []struct {
			text   string
			format Format
		}{
			{tt.url, URLs},
			{tt.url, Auto},
			{"id,url\n1," + tt.url, Auto},
			{`[{"url":"` + strings.ReplaceAll(tt.url, `\`, `\\`) + `"}]`, Auto},
			{`{"Attribute":[{"type":"url","to_ids":true,"value":"` + strings.ReplaceAll(tt.url, `\`, `\\`) + `"}]}`, MISP},
			{`{"objects":[{"type":"indicator","id":"indicator--1","pattern":"[url:value = '` + strings.ReplaceAll(tt.url, `\`, `\\\\`) + `']"}]}`, Auto},
		} {
			for _, deep := range []bool{false, true} {
				want := tt.plain
				if deep {
					want = tt.deep
				}
				got := strings.Join(readAs(t, Options{Format: list.format, SharedHost: shared, DeepURLs: deep}, list.text), " ")
				if got != want {
					t.Errorf("%s, deep %v: %s, want %s", list.text, deep, got, want)
				}
			}
		}
	}
}
