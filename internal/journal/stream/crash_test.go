package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// Environment variables that make the test binary a process that appends and prints each acknowledged sequence.
const (
	lifeFolder = "REMPART_TEST_LIFE" // the process's folder
	lifeWords  = "kept "
)

// longTests is the environment variable that enables tests of several minutes.
const longTests = "REMPART_LONG_TESTS"

// TestMain runs the process of a test if its environment variable is set, and otherwise the tests.
func TestMain(m *testing.M) {
	if config := os.Getenv(serverConfig); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(lifeFolder); dir != "" {
		if err := live(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// live appends until it is killed.
func live(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	last, err := s.Last(ctx, "")
	if err != nil && !errors.Is(err, ErrNone) {
		return err
	}
	for after := last.Sequence; ; {
		if after, err = s.Append(ctx, after, "change", payload(after+1)); err != nil {
			return err
		}
		fmt.Println(lifeWords, after)
	}
}

// TestKilledProcessLosesNothing checks that all acknowledged records exist after a process that appends was killed at a random moment.
func TestKilledProcessLosesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rounds := 30
	if os.Getenv(longTests) != "" {
		rounds = 200
	}
	dir := filepath.Join(t.TempDir(), "journal")
	said := uint64(0)
	for round := range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), lifeFolder+"="+dir)
		dnstest.KillOne(t, cmd, rand.IntN(30), time.Duration(rand.IntN(20_000))*time.Microsecond, func(line string) {
			fmt.Sscan(strings.TrimPrefix(line, lifeWords), &said)
		})
		if round%10 == 9 || round == rounds-1 {
			s := open(t, Config{Dir: dir, Log: testLog(t)})
			checkKept(t, s, said)
			s.Close()
		}
	}
	t.Logf("%d kills: %d records acknowledged, none lost", rounds, said)
}

// TestStreamsAreCreatedAfterKill checks that the next start succeeds after a process was killed while it created the streams.
func TestStreamsAreCreatedAfterKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 30 {
		dir := filepath.Join(t.TempDir(), "journal")
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), lifeFolder+"="+dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(round*3000+rand.IntN(3000)) * time.Microsecond)
		cmd.Process.Kill()
		cmd.Wait()
		s := open(t, Config{Dir: dir, Log: testLog(t)})
		if _, err := s.Last(t.Context(), ""); err != nil && !errors.Is(err, ErrNone) {
			t.Errorf("round %d: %v", round, err)
		}
		s.Close()
	}
}

// TestUnfinishedStreamIsRemoved checks that a folder with a stream whose creation was interrupted can be opened.
func TestUnfinishedStreamIsRemoved(t *testing.T) {
	c := testConfig(t)
	open(t, c).Close()
	stream := filepath.Join(c.Dir, "jetstream", "$G", "streams", journalStream)
	for _, name := range []string{"meta.sum", "msgs/index.db"} {
		if err := os.Remove(filepath.Join(stream, name)); err != nil {
			t.Fatal(err)
		}
	}
	appendOK(t, open(t, c), 0, "change", payload(1))
}

// checkKept checks that all records up to a sequence exist with their payload.
func checkKept(t *testing.T, s *Stream, said uint64) {
	t.Helper()
	if said > 0 {
		collect(t, s.Reader, 0, int(said))
	}
	last, err := s.Last(t.Context(), "")
	if errors.Is(err, ErrNone) {
		err = nil
	}
	if err != nil || last.Sequence < said || last.Sequence > said+1 && said > 0 {
		t.Fatalf("the last record is %d, but record %d was acknowledged: error %v", last.Sequence, said, err)
	}
}

// TestJournalOpensAfterTornWrite checks that a journal can be opened after a power failure during a write. The test cuts and changes the end of its files.
func TestJournalOpensAfterTornWrite(t *testing.T) {
	for name, spoil := range map[string]func(b []byte, whole int) []byte{
		"half a record":                   func(b []byte, whole int) []byte { return b[:whole+(len(b)-whole)/2] },
		"a record's head":                 func(b []byte, whole int) []byte { return b[:whole+3] },
		"zeros for a record":              func(b []byte, whole int) []byte { clear(b[whole:]); return b },
		"changed byte in the last record": func(b []byte, whole int) []byte { b[len(b)-1] ^= 1; return b },
		"zeros after a record":            func(b []byte, whole int) []byte { return append(b, make([]byte, 1000)...) },
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(t)
			s := open(t, c)
			for i := range uint64(20) {
				appendOK(t, s, i, "change", payload(i+1))
			}
			blocks, err := filepath.Glob(filepath.Join(c.Dir, "jetstream", "*", "streams", journalStream, "msgs", "*.blk"))
			if err != nil || len(blocks) != 1 {
				t.Fatalf("block files %q, %v; want one", blocks, err)
			}
			whole, err := os.Stat(blocks[0])
			if err != nil {
				t.Fatal(err)
			}
			appendOK(t, s, 20, "change", bytes.Repeat([]byte("torn"), 100))
			s.Close()
			b, err := os.ReadFile(blocks[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(blocks[0], spoil(b, int(whole.Size())), 0o600); err != nil {
				t.Fatal(err)
			}
			// The server writes the index only at a clean shutdown.
			if err := os.Remove(filepath.Join(filepath.Dir(blocks[0]), "index.db")); err != nil {
				t.Fatal(err)
			}
			s = open(t, c)
			collect(t, s.Reader, 0, 20)
			last, err := s.Last(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the last record is %d", last.Sequence)
			appendOK(t, s, last.Sequence, "change", payload(last.Sequence+1))
			s.Close()
			s = open(t, c)
			if got, err := s.At(t.Context(), last.Sequence+1); err != nil || !bytes.Equal(got.Data, payload(last.Sequence+1)) {
				t.Errorf("record written afterwards: %v", err)
			}
		})
	}
}

// TestUnreadableStreamIsRefused checks that Open refuses a folder with a stream that cannot be read. A new stream would assign the sequences a second time.
func TestUnreadableStreamIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"changed": func(path string) error { return os.WriteFile(path, []byte(`{"name":"REMPART_JOURNAL"}`), 0o600) },
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"removed": os.Remove,
	} {
		for _, file := range []string{"meta.inf", "meta.sum"} {
			t.Run(file+" "+name, func(t *testing.T) {
				c := testConfig(t)
				c.Dir = filepath.Join(c.Dir, "of [a*] kind")
				s := open(t, c)
				appendOK(t, s, 0, "change", payload(1))
				s.Close()
				if err := spoil(filepath.Join(c.Dir, "jetstream", "$G", "streams", journalStream, file)); err != nil {
					t.Fatal(err)
				}
				s, err := Open(t.Context(), c)
				if err != nil {
					t.Log(err)
					return
				}
				defer s.Close()
				if got, err := s.At(t.Context(), 1); err != nil || !bytes.Equal(got.Data, payload(1)) {
					t.Errorf("the folder was opened without the record: %v", err)
				}
			})
		}
	}
}

