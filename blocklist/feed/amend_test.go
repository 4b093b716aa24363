package feed

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/blocklist/feed/store"
)

// TestSmallChangesAreStoredInOverlay checks that small changes are stored in an overlay of the same snapshot, also across restarts.
func TestSmallChangesAreStoredInOverlay(t *testing.T) {
	f := newFixture(t)
	allow := f.file("allow.txt", "")
	cfg := Config{Lists: []string{f.file("a.txt", names1("n", 500))}, Allow: allow}
	l := f.start(cfg)
	stop := f.run(l)
	snapshot := l.Set().View().Snapshot().Checksum()
	f.file("a.txt", names1("n", 490)+"new.example\n")
	eventually(t, "the new name", func() bool { return blocks(t, l, "new.example") && !blocks(t, l, "n495.example") })
	f.file("allow.txt", "n1.example\n")
	eventually(t, "the allowed name", func() bool { return action(t, l, "www.n1.example") == blocklist.Allow })
	if got := l.Set().View(); got.Snapshot().Checksum() != snapshot || got.Stats().Overlay != 13 || got.Stats().Names != 491 {
		t.Errorf("view after small changes: %+v, want the same snapshot, 13 names in the overlay and 491 in all", got.Stats())
	}
	version := l.Set().View().Version()
	stop()

	l = f.once(cfg)
	if s := l.Status(); s.Version != version || !blocks(t, l, "new.example") || blocks(t, l, "n495.example") || blocks(t, l, "n1.example") {
		t.Errorf("after a restart: %+v", s)
	}
	for _, s := range l.Status().Lists {
		if s.Parses != 0 {
			t.Errorf("%s was parsed again", s.Name)
		}
	}
	// A damaged overlay is made again.
	for _, content := range []string{"garbage", ""} {
		if err := os.WriteFile(filepath.Join(f.data, overlayFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l = f.once(cfg)
		if !blocks(t, l, "new.example") || blocks(t, l, "n495.example") || l.Status().Version < version {
			t.Errorf("after a damaged overlay: %+v", l.Status())
		}
		version = l.Status().Version
	}
}

// TestOverlaysAreMergedIntoSnapshots checks that overlays are merged into new snapshots while changes continue.
func TestOverlaysAreMergedIntoSnapshots(t *testing.T) {
	f := newFixture(t)
	list := f.file("a.txt", names1("n", 100))
	cfg := Config{Lists: []string{list}}
	l := f.new(cfg)
	l.limits.merge = 5
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := f.run(l)
	first := l.Set().View().Snapshot().Checksum()
	for i := range 30 {
		f.file("a.txt", names1("n", 100)+names1("m", i+1))
		l.Reload()
		eventually(t, "a change", func() bool { return blocks(t, l, fmt.Sprintf("m%d.example", i)) })
	}
	eventually(t, "a merge", func() bool { return strings.Contains(f.log.String(), "overlay merged") })
	eventually(t, "little over it", func() bool { return l.Set().View().Stats().Overlay <= 6 })
	if l.Set().View().Snapshot().Checksum() == first {
		t.Error("the first snapshot was not replaced")
	}
	version := l.Set().View().Version()
	stop()
	l = f.once(cfg)
	for i := range 30 {
		if !blocks(t, l, fmt.Sprintf("m%d.example", i)) {
			t.Fatalf("m%d.example is no longer blocked", i)
		}
	}
	if s := l.Status(); s.Version < version || s.Names != 130 {
		t.Errorf("version %d after %d, %d names", s.Version, version, s.Names)
	}
}

// TestPreviousSnapshotReplacesDamagedOne checks that the previous snapshot is used if the newest is damaged: at its ends, which is detected when it is opened,
// or inside, which is detected when it is read completely.
func TestPreviousSnapshotReplacesDamagedOne(t *testing.T) {
	for _, where := range []string{"header", "trailer", "names"} {
		t.Run(where, func(t *testing.T) {
			f := newFixture(t)
			cfg := Config{Lists: []string{f.file("a.txt", names1("n", 3000))}}
			l := f.new(cfg)
			l.limits.amend = 0
			if err := l.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			stop := f.run(l)
			f.file("a.txt", names1("n", 3001))
			eventually(t, "the second set", func() bool { return blocks(t, l, "n3000.example") })
			version := l.Set().View().Version()
			stop()

			path := filepath.Join(f.data, snapshotFile)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := map[string]int{"header": 20, "trailer": len(data) - 30, "names": 4000}[where]
			data[at] ^= 1
			if err := os.Remove(path); err != nil { // mapped files are never written in place
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			l = f.start(cfg)
			if !blocks(t, l, "n0.example") {
				t.Error("no set is active after Start")
			}
			f.run(l)
			eventually(t, "a sound set", func() bool {
				return l.Status().Version > version && l.Status().Err == "" && blocks(t, l, "n3000.example")
			})
			if n := strings.Count(f.log.String(), "damaged"); n == 0 || n > 4 {
				t.Errorf("the damage was logged %d times", n)
			}
			if err := l.Set().View().Snapshot().Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestLongListIsCollectedInRuns checks that a list that is too long for memory is collected in several runs, and that no files of the runs are left.
func TestLongListIsCollectedInRuns(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("a.txt", "@@||n7.example^\n||n8.example^$badfilter\n"+names1("n", 20_000)+names1("n", 20_000))}}
	l := f.new(cfg)
	l.limits.run = 1 << 20
	if err := l.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.run(l)
	f.file("a.txt", names1("n", 19_000))
	eventually(t, "the second content", func() bool { return !blocks(t, l, "n19999.example") })
	eventually(t, "the status", func() bool { s := l.Status(); return s.Names == 19_000 && s.Lists[0].Entries == 19_000 })
	left, err := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.NewBodySuffix))
	if err != nil || len(left) > 0 {
		t.Errorf("temporary files were not removed: %v, %v", left, err)
	}
}

// TestDamagedCopyDoesNotStopRenewal checks that the new content of a list becomes active although the copy of the old content is damaged.
func TestDamagedCopyDoesNotStopRenewal(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("a.txt", names1("n", 2000))}}
	f.once(cfg)
	paths, err := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.CopySuffix))
	if err != nil || len(paths) != 1 {
		t.Fatalf("copies: %q, %v; want one", paths, err)
	}
	alter(t, paths[0])
	l := f.start(cfg)
	f.run(l)
	f.file("a.txt", names1("n", 2001))
	l.Reload()
	eventually(t, "the new content", func() bool { return blocks(t, l, "n2000.example") })
}

