package feed

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
)

func TestReadFeeds(t *testing.T) {
	const file = `
# The feeds of a test.
[[feed]]
name = "CERT.PL"
url = "https://hole.cert.pl/domains/v2/domains.json"
format = "json"
category = "phishing"
weight = 3
interval = "15m"
max_age = "7d"
licence = "CC BY-NC-SA"

[[feed]]
name = "local"
path = "lists/local.txt"
scope = "exact"
policy = "block"
quorum = 2
deep_urls = true
`
	got, err := ReadFeeds(strings.NewReader(file), "/etc/rempart")
	if err != nil {
		t.Fatal(err)
	}
	want := []Feed{
		{
			Name: "CERT.PL", URL: "https://hole.cert.pl/domains/v2/domains.json", Format: format.JSON, Category: blocklist.Phishing,
			Weight: 3, Interval: 15 * time.Minute, MaxAge: 7 * 24 * time.Hour, Licence: "CC BY-NC-SA",
		},
		{Name: "local", Path: "/etc/rempart/lists/local.txt", Format: format.Auto, Scope: blocklist.Exact, Policy: PolicyBlock, Quorum: 2, DeepURLs: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestUnreachableQuorumIsLogged(t *testing.T) {
	f := newFixture(t)
	a, b := f.file("a.txt", "a.example\n"), f.file("b.txt", "a.example\n")
	f.new(Config{Feeds: []Feed{{Name: "a", Path: a, Quorum: 3}, {Name: "b", Path: b, Weight: 2}}})
	if log := f.log.String(); log != "" {
		t.Errorf("a quorum that can be reached: %s", log)
	}
	f.new(Config{Feeds: []Feed{{Name: "a", Path: a, Quorum: 3}, {Name: "b", Path: b}}})
	if log := f.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "list=a quorum=3 all_weigh=2") {
		t.Errorf("a quorum that cannot be reached: %s", log)
	}
}

func TestReadFeedsRefuses(t *testing.T) {
	const sound = "[[feed]]\nname = \"a\"\nurl = \"https://a.example/l.txt?token=hunter2\"\n"
	for name, tt := range map[string]struct{ file, want string }{
		"an unknown policy":          {sound + "policy = \"page\"\n", `line 4: feed "a": policy: there is no policy "page"`},
		"an unknown key":             {sound + "colour = \"red\"\n", `line 4: there is no key "colour"`},
		"an unknown table":           {"[[feeds]]\nname = \"a\"\n", "line 1"},
		"a key of no feed":           {"name = \"a\"\n" + sound, `line 1: "name" belongs to no feed`},
		"no TOML":                    {"[[feed]]\nname = a b\n", "line 2"},
		"no name":                    {"\n[[feed]]\npath = \"x\"\n", "line 2: feed 1: give it a name"},
		"the same name":              {sound + strings.Replace(sound, "l.txt", "m.txt", 1), `line 5: feed "a": name: another feed has that name`},
		"the same origin":            {sound + strings.Replace(sound, `"a"`, `"b"`, 1), `line 6: feed "b": url: it is read from where "a" is`},
		"no origin":                  {"[[feed]]\nname = \"a\"\n", `line 1: feed "a": it names neither a path nor a URL`},
		"two origins":                {sound + "path = \"x\"\n", "both a path and a URL"},
		"another scheme":             {strings.Replace(sound, "https", "gopher", 1), `line 3: feed "a": url: `},
		"an unknown format":          {sound + "format = \"xml\"\n", `line 4: feed "a": format: list format "xml"`},
		"an unknown category":        {sound + "\n\ncategory = \"rude\"\n", `line 6: feed "a": category: there is no category "rude"`},
		"an unknown scope":           {sound + "scope = \"all\"\n", "subtree"},
		"a short interval":           {sound + "interval = \"1s\"\n", `line 4: feed "a": interval: "1s" is no duration from 1m0s to 7d`},
		"a long interval":            {sound + "interval = \"8d\"\n", "interval"},
		"a negative age":             {sound + "max_age = \"-1h\"\n", "max_age"},
		"a weight":                   {sound + "weight = 100000\n", `line 4: feed "a": weight: 100000 is not from 1 to 1000`},
		"a wrong type":               {sound + "quorum = \"two\"\n", "line 4: quorum is a whole number without quotes, like 3"},
		"number as a string":         {sound + "interval = 15\n", "line 4: interval is a text in quotes"},
		"boolean as a string":        {sound + "deep_urls = \"yes\"\n", "line 4: deep_urls is true or false, without quotes"},
		"[feed] instead of [[feed]]": {"[feed]\nname = \"a\"\n", `line 1: feed "a": it names neither`},
		"feed is a string":           {"feed = \"a\"\n", "line 1: feeds are tables: begin each with [[feed]]"},
		"UTF-32":                     {"\xff\xfe\x00\x00", "UTF-32"},
		"in a second feed":           {sound + "\n# more\n[[feed]]\nname = \"b\"\npath = \"b\"\nweight = -1\n", `line 9: feed "b": weight: -1 is not from 1 to 1000`},
	} {
		_, err := ReadFeeds(strings.NewReader(tt.file), "")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error holds a secret: %v", name, err)
		}
	}
}

// TestFeedSettings checks the settings of a feed that apply to its listings.
func TestFeedSettings(t *testing.T) {
	f := newFixture(t)
	l := f.once(Config{Feeds: []Feed{
		{Name: "exact", Path: f.file("a.txt", "a.example\n"), Scope: blocklist.Exact, Category: blocklist.Botnet},
		{Name: "hosts only", Path: f.file("h.txt", "0.0.0.0 h.example\n||no.example^\n"), Format: format.Hosts},
	}})
	for name, want := range map[string]bool{"a.example": true, "www.a.example": false, "h.example": true, "no.example": false} {
		if blocks(t, l, name) != want {
			t.Errorf("%s blocked: %t", name, !want)
		}
	}
	name, _ := format.Name("a.example")
	view := l.Set().View()
	e, ok := view.Explain(name, view.Match(name, blocklist.AllCategories, time.Now().Unix()))
	if !ok || e.Category != blocklist.Botnet || len(e.Sources) != 1 || e.Sources[0] != "exact" || time.Since(time.Unix(e.Since, 0)) > 25*time.Hour {
		t.Errorf("Explain: %+v, want the category Botnet, the source exact and a time within the last day", e)
	}
}

func TestQuorum(t *testing.T) {
	f := newFixture(t)
	a, b := f.file("a.txt", "one.example\ntwo.example\n"), f.file("b.txt", "two.example\n")
	feeds := []Feed{{Name: "a", Path: a, Quorum: 2}, {Name: "b", Path: b, Quorum: 3}, {Name: "c", Path: f.file("c.txt", "c.example\n"), Weight: 2}}
	l := f.start(Config{Feeds: feeds})
	f.run(l)
	check := func(want map[string]bool) {
		t.Helper()
		for name, want := range want {
			if blocks(t, l, name) != want {
				t.Errorf("%s blocked: %t", name, !want)
			}
		}
	}
	check(map[string]bool{"one.example": false, "two.example": true, "c.example": true})
	f.file("c.txt", "c.example\none.example\n") // its weight is two
	l.Reload()
	eventually(t, "the quorum of one.example", func() bool { return blocks(t, l, "one.example") })
	f.file("b.txt", "nothing.example\n")
	l.Reload()
	eventually(t, "the end of that of two.example", func() bool { return !blocks(t, l, "two.example") })
	check(map[string]bool{"one.example": true, "c.example": true, "nothing.example": false})
	name, _ := format.Name("two.example")
	claims := l.Set().View().Claims(name)
	if len(claims) != 1 || claims[0].HasQuorum || claims[0].Sources[0] != "a" {
		t.Errorf("unexpected claims of a name whose quorum is not reached: %+v", claims)
	}
}

// TestOutdatedFeedIsNotInEffect checks that a feed that is not renewed is no longer in effect, and is in effect again after a renewal.
func TestOutdatedFeedIsNotInEffect(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("old.example\n")
	l := f.new(Config{
		Feeds:   []Feed{{Name: "old", URL: srv.URL, MaxAge: 2 * time.Second, Interval: 100 * time.Millisecond}},
		BuiltIn: []blocklist.Listing{{Name: []byte("\x05built\x02in\x00"), Scope: blocklist.Subtree}},
	})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.run(l)
	eventually(t, "its force", func() bool { return blocks(t, l, "old.example") })
	srv.Do(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "down", http.StatusInternalServerError) })
	eventually(t, "the end of its force", func() bool { return !blocks(t, l, "old.example") && l.Status().Lists[0].TooOld })
	if !blocks(t, l, "built.in") {
		t.Error("another list is no longer in effect")
	}
	srv.Say("old.example\n")
	eventually(t, "its force again", func() bool { return blocks(t, l, "old.example") })
}

// TestResponseIPTriggersAreInEffect checks that the address triggers of a policy zone are in effect in the set.
func TestResponseIPTriggersAreInEffect(t *testing.T) {
	f := newFixture(t)
	l := f.once(Config{Lists: []string{f.file("rpz.zone", "$ORIGIN rpz.example.\n@ SOA a. b. 1 2 3 4 5\nevil.example CNAME .\n24.0.113.82.45.rpz-ip CNAME .\n32.7.113.82.45.rpz-ip CNAME .\n")}})
	view := l.Set().View()
	for text, want := range map[string]blocklist.Action{
		"45.82.113.7": blocklist.BlockedBy, "45.82.113.200": blocklist.BlockedBy, "45.82.114.7": blocklist.Pass,
	} {
		if got := view.MatchAddr(netip.MustParseAddr(text), blocklist.AllCategories, 1).Action; got != want {
			t.Errorf("%s: %v, want %v; %+v", text, got, want, l.Status().Lists)
		}
	}
	if !blocks(t, l, "evil.example") || !view.HoldsPrefixes() {
		t.Errorf("evil.example is not blocked, or the view has no prefixes; status %+v", l.Status())
	}
}
