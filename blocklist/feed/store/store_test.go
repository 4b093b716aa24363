package store

import (
	"errors"
	"io/fs"
	"os"
	"testing"
	"time"

	"rempart/blocklist"
)

// write writes a copy of one name and its record.
func write(t *testing.T, s Store, key, name string, body uint64) *Record {
	t.Helper()
	b := blocklist.NewBuilder()
	wire, err := blocklist.AppendName(nil, name)
	if err == nil {
		err = b.Add(blocklist.Listing{Name: wire, Scope: blocklist.Exact})
	}
	rec := &Record{Source: key, Parser: 1, Settings: 7, Body: body, Fetched: time.Unix(1_700_000_000, 0).UTC()}
	if err == nil {
		err = s.WriteCopy(key, rec, blocklist.Copy{Inputs: []*blocklist.Input{b.Input(blocklist.Source{Name: key})}})
	}
	if err == nil {
		err = s.SaveRecord(key, rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// TestRecordIdentifiesCopy checks that a record leads to its copy, also after the record was lost, and that Prune keeps wanted copies only.
func TestRecordIdentifiesCopy(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	if _, err := s.Record("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
	first, second := write(t, s, "a", "one.example", 1), write(t, s, "a", "two.example", 2)
	got, err := s.Record("a")
	if err != nil || got.Identity() != second.Identity() || got.Entries != 1 {
		t.Errorf("Record: %+v, %v; want the second record, with one entry", got, err)
	}
	input, done, err := s.OpenCopy("a", got)
	if err != nil {
		t.Fatal(err)
	}
	done()
	if input.Len() != 1 {
		t.Errorf("%d listings", input.Len())
	}
	if _, _, err := s.OpenCopy("a", &Record{Parser: 1, Settings: 7, Body: 2, Checksum: 1}); !errors.Is(err, blocklist.ErrSnapshot) {
		t.Errorf("another checksum: %v", err)
	}
	if copies := s.UnrecordedCopies("a"); len(copies) != 2 || BodyOf(copies[0].Identity, 7, 1) == 0 {
		t.Errorf("copies by name: %+v", copies)
	}
	if err := s.Prune(map[string][]*Record{"a": {second, nil}}); err != nil {
		t.Fatal(err)
	}
	if s.HasCopy("a", first) || !s.HasCopy("a", second) {
		t.Error("Prune removed another copy")
	}
}

// TestCleanKeepsConfiguredLists checks that Clean removes fetched contents and old files of lists that are not configured.
func TestCleanKeepsConfiguredLists(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	old := time.Now().Add(-2 * forgetAfter)
	for _, name := range []string{"a.body", "a.new", "b.body", "c.body"} {
		path := s.Dir + "/" + name
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "c.body" {
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Clean([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"a.body": true, "a.new": false, "b.body": false, "c.body": true} {
		if _, err := os.Stat(s.Dir + "/" + name); (err == nil) != want {
			t.Errorf("%s after Clean: %v, must exist: %v", name, err, want)
		}
	}
}
