package feed

import (
	"errors"
	"os"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/blocklist/guard"
)

// TestIndicator reads hosts as people write them, alone and as the line of a list: both say the same.
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
		if got := strings.Join(read(t, text), " "); got != want && !strings.Contains(text, "denyallow") { // of use in a list only
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

// TestAllowFileAsPeopleWriteIt has a line of each form allow its name, and the log name the lines that do not.
func TestAllowFileAsPeopleWriteIt(t *testing.T) {
	f := newFixture(t)
	blocked := names1("n", 12)
	allow := f.file("allow.txt", "\xff\xfe"+inUTF16("n0.example#why\r\nhttps://n1.example/\r\nn2[.]example\r\n*.n3.example\r\n@@||n4.example^|\r\n0.0.0.0 n5.example\r\n"+
		"https://n6.example/page\r\n\r\n32.66.216.184.93.rpz-ip CNAME .\r\n", false))
	cfg := Config{Lists: []string{f.file("a.txt", blocked)}, Allow: allow}
	l := f.once(cfg)
	for i, name := range strings.Fields(blocked) {
		if got, want := action(t, l, name), i < 6; (got == blocklist.Allow) != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	f.once(cfg)
	log := f.log.String()
	for _, want := range []string{"line=7 why=\"it is a URL that names a page", "line=9 why="} {
		if n := strings.Count(log, want); n != 1 {
			t.Errorf("%q is logged %d times", want, n)
		}
	}
	if !strings.Contains(log, "file="+allow) {
		t.Error("the log does not name the file")
	}
}

func TestReleasedAsPeopleWriteIt(t *testing.T) {
	f := newFixture(t)
	path := f.file("released.txt", "\xff\xfe"+inUTF16("# released\r\na.example#why\r\nhxxps://b[.]example/\r\n*.c.example\r\nlist:https://x.example/a#b\r\n", false))
	names, lists, err := readReleased(path)
	if err != nil || len(names) != 3 || !lists["https://x.example/a#b"] {
		t.Errorf("%v, %v, %v", names, lists, err)
	}
	if err := os.WriteFile(path, []byte("a.example\nhttps://b.example/page\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readReleased(path); err == nil || !strings.Contains(err.Error(), "line 2") || !strings.Contains(err.Error(), "names a page") {
		t.Errorf("a URL that names a page: %v", err)
	}
}

// TestEssentialAsPeopleWriteIt protects names in every form in which lists hold them; a line that is no name is refused by its number.
func TestEssentialAsPeopleWriteIt(t *testing.T) {
	f := newFixture(t)
	path := f.file("essential.txt", "*.a.example\n\n||b.example^\nhttps://c.example/\n=d.example # only itself\nwww[.]e.example\n")
	g, err := GuardConfig{Essential: path}.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a.example", "b.example", "c.example", "d.example", "www.e.example"} {
		name, err := blocklist.AppendName(nil, text)
		if err != nil {
			t.Fatal(err)
		}
		if f := g.Check(blocklist.Listing{Name: name, Scope: blocklist.Exact}); f.Outcome != guard.Refuse {
			t.Errorf("%s is not protected: %+v", text, f)
		}
	}
	path = f.file("essential.txt", "a.example\n\nnot a name\n")
	if _, err := (GuardConfig{Essential: path}).Load(); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a line that is no name: %v", err)
	}
}

// TestIndicatorOfAListLine reads lines of lists that block one host wherever a name is taken.
func TestIndicatorOfAListLine(t *testing.T) {
	for text, want := range map[string]blocklist.Scope{
		"||evil.example^": blocklist.Subtree, "|evil.example^": blocklist.Exact, "||*.evil.example^": blocklist.Subtree, "||evil[.]example^": blocklist.Subtree,
		"0.0.0.0 evil.example": blocklist.Exact, "127.0.0.1\tevil.example": blocklist.Exact,
		"||evil.example^$third-party": 0, "||evil.example/page": 0, "192.0.2.1 evil.example": 0, "0.0.0.0 evil.example more.example": 0, "||^": 0, "|": 0,
	} {
		name, scope, err := Indicator(text)
		if (err != nil) != (want == 0) || scope != want || err == nil && blocklist.NameText(name) != "evil.example" {
			t.Errorf("%q: %q %v, %v", text, name, scope, err)
		}
	}
}
