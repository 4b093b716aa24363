package format

import (
	"errors"
	"strings"
	"testing"

	"rempart/blocklist"
)

// TestIndicator checks that a host as people write it has the same meaning alone and as the line of a list.
func TestIndicator(t *testing.T) {
	for text, want := range map[string]string{
		"evil.example":                  "evil.example",
		"*.evil.example":                "evil.example",
		".evil.example":                 "evil.example",
		"evil[.]example":                "evil.example",
		"evil(.)example":                "evil.example",
		"evil{.}example":                "evil.example",
		"evil[dot]example":              "evil.example",
		"evil(dot)example":              "evil.example",
		"EVIL[DOT]example":              "evil.example",
		"Evil[Dot]Example":              "evil.example",
		"evil.example\u200d":            "evil.example",
		"||evil.example^$important":     "evil.example",
		"||evil.example^$all,document":  "evil.example",
		"||evil.example^$third-party":   "!modifier",
		"||evil.example^$denyallow=x":   "!modifier",
		"*.evil[.]example":              "evil.example",
		"hxxps://evil.example/":         "=evil.example",
		"hXXp://evil(.)example":         "=evil.example",
		"hxxps[:]//evil[.]example/":     "=evil.example",
		"hxxps[://]evil[.]example[/]":   "=evil.example",
		"wss://evil.example":            "=evil.example",
		"evil.example:8080":             "=evil.example",
		"evil[.]example:8080":           "=evil.example",
		"evil.example/":                 "=evil.example",
		"https://evil.example/login":    "!url-path",
		"hxxps://evil[.]example/a[.]js": "!url-path",
		"evil[.]example/login":          "!url-path",
		"192[.]0[.]2[.]1":               "!address",
		"https://192.0.2.1/":            "!address",
		"localhost[.]":                  "!local-name",
		"[[[.]]]":                       "!unknown-form",
		"([.])":                         "!regex",
	} {
		if got := strings.Join(read(t, text), " "); got != want && !strings.Contains(text, "denyallow") { // has a meaning only in a list
			t.Errorf("%q in a list: got %s, want %s", text, got, want)
		}
		got := ""
		if name, scope, err := Indicator(" " + text + "\u200b"); err == nil {
			got = scoped(name, scope)
		} else if reason := Reason(0); errors.As(err, &reason) {
			got = "!" + reason.String()
		}
		if got != want {
			t.Errorf("%q alone: got %s, want %s", text, got, want)
		}
	}
	if name, err := Host("https://evil.example/login?x"); err != nil || blocklist.NameText(name) != "evil.example" {
		t.Errorf("the host of a URL that names a page: %s, %v", name, err)
	}
	for title, want := range map[string]bool{"Domain": true, "host": true, " URL ": true, "fqdn": true, "name": true, "Nom de domaine": true, "category": false, "": false, "evil.example": false} {
		if IsNameColumn(title) != want {
			t.Errorf("column %q: %t", title, !want)
		}
	}
}

// TestIndicatorAcceptsListLine checks that Indicator accepts a line of a list that blocks one host.
func TestIndicatorAcceptsListLine(t *testing.T) {
	for text, want := range map[string]blocklist.Scope{
		"||evil.example^": blocklist.Subtree, "|evil.example^": blocklist.Exact, "||*.evil.example^": blocklist.Subtree, "||evil[.]example^": blocklist.Subtree,
		"0.0.0.0 evil.example": blocklist.Exact, "127.0.0.1\tevil.example": blocklist.Exact,
		"||evil.example^$third-party": 0, "||evil.example/page": 0, "192.0.2.1 evil.example": 0, "0.0.0.0 evil.example more.example": 0, "||^": 0, "|": 0,
	} {
		name, scope, err := Indicator(text)
		if (err != nil) != (want == 0) || scope != want || err == nil && blocklist.NameText(name) != "evil.example" {
			t.Errorf("Indicator(%q) = %q, %v, %v; want evil.example with the scope %v, or an error if this is 0", text, name, scope, err, want)
		}
	}
}
