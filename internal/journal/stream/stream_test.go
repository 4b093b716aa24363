package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/internal/durable"
)

// secretOf returns the password of a cluster user in tests.
func secretOf(name string) string { return "secret of " + name }

// testConfig returns the configuration of an embedded journal in a temporary folder.
func testConfig(t *testing.T) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "journal"), Log: testLog(t)}
}

// testLog shows warnings in a test's output.
func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// open opens a Stream that is closed at the end of the test.
func open(t testing.TB, c Config) *Stream {
	t.Helper()
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// connect opens a second Reader of an embedded journal.
func connect(t testing.TB, s *Stream) *Reader {
	t.Helper()
	nc, err := s.server.connect("node", s.log)
	if err != nil {
		t.Fatal(err)
	}
	r, err := newReader(nc, s.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// appendOK appends a record and checks the returned sequence.
func appendOK(t testing.TB, s *Stream, after uint64, kind string, data []byte) {
	t.Helper()
	got, err := s.Append(t.Context(), after, kind, data)
	if err != nil || got != after+1 {
		t.Fatalf("Append(%d) = %d, %v", after, got, err)
	}
}

// payload returns the test record of a sequence. Its length and content depend on the sequence only.
func payload(sequence uint64) []byte {
	r := rand.New(rand.NewPCG(sequence, 1))
	b := make([]byte, r.IntN(4000))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// errEnough ends a Follow that has received enough records.
var errEnough = errors.New("enough")

// collect follows until n records arrived, and checks that they are the payloads of their sequences.
func collect(t testing.TB, r *Reader, after uint64, n int) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []Record
	err := r.Follow(ctx, after, func(record Record) error {
		got = append(got, record)
		if !bytes.Equal(record.Data, payload(record.Sequence)) {
			return fmt.Errorf("record %d holds something else", record.Sequence)
		}
		if len(got) == n {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatalf("after %d of %d records: %v", len(got), n, err)
	}
	for i, record := range got {
		if record.Sequence != after+uint64(i)+1 {
			t.Fatalf("record %d is the %dth after %d", record.Sequence, i+1, after)
		}
	}
	return got
}

func TestRecords(t *testing.T) {
	ctx := t.Context()
	c := testConfig(t)
	s := open(t, c)
	node := connect(t, s)
	for _, r := range []interface {
		Last(context.Context, string) (Record, error)
		At(context.Context, uint64) (Record, error)
	}{s, node} {
		eventually(t, "the connection", func() bool { _, err := r.Last(ctx, ""); return errors.Is(err, ErrNone) })
		if _, err := r.At(ctx, 1); !errors.Is(err, ErrNone) {
			t.Errorf("At of an empty journal: %v", err)
		}
	}
	appendOK(t, s, 0, "change", payload(1))
	appendOK(t, s, 1, "snap shot.*>", payload(2))
	appendOK(t, s, 2, "change", payload(3))
	if _, err := s.Append(ctx, 2, "change", nil); !errors.Is(err, ErrBehind) {
		t.Errorf("append after 2 twice: %v", err)
	}
	if _, err := s.Append(ctx, 9, "change", nil); !errors.Is(err, ErrBehind) {
		t.Errorf("append after a sequence that does not exist: error %v", err)
	}
	for _, kind := range []string{"", strings.Repeat("k", maxName+1)} {
		if _, err := s.Append(ctx, 3, kind, nil); err == nil {
			t.Errorf("appended the kind %q", kind)
		}
	}
	long := bytes.Repeat([]byte("x"), s.MaxRecord())
	if _, err := s.Append(ctx, 3, "change", append(long, 'x')); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("append of a record that is too large: error %v", err)
	}
	s.Close()

	s = open(t, c)
	node = connect(t, s)
	check := func(what string, got Record, err error, sequence uint64, kind string) {
		t.Helper()
		if diff := cmp.Diff(Record{sequence, kind, payload(sequence)}, got); err != nil || diff != "" {
			t.Errorf("%s: %v, record (-want +got):\n%s", what, err, diff)
		}
	}
	if got := collect(t, node, 0, 3); got[1].Kind != "snap shot.*>" {
		t.Errorf("kind %q", got[1].Kind)
	}
	collect(t, s.Reader, 1, 2)
	got, err := s.At(ctx, 2)
	check("At", got, err, 2, "snap shot.*>")
	got, err = node.At(ctx, 2)
	check("a node's At", got, err, 2, "snap shot.*>")
	got, err = s.Last(ctx, "")
	check("Last", got, err, 3, "change")
	got, err = node.Last(ctx, "")
	check("a node's Last", got, err, 3, "change")
	got, err = node.Last(ctx, "snap shot.*>")
	check("a node's Last of a kind", got, err, 2, "snap shot.*>")
	if _, err := node.Last(ctx, "other"); !errors.Is(err, ErrNone) {
		t.Errorf("Last of no kind: %v", err)
	}
	appendOK(t, s, 3, "change", long)
	if got, err := node.At(ctx, 4); err != nil || !bytes.Equal(got.Data, long) {
		t.Errorf("the longest record: %d bytes, %v", len(got.Data), err)
	}
}

// TestConcurrentPublishers checks that, with two publishers, each sequence is acknowledged to one of them and no record is written twice.
func TestConcurrentPublishers(t *testing.T) {
	s := open(t, testConfig(t))
	const each = 100
	var mu sync.Mutex
	owner := map[uint64]string{}
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		wg.Go(func() {
			after := uint64(0)
			for done := 0; done < each; {
				sequence, err := s.Append(t.Context(), after, "change", fmt.Appendf(nil, "%s %d", name, after+1))
				switch {
				case err == nil:
					mu.Lock()
					if by := owner[sequence]; by != "" {
						t.Errorf("record %d was acknowledged to %s and to %s", sequence, by, name)
					}
					owner[sequence] = name
					mu.Unlock()
					after, done = sequence, done+1
				case errors.Is(err, ErrBehind):
					last, err := s.Last(t.Context(), "")
					if err != nil {
						t.Error(err)
						return
					}
					after = last.Sequence
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	n := uint64(0)
	err := s.Follow(t.Context(), 0, func(r Record) error {
		n++
		if want := fmt.Sprintf("%s %d", owner[r.Sequence], r.Sequence); string(r.Data) != want || r.Sequence != n {
			return fmt.Errorf("record %d holds %q, want %q", r.Sequence, r.Data, want)
		}
		if n == 2*each {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if _, err := s.At(t.Context(), 2*each+1); !errors.Is(err, ErrNone) {
		t.Errorf("more records exist than were acknowledged: %v", err)
	}
}

// TestFollowersReceiveAllRecords checks that each node that follows while records are written receives all records in order.
func TestFollowersReceiveAllRecords(t *testing.T) {
	s := open(t, testConfig(t))
	const n = 1000
	var wg sync.WaitGroup
	for i := range 5 {
		node := connect(t, s)
		wg.Go(func() { collect(t, node, uint64(i), n-i) })
	}
	for i := range uint64(n) {
		appendOK(t, s, i, "change", payload(i+1))
	}
	wg.Wait()
}

func TestHeartbeats(t *testing.T) {
	s := open(t, testConfig(t))
	node := connect(t, s)
	beat := func(data string) {
		t.Helper()
		if err := s.Beat(t.Context(), []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	beat("1")
	beat("2")
	got := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- node.FollowBeats(ctx, func(data []byte) error { got <- string(data); return nil })
	}()
	if b := <-got; b != "2" {
		t.Fatalf("first heartbeat %q", b)
	}
	for i := range 5 {
		beat(fmt.Sprint("n", i))
		if b := <-got; b != fmt.Sprint("n", i) {
			t.Fatalf("heartbeat %q", b)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAudit(t *testing.T) {
	c := testConfig(t)
	s := open(t, c)
	for i := range uint64(300) {
		if sequence, err := s.AppendAudit(t.Context(), i, payload(i+1)); err != nil || sequence != i+1 {
			t.Fatalf("AppendAudit: sequence %d, %v; want %d", sequence, err, i+1)
		}
	}
	if _, err := s.AppendAudit(t.Context(), 299, payload(1)); !errors.Is(err, ErrBehind) {
		t.Errorf("following after the last but one record: %v", err)
	}
	if last, err := s.LastAudit(t.Context()); err != nil || last.Sequence != 300 || !bytes.Equal(last.Data, payload(300)) {
		t.Errorf("the last is %d: %v", last.Sequence, err)
	}
	s.Close()
	s = open(t, c)
	for _, from := range []uint64{0, 1, 299, 301} {
		next := max(from, 1)
		err := s.EachAudit(t.Context(), from, func(r Record) error {
			if r.Sequence != next || !bytes.Equal(r.Data, payload(next)) {
				return fmt.Errorf("record %d, want %d", r.Sequence, next)
			}
			next++
			return nil
		})
		if err != nil || next != 301 {
			t.Errorf("from %d: up to %d, %v", from, next, err)
		}
	}
}

func TestBuckets(t *testing.T) {
	ctx := t.Context()
	c := testConfig(t)
	s := open(t, c)
	b := s.Bucket(Tokens)
	if _, _, err := b.Get(ctx, "key"); !errors.Is(err, ErrNone) {
		t.Errorf("Get of a key that does not exist: %v", err)
	}
	first, err := b.Create(ctx, "key", []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, "key", []byte("2")); !errors.Is(err, ErrExists) {
		t.Errorf("Create twice: %v", err)
	}
	second, err := b.Update(ctx, "key", []byte("2"), first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Update(ctx, "key", []byte("3"), first); !errors.Is(err, ErrBehind) {
		t.Errorf("Update of an old revision: %v", err)
	}
	if value, revision, err := b.Get(ctx, "key"); err != nil || string(value) != "2" || revision != second {
		t.Errorf("Get = %q %d %v", value, revision, err)
	}
	want := map[string]string{"key": "2", "*.>": "x", "é \x00": "y", "a=b": "z"}
	for key, value := range want {
		if _, err := b.Put(ctx, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Put(ctx, "gone", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Delete(ctx, "gone"); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := b.Get(ctx, "gone"); !errors.Is(err, ErrNone) {
		t.Errorf("Get of a deleted key: %v", err)
	}
	if _, err := b.Put(ctx, "", nil); err == nil {
		t.Error("an empty key was accepted")
	}
	if _, err := b.Put(ctx, "long", make([]byte, s.MaxRecord()+1)); err == nil {
		t.Error("a value that is too long was accepted")
	}
	s.Close()
	s = open(t, c)
	got := map[string]string{}
	err = s.Bucket(Tokens).Each(ctx, func(key string, value []byte) error { got[key] = string(value); return nil })
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Each: %v, values (-want +got):\n%s", err, diff)
	}
	err = s.Bucket(Holds).Each(ctx, func(key string, _ []byte) error { return fmt.Errorf("holds has %s", key) })
	if err != nil {
		t.Error(err)
	}
	if _, err := s.Bucket(Tokens).Create(ctx, "gone", []byte("again")); err != nil {
		t.Error(err)
	}
}

func TestReports(t *testing.T) {
	s := open(t, testConfig(t))
	type report struct{ Node, Data string }
	got := make(chan report, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- s.FollowReports(ctx, func(node string, data []byte) { got <- report{node, string(data)} })
	}()
	node := connect(t, s)
	eventually(t, "a report", func() bool {
		node.Report(t.Context(), "edge.1", []byte("well"))
		select {
		case r := <-got:
			return r == report{"edge.1", "well"}
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
	if err := s.Report(t.Context(), "control", []byte("also")); err != nil {
		t.Error(err)
	}
	eventually(t, "control's own", func() bool { return <-got == report{"control", "also"} })
	if err := node.Report(t.Context(), "edge.1", make([]byte, maxReport+1)); err == nil {
		t.Error("a report that is too large was published")
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestClosedStreamReturnsErrClosed(t *testing.T) {
	s := open(t, testConfig(t))
	appendOK(t, s, 0, "change", payload(1))
	done := make(chan error)
	began := make(chan struct{})
	go func() { done <- s.Follow(t.Context(), 0, func(Record) error { close(began); return nil }) }()
	<-began
	s.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Errorf("Follow: %v", err)
	}
	if _, err := s.Append(t.Context(), 1, "change", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Append: %v", err)
	}
	if _, err := s.At(t.Context(), 1); !errors.Is(err, ErrClosed) {
		t.Errorf("At: %v", err)
	}
	if err := s.Follow(t.Context(), 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow: %v", err)
	}
	s.Close()
}

func TestOpenRefuses(t *testing.T) {
	c := testConfig(t)
	s := open(t, c)
	if _, err := Open(t.Context(), c); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("Open of a folder in use: %v", err)
	}
	s.Close()
	for name, change := range map[string]func(*Config){
		"no folder":                  func(c *Config) { c.Dir = "" },
		"folder is a file":           func(c *Config) { c.Dir = "stream_test.go" },
		"folder in a missing folder": func(c *Config) { c.Dir = "/proc/none/journal" },
	} {
		c := testConfig(t)
		change(&c)
		if s, err := Open(t.Context(), c); err == nil {
			t.Errorf("%s: Open returned no error", name)
			s.Close()
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestTokenEncoding(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "change": "change", "a.b": "a=2Eb", ">": "=3E", "*": "=2A", "=": "=3D", "é": "=C3=A9",
		strings.Repeat("x", maxName): strings.Repeat("x", maxName), strings.Repeat("x", maxName+1): "",
	} {
		got := token(name)
		if got != want {
			t.Errorf("token(%q) = %q, want %q", name, got, want)
		}
		if back, ok := untoken(got); ok != (want != "") || ok && back != name {
			t.Errorf("untoken(%q) = %q, %v", got, back, ok)
		}
	}
	for _, bad := range []string{"", "=", "=2", "=2e", "=61", "a.b", "=ZZ"} {
		if name, ok := untoken(bad); ok {
			t.Errorf("untoken(%q) = %q", bad, name)
		}
	}
}

// eventually waits until ok returns true, for a minute at most.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout after a minute: %s", what)
		}
	}
}
