package durable

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func put(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"one", "", strings.Repeat("long", 1<<20)} {
		if err := WriteFile(path, put(content)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != content {
			t.Fatalf("read back %d bytes, want %d", len(got), len(content))
		}
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %q, want the file alone", got)
	}
}

func TestFailedWriteFileKeepsEarlierContent(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := WriteFile(path, put("kept")); err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	err := WriteFile(path, func(w io.Writer) error {
		io.WriteString(w, strings.Repeat("x", 1<<20))
		return boom
	})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want boom with the path", err)
	}
	func() {
		defer func() { recover() }()
		WriteFile(path, func(io.Writer) error { panic("boom") })
	}()
	if got := read(t, path); got != "kept" {
		t.Errorf("file holds %q", got)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("folder holds %q, want the file alone", got)
	}
	if err := WriteFile(filepath.Join(dir, "missing", "file"), put("x")); err == nil {
		t.Error("wrote into a folder that does not exist")
	}
}

func TestWriteFileRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := WriteFile("file", put("x")); err != nil {
		t.Fatal(err)
	}
}

func TestClean(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".file.123" + tempSuffix, "file", ".hidden", "notes" + tempSuffix} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, ".dir"+tempSuffix), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Clean(dir); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(names(t, dir), " "), ".dir"+tempSuffix+" .hidden file notes"+tempSuffix; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
	if err := Clean(filepath.Join(dir, "missing")); err == nil {
		t.Error("no error for a missing folder")
	}
}

func TestMap(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"", "content", strings.Repeat("page", 5000)} {
		if err := WriteFile(path, put(content)); err != nil {
			t.Fatal(err)
		}
		m, err := Map(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Data()); got != content {
			t.Errorf("mapped %d bytes, want %d", len(got), len(content))
		}
		if err := WriteFile(path, put("replaced")); err != nil {
			t.Fatal(err)
		}
		if got := string(m.Data()); got != content {
			t.Error("a mapping changed when its file was replaced")
		}
		m.Close()
		m.Close()
	}
	for _, bad := range []string{filepath.Join(dir, "missing"), dir} {
		if _, err := Map(bad); err == nil {
			t.Errorf("%s was mapped, want an error", bad)
		}
	}
}

// TestLockHelper is not a test of its own: TestLock runs it in another process.
func TestLockHelper(t *testing.T) {
	dir := os.Getenv("DURABLE_LOCK_DIR")
	if dir == "" {
		t.Skip("run by TestLock")
	}
	_, err := Lock(dir)
	fmt.Println("locked by another:", errors.Is(err, ErrLocked), err)
}

func TestLock(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no lock is taken here")
	}
	dir := t.TempDir()
	other := func() string {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLockHelper$", "-test.v")
		cmd.Env = append(os.Environ(), "DURABLE_LOCK_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("process that holds the lock: %v: %s", err, out)
		}
		return string(out)
	}
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second lock: %v", err)
	}
	if out := other(); !strings.Contains(out, "locked by another: true") {
		t.Errorf("the other process could take the lock while it was held: %s", out)
	}
	unlock()
	if out := other(); !strings.Contains(out, "locked by another: false") {
		t.Errorf("the other process could not take the lock after it was released: %s", out)
	}
	if unlock, err = Lock(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := Lock(filepath.Join(dir, "missing")); err == nil {
		t.Error("locked a folder that does not exist")
	}
}

func TestCounter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "version")
	next := func(above, want uint64) {
		t.Helper()
		c, err := OpenCounter(path, none)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			got, err := c.Next(above)
			if err != nil || got != want {
				t.Fatalf("Next(%d) = %d, %v; want %d", above, got, err, want)
			}
			if disk := read(t, path); disk != fmt.Sprintf("%d\n", want) {
				t.Fatalf("on disk %q, want %d", disk, want)
			}
			want++
		}
	}
	next(0, 1)
	next(0, 3)
	next(40, 41)
	next(7, 43)
}

func TestCounterConcurrent(t *testing.T) {
	c, err := OpenCounter(filepath.Join(t.TempDir(), "version"), none)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				n, err := c.Next(0)
				mu.Lock()
				if err != nil || seen[n] {
					t.Errorf("Next = %d, %v; seen %v", n, err, seen[n])
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// none is for counters with a valid file, which need no number that is derived from other data.
func none() uint64 { return 0 }

// TestDamagedCounterContinuesFromDerivedNumber checks that a counter whose file is damaged continues above a number that its caller derives from other data.
func TestDamagedCounterContinuesFromDerivedNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "version")
	for _, garbage := range []string{"", "\n", "x", "-1", "1 2", "0x10", "1\n\n", " 7", strings.Repeat("9", 40), "\x00\x00"} {
		if err := os.WriteFile(path, []byte(garbage), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := OpenCounter(path, func() uint64 { return 41 })
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: the error does not name the file: %v", garbage, err)
		}
		if n, err := c.Next(0); err != nil || n <= 41+1 {
			t.Errorf("%q: the next number is %d, %v", garbage, n, err)
		}
		if n, err := readCounter(path); err != nil || n <= 41 {
			t.Errorf("%q: the file holds %d, %v", garbage, n, err)
		}
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // a folder cannot be read as a file
		t.Fatal(err)
	}
	c, err := OpenCounter(path, func() uint64 { return math.MaxUint64 })
	if err == nil {
		t.Error("a folder was read as a counter")
	}
	if n, err := c.Next(0); err == nil {
		t.Errorf("the counter wrapped to %d", n)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendln(nil, uint64(math.MaxUint64)), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err = OpenCounter(path, none); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Next(0); err == nil {
		t.Errorf("the counter wrapped to %d", n)
	}
}

func TestFailedCounterReturnsNoNumber(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sub")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCounter(filepath.Join(dir, "version"), none)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(dir)
	if n, err := c.Next(0); err == nil {
		t.Errorf("Next returned %d although it could not write the file", n)
	}
	os.Mkdir(dir, 0o700)
	if n, err := c.Next(0); err != nil || n != 1 {
		t.Errorf("Next = %d, %v; want 1", n, err)
	}
}
