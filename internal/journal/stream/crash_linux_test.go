package stream

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
)

// TestReadOnlyFolderIsRefused checks that Open refuses a folder that cannot be written.
func TestReadOnlyFolderIsRefused(t *testing.T) {
	c := testConfig(t)
	dnstest.SmallDisk(t, c.Dir, 16<<20)
	open(t, c).Close()
	if err := unix.Mount("", c.Dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip(err)
	}
	if s, err := Open(t.Context(), c); err == nil {
		s.Close()
		t.Error("opened a folder that cannot be written")
	} else {
		t.Log(err)
	}
}

// freeze stops a process, or resumes it.
func freeze(t *testing.T, p *os.Process, on bool) {
	t.Helper()
	signal := unix.SIGCONT
	if on {
		signal = unix.SIGSTOP
	}
	if err := p.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// TestRecordIsSyncedBeforeAcknowledgement traces the system calls of a process that appends, and checks that an fsync precedes each acknowledgement.
func TestRecordIsSyncedBeforeAcknowledgement(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	cmd := exec.Command(strace, "-D", "-f", "-y", "-e", "trace=fsync,fdatasync,pwrite64,write", "-e", "signal=none", "-o", trace, self)
	cmd.Env = append(os.Environ(), lifeFolder+"="+filepath.Join(dir, "journal"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 0; n < 100 && lines.Scan(); n++ {
	}
	cmd.Process.Kill()
	for lines.Scan() {
	}
	cmd.Wait()
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Skip("no process can be traced here")
	}
	dirty, kept := false, 0
	for line := range strings.Lines(string(calls)) {
		switch {
		case strings.Contains(line, "write") && strings.Contains(line, ".blk>"):
			dirty = true
		case strings.Contains(line, "fsync") && strings.Contains(line, ".blk>"):
			dirty = false
		case strings.Contains(line, `"`+lifeWords):
			if kept++; dirty {
				t.Errorf("record %d was acknowledged before it was synced", kept)
			}
		}
	}
	if kept < 50 {
		t.Skipf("only %d records were traced", kept)
	}
	t.Logf("%d records, each synced before it was acknowledged", kept)
}
