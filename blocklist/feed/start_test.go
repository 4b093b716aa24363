package feed

import (
	"context"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch/fetchtest"
)

// TestLastSetIsInForceWhileURLsAreParsedAgain starts with another configuration of a URL, whose content takes long to parse again: the set of the last run is
// in force meanwhile, and Status says so.
func TestLastSetIsInForceWhileURLsAreParsedAgain(t *testing.T) {
	f := newFixture(t)
	srv := fetchtest.NewServer(t)
	srv.Say("a.example\n")
	f.once(Config{Feeds: []Feed{{Name: "a", URL: srv.URL}}})
	read := make(chan struct{})
	l := f.new(Config{Feeds: []Feed{{Name: "a", URL: srv.URL, Category: blocklist.Phishing}}, Progress: func(Progress) { <-read }})
	l.timing.start, l.timing.last = 20*time.Millisecond, 10*time.Millisecond
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the set of the last run is in force", func() bool { return blocks(t, l, "a.example") && l.Status().Version > 0 })
	version := l.Status().Version
	f.run(l)
	close(read)
	eventually(t, "the set of the new configuration", func() bool { return l.Status().Version > version && blocks(t, l, "a.example") })
}

// TestLastSetIsInForceWhileTheNextIsCompiled checks that the set of the last run is active until the next set is compiled, which takes long for large lists.
func TestLastSetIsInForceWhileTheNextIsCompiled(t *testing.T) {
	f := newFixture(t)
	f.once(Config{Lists: []string{f.file("a.txt", "a.example\n")}})
	var l *Lists
	var first []bool // whether a.example and b.example were blocked at the first change
	l = f.new(Config{Lists: []string{f.file("a.txt", "b.example\n")}, Changed: func() {
		if first == nil {
			first = []bool{blocks(t, l, "a.example"), blocks(t, l, "b.example")}
		}
	}})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.run(l)
	if len(first) != 2 || !first[0] || first[1] || blocks(t, l, "a.example") || !blocks(t, l, "b.example") {
		t.Errorf("the first set of the start blocks %v, want that of the last run", first)
	}
}

// TestStatusDescribesChangedSet checks that Status describes the active set when Changed is called. A control publishes only lists that Status reports as
// read.
func TestStatusDescribesChangedSet(t *testing.T) {
	f := newFixture(t)
	var l *Lists
	var seen []Status
	l = f.new(Config{Lists: []string{f.file("a.txt", "a.example\n")}, Changed: func() { seen = append(seen, l.Status()) }})
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.run(l)()
	if len(seen) != 1 || seen[0].Version != 1 || seen[0].Lists[0].Fetched.IsZero() || seen[0].Lists[0].Result != OK {
		t.Errorf("statuses at Changed: %+v, want one, of version 1, with a list that was fetched and read", seen)
	}
}

// TestRunEndsDuringStart checks that Run can end, as after an error elsewhere in the program, while a list that Start began to read is still being read.
func TestRunEndsDuringStart(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	l := f.new(Config{Lists: []string{f.file("a.txt", strings.Repeat("# nothing\n", 1<<20)+"a.example\n")}, Progress: func(Progress) { <-ctx.Done() }})
	l.timing.start, l.timing.last = 20*time.Millisecond, 10*time.Millisecond
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if blocks(t, l, "a.example") || l.Set().View().Version() > 0 {
		t.Error("a list was read to its end although Run had to end")
	}
}