// TestSetAfterFallbackHasNoOldListings checks that, after a fallback to the set of an earlier run, the next set holds no listings of that set.
func TestSetAfterFallbackHasNoOldListings(t *testing.T) {
	f := newFixture(t)
	f.once(Config{Lists: []string{f.file("a.txt", "a.example\n")}})
	l := f.new(Config{Lists: []string{f.file("b.txt", "b.example\n")}})
	if err := l.takeFolder(); err != nil {
		t.Fatal(err)
	}
	defer l.unlock()
	l.refreshFiles(l.lists)
	l.publisher.fallBack()
	if !blocks(t, l, "a.example") {
		t.Fatal("the set of the earlier run is not active")
	}
	if err := l.publisher.publish(); err != nil {
		t.Fatal(err)
	}
	if blocks(t, l, "a.example") || !blocks(t, l, "b.example") {
		t.Error("the new set is not that of the configured lists")
	}
}

// TestOldCopiesAreRemoved checks that old copies are removed when a list changes many times while a reader holds the set.
func TestOldCopiesAreRemoved(t *testing.T) {
	f := newFixture(t)
	cfg := Config{Lists: []string{f.file("a.txt", names1("a", 1500)), f.file("b.txt", names1("b", 1500))}}
	l := f.start(cfg)
	f.run(l)
	for i := range 5 {
		f.file("a.txt", names1(fmt.Sprintf("c%d-", i), 1500))
		f.file("b.txt", names1(fmt.Sprintf("d%d-", i), 1500))
		l.Reload()
		eventually(t, "the content", func() bool { return strings.Count(f.log.String(), "list loaded") >= 2*i+4 })
	}
	eventually(t, "few copies", func() bool {
		paths, _ := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.CopySuffix))
		return len(paths) <= 4
	})
}
