package journal_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
)

// stoppedEdge is a stopped edge that has n0.example to n19.example in force by records in its file of records.
type stoppedEdge struct {
	keys    *journaltest.Keys
	control *journaltest.Control
	dir     string
	tail    string
	version uint64
}

func stopEdge(t *testing.T) *stoppedEdge {
	t.Helper()
	k, dir := journaltest.NewKeys(t), t.TempDir()
	s := &stoppedEdge{keys: k, dir: filepath.Join(dir, "e"), control: journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)}
	first := s.control.State().Version
	e := journaltest.StartEdge(t, k, s.dir, journaltest.FromStream(s.control, "e"), journal.Node{ID: "e"})
	e.Reaches(t, first)
	for i := range 20 {
		s.version = s.control.Push(t, k.ChangeSet(t, fmt.Sprint("push", i), journaltest.Block(fmt.Sprintf("n%d.example", i)))).Version
	}
	e.Reaches(t, s.version)
	e.Stop()
	s.tail = filepath.Join(s.dir, fmt.Sprint("tail-", first))
	return s
}

// restart starts the edge without control, and returns the number of names that it blocks.
func (s *stoppedEdge) restart(t *testing.T) (*journaltest.Edge, int) {
	t.Helper()
	e := journaltest.StartEdge(t, s.keys, s.dir, journaltest.Offline{}, journal.Node{ID: "e"})
	n := 0
	for i := range 20 {
		if journaltest.Judge(t, e.Set().View(), fmt.Sprintf("n%d.example", i)) == blocklist.BlockedBy {
			n++
		}
	}
	return e, n
}

// frames returns the offsets of the frames in a file of records.
func frames(t *testing.T, data []byte) (at []int) {
	t.Helper()
	for i := 0; i < len(data); i += 12 + int(binary.LittleEndian.Uint32(data[i:])) {
		at = append(at, i)
	}
	return at
}

func TestEdgeStartsWithDamagedRecords(t *testing.T) {
	for what, c := range map[string]struct {
		change func(data []byte, at []int) []byte
		blocks int
		aside  int
	}{
		"bit in the first record":           {func(d []byte, at []int) []byte { d[at[0]+12+200] ^= 4; return d }, 19, 1},
		"bit in a middle record":            {func(d []byte, at []int) []byte { d[at[9]+12+200] ^= 4; return d }, 19, 1},
		"bit in the last record":            {func(d []byte, at []int) []byte { d[at[19]+12+200] ^= 4; return d }, 19, 1},
		"bit at the start of a record":      {func(d []byte, at []int) []byte { d[at[9]+12] ^= 4; return d }, 19, 1},
		"length too small":                  {func(d []byte, at []int) []byte { d[at[9]] ^= 4; return d }, 20, 1},
		"length far too large":              {func(d []byte, at []int) []byte { d[at[9]+3] ^= 64; return d }, 20, 1},
		"length that spans several records": {func(d []byte, at []int) []byte { d[at[9]+1] ^= 8; return d }, 20, 1},
		"length of the last record":         {func(d []byte, at []int) []byte { d[at[19]+3] ^= 64; return d }, 20, 1},
		"a record is missing":               {func(d []byte, at []int) []byte { return append(d[:at[9]:at[9]], d[at[10]:]...) }, 19, 0},
		"two damaged records":               {func(d []byte, at []int) []byte { d[at[4]+212] ^= 4; d[at[9]+212] ^= 1; return d }, 18, 1},
		"cut within the last record":        {func(d []byte, at []int) []byte { return d[:len(d)-100] }, 19, 1},
		"empty file":                        {func([]byte, []int) []byte { return nil }, 0, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := stopEdge(t)
			data, err := os.ReadFile(s.tail)
			if err != nil {
				t.Fatal(err)
			}
			at := frames(t, data)
			if len(at) != 20 {
				t.Fatalf("%d records on disk, want 20", len(at))
			}
			if err := os.WriteFile(s.tail, c.change(data, at), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second start reads the files that the first one wrote
				e, n := s.restart(t)
				if n != c.blocks {
					t.Errorf("%d names are blocked, want %d", n, c.blocks)
				}
				if lost := e.Health().Lost; (lost == s.version) != (c.blocks < 20) {
					t.Errorf("version %d is lost, with %d names", lost, n)
				}
				e.Stop()
			}
			aside, _ := filepath.Glob(filepath.Join(s.dir, "damaged-*"))
			if len(aside) != c.aside {
				t.Errorf("set aside: %v, want %d files", aside, c.aside)
			}
			e := journaltest.StartEdge(t, s.keys, s.dir, journaltest.FromStream(s.control, "e"), journal.Node{ID: "e"})
			e.Reaches(t, s.version)
			if lost := e.Health().Lost; lost != 0 {
				t.Errorf("version %d is still lost after the edge reached control again", lost)
			}
			after := s.control.Push(t, s.keys.ChangeSet(t, "after", journaltest.Block("after.example"))).Version
			e.Reaches(t, after)
			e.Stop()
			e, n := s.restart(t)
			if n != 20 || e.State().Version != after {
				t.Errorf("after the edge reached control again and was restarted: %d names, version %d", n, e.State().Version)
			}
		})
	}
}

// TestEdgeStartsWithDamagedState checks that an edge starts from the previous state, with all records after it.
func TestEdgeStartsWithDamagedState(t *testing.T) {
	s := stopEdge(t)
	e := journaltest.StartEdge(t, s.keys, s.dir, journaltest.FromStream(s.control, "e"), journal.Node{ID: "e"})
	load := s.control.PublishList(t, "listed.example")
	e.Reaches(t, load.Version)
	last := s.control.Push(t, s.keys.ChangeSet(t, "last", journaltest.Block("last.example"))).Version
	e.Reaches(t, last)
	e.Stop()
	journaltest.FlipBit(t, filepath.Join(s.dir, "state"), `"Epoch"`)
	for range 2 {
		e, n := s.restart(t)
		if n != 20 {
			t.Errorf("%d names are blocked", n)
		}
		journaltest.WantVerdict(t, e.Set().View(), "last.example", blocklist.BlockedBy)
		e.Stop()
	}
	e = journaltest.StartEdge(t, s.keys, s.dir, journaltest.FromStream(s.control, "e"), journal.Node{ID: "e"})
	e.Reaches(t, last)
	journaltest.WantVerdict(t, e.Set().View(), "listed.example", blocklist.BlockedBy)
}

func TestRemovedRecordsAreReported(t *testing.T) {
	s := stopEdge(t)
	if err := os.Remove(s.tail); err != nil {
		t.Fatal(err)
	}
	e, _ := s.restart(t)
	if lost := e.Health().Lost; lost != s.version {
		t.Errorf("version %d is lost, want %d", lost, s.version)
	}
	e.Stop()
}
