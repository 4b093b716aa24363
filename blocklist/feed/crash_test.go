package feed

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/store"
	"rempart/internal/dnstest"
)

// TestKilledProcessLeavesCompleteSet starts the test binary as another process, which prints each version that it makes active, and kills that process.
const (
	lifeFolder = "REMPART_TEST_LIFE" // the environment variable that gives the folder of the process
	lifeWords  = "in force "
)

// TestMain runs live if lifeFolder is set, and the tests otherwise.
func TestMain(m *testing.M) {
	if dir := os.Getenv(lifeFolder); dir != "" {
		if err := live(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// live rewrites a list and makes sets of it, with and without overlays, until the process is killed.
func live(dir string) error {
	list := filepath.Join(dir, "list.txt")
	cfg := Config{Lists: []string{list}, Dir: filepath.Join(dir, "data")}
	for i := 0; ; i++ {
		if err := os.WriteFile(list, []byte(names1("kept", 3000)+names1(fmt.Sprintf("new%d-", os.Getpid()+i), 1+i%50)), 0o600); err != nil {
			return err
		}
		l, err := New(cfg)
		if err != nil {
			return err
		}
		if i%2 == 1 {
			l.limits.amend = 0
		}
		if err := l.Start(context.Background()); err != nil {
			return err
		}
		l.copies.savePostponed()
		for j := range 3 {
			text := names1("kept", 3000) + names1(fmt.Sprintf("more%d-", i), 1+j*10)
			if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
				return err
			}
			l.copies.refreshFile(l.lists[0])
			if err := l.publisher.publish(); err != nil {
				return err
			}
			fmt.Println(lifeWords, l.Set().View().Version())
		}
		l.unlock()
	}
}

// TestKilledProcessLeavesCompleteSet checks the files of a process that is killed while it makes sets: they can be opened, are complete, and hold the last
// printed version or a later one.
func TestKilledProcessLeavesCompleteSet(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	said, rounds := uint64(0), 25
	if raceEnabled {
		rounds = 3
	}
	for range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), lifeFolder+"="+dir)
		dnstest.KillOne(t, cmd, 1+rand.IntN(6), time.Duration(rand.IntN(30))*time.Millisecond, func(line string) {
			fmt.Sscan(strings.TrimPrefix(line, lifeWords), &said)
		})
		checkLeft(t, filepath.Join(dir, "data"), said)
	}
}

// checkLeft opens the files of a killed process, as the next start does.
func checkLeft(t *testing.T, data string, said uint64) {
	t.Helper()
	l, err := New(Config{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	view, err := l.publisher.openSet()
	if err != nil {
		t.Fatalf("version %d was active, but no set can be opened: %v", said, err)
	}
	if err := view.Snapshot().Verify(); err != nil {
		t.Fatal(err)
	}
	if view.Version() < said {
		t.Fatalf("version %d was active, but the files hold version %d", said, view.Version())
	}
	for i := range 3000 {
		name, _ := format.Name(fmt.Sprintf("kept%d.example", i))
		if view.Match(name, blocklist.AllCategories, 1).Action != blocklist.BlockedBy {
			t.Fatalf("kept%d.example is missing in version %d", i, view.Version())
		}
	}
}

// TestSetStaysActiveOnFullDisk checks a full data folder: the active set stays active and on disk, and the next set is made when there is space again.
func TestSetStaysActiveOnFullDisk(t *testing.T) {
	f := newFixture(t)
	dnstest.SmallDisk(t, f.data, 512<<10)
	cfg := Config{Lists: []string{f.file("a.txt", names1("n", 900))}} // few enough to pass the guard against mass changes
	l := f.start(cfg)
	stop := f.run(l)
	eventually(t, "the copy", func() bool {
		records, _ := filepath.Glob(filepath.Join(f.data, listsFolder, "*"+store.RecordSuffix))
		return len(records) == 1
	})
	filler := filepath.Join(f.data, "filler")
	dnstest.FillDisk(t, filler)
	f.file("a.txt", names1("m", 900))
	l.Reload()
	eventually(t, "the failure", func() bool { s := l.Status(); return s.Err != "" || s.Lists[0].Err != "" })
	if !blocks(t, l, "n899.example") {
		t.Error("the active set was lost")
	}
	view, err := l.publisher.openSet()
	if err != nil || view.Snapshot().Verify() != nil {
		t.Errorf("the snapshot on disk: %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next set", func() bool { return blocks(t, l, "m899.example") })
	stop()
	if l = f.once(cfg); !blocks(t, l, "m899.example") {
		t.Error("the new set is not active after a restart")
	}
}

// TestStartOnFullDiskUsesStoredSet checks a start with a full data folder: the folder is reported as not writable and the set on disk is active. The report
// ends when there is space again.
func TestStartOnFullDiskUsesStoredSet(t *testing.T) {
	f := newFixture(t)
	dnstest.SmallDisk(t, f.data, 512<<10)
	cfg := Config{Lists: []string{f.file("a.txt", names1("n", 9))}}
	f.once(cfg)
	filler := filepath.Join(f.data, "filler")
	dnstest.FillDisk(t, filler)
	l := f.start(cfg)
	f.run(l)
	if s := l.Status(); s.Folder == "" || !blocks(t, l, "n8.example") {
		t.Errorf("start on a full disk: status %+v, want a problem of the folder, and n8.example blocked", s)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "room", func() bool { return l.Status().Folder == "" })
}