// TestWritesAreRefusedOnFullDisk checks that writes to a full disk are refused while reads continue, and that writes succeed again when there is space.
func TestWritesAreRefusedOnFullDisk(t *testing.T) {
	ctx := t.Context()
	c := testConfig(t)
	dnstest.SmallDisk(t, c.Dir, 32<<20)
	s := open(t, c)
	node := connect(t, s)
	n := uint64(0)
	for ; n < 20; n++ {
		appendOK(t, s, n, "change", payload(n+1))
	}
	filler := filepath.Join(c.Dir, "filler")
	dnstest.FillDisk(t, filler)
	_, err := s.Append(ctx, n, "change", payload(n+1))
	if !errors.Is(err, ErrFull) {
		t.Fatalf("append to a full disk: %v", err)
	}
	t.Log(err)
	if _, err := s.AppendAudit(ctx, 0, nil); !errors.Is(err, ErrFull) {
		t.Errorf("audit: %v", err)
	}
	if _, err := s.Bucket(Holds).Put(ctx, "key", nil); !errors.Is(err, ErrFull) {
		t.Errorf("put: %v", err)
	}
	if err := s.PutObject(ctx, "object", strings.NewReader("x")); !errors.Is(err, ErrFull) {
		t.Errorf("object: %v", err)
	}
	if err := s.Beat(ctx, []byte("still here")); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	collect(t, node, 0, int(n))
	// A journal that is opened on a full disk can also be read.
	s.Close()
	s = open(t, c)
	collect(t, s.Reader, 0, int(n))
	if _, err := s.Append(ctx, n, "change", payload(n+1)); !errors.Is(err, ErrFull) {
		t.Errorf("append after a start: %v", err)
	}
	os.Remove(filler)
	appendOK(t, s, n, "change", payload(n+1))
	s.Close()
	checkKept(t, open(t, c), n+1)
}

// TestStoreRecoversFromFullDisk checks that the store, which stops if other programs fill the disk between two checks, is opened again when there is space.
func TestStoreRecoversFromFullDisk(t *testing.T) {
	ctx := t.Context()
	c := testConfig(t)
	dnstest.SmallDisk(t, c.Dir, 32<<20)
	s := open(t, c)
	node := connect(t, s)
	n := uint64(0)
	for ; n < 20; n++ {
		appendOK(t, s, n, "change", payload(n+1))
	}
	filler := filepath.Join(c.Dir, "filler")
	for round := range 3 {
		dnstest.FillDisk(t, filler)
		// Publish a record as Append does, but without the check of the disk.
		short, cancel := s.writeContext(ctx)
		_, err := s.js.Publish(short, journalSubject+"change", bytes.Repeat([]byte("x"), 1<<20))
		cancel()
		if err == nil {
			t.Fatal("a record was written to a full disk")
		}
		eventually(t, "the failure", func() bool { return s.server.checkSpace(0) != nil })
		t.Logf("round %d: %v; then %v", round, err, s.server.checkSpace(0))
		if _, err := s.Append(ctx, n, "change", payload(n+1)); !errors.Is(err, ErrFull) {
			t.Errorf("append: %v", err)
		}
		os.Remove(filler)
		eventually(t, "the next record", func() bool {
			_, err := s.Append(ctx, n, "change", payload(n+1))
			if errors.Is(err, ErrUnknown) || errors.Is(err, ErrBehind) {
				t.Fatalf("append: %v", err)
			}
			return err == nil
		})
		n++
		collect(t, node, 0, int(n))
	}
	s.Close()
	checkKept(t, open(t, c), n)
}

// TestWritesAfterRestartOfServerAreNotLost checks that a write is never sent over the connection to a server that was replaced: its outcome would be unknown.
func TestWritesAfterRestartOfServerAreNotLost(t *testing.T) {
	s := open(t, testConfig(t))
	for n := range uint64(5) {
		s.server.shutdown()
		if err := s.server.start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the next record", func() bool {
			_, err := s.Append(t.Context(), n, "change", payload(n+1))
			if errors.Is(err, ErrUnknown) || errors.Is(err, ErrBehind) {
				t.Fatalf("append: %v", err)
			}
			return err == nil
		})
	}
}
