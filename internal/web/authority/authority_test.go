package authority

import (
	"strings"
	"testing"

	"rempart/internal/tomlfile"
)

func TestAuthorityOfDecision(t *testing.T) {
	table, err := Parse([]byte("[[authority]]\nname = \"Arcom\"\ndecisions = [\"arcom-*\", \"2026/114\"]\nipv4 = \"192.0.2.80\"\n[authority.text]\nfr = \"fr\"\nes = \"es\"\n[[authority]]\nname = \"Another\"\ndecisions = [\"arcom-1\", \"x\"]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for decision, want := range map[string]string{"arcom-1": "Arcom", "arcom-": "Arcom", "2026/114": "Arcom", "2026/1145": "", "x": "Another", "": "", "ARCOM-1": ""} {
		a := table.Of(decision)
		if got := nameOf(a); got != want {
			t.Errorf("decision %q: %q, want %q", decision, got, want)
		}
	}
	if a := (*Table)(nil).Of("x"); a != nil {
		t.Errorf("no table: %v", a)
	}
}

func nameOf(a *Authority) string {
	if a == nil {
		return ""
	}
	return a.Name
}

func TestInvalidFiles(t *testing.T) {
	for text, want := range map[string]string{
		"[[authority]]\ndecisions=['x']":                                       "name",
		"[[authority]]\nname='A'":                                              "decisions",
		"[[authority]]\nname='A'\ndecisions=['*x']":                            "decisions",
		"[[authority]]\nname='A'\ndecisions=['x']\nlink='http://a.example'":    "link",
		"[[authority]]\nname='A'\ndecisions=['x']\nlink='javascript:alert()'":  "link",
		"[[authority]]\nname='A'\ndecisions=['x']\nipv4='2001:db8::1'":         "ipv4",
		"[[authority]]\nname='A'\ndecisions=['x']\nipv6='192.0.2.1'":           "ipv6",
		"[[authority]]\nname='A'\ndecisions=['x']\nlinks='https://a.example/'": "links",
		"[[authority]]\nname='A'\ndecisions=['x']\n[authority.text]\nfr=''":    "text.fr",
		"[[authority]\n":                        "line 1",
		strings.Repeat("#", tomlfile.MaxSize+1): "more than",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v, want one with %q", text, err, want)
		}
	}
}
