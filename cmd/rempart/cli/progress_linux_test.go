package cli

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rempart/blocklist/feed"
)

// TestProgressTerminal checks that progress is shown on a pseudo-terminal.
func TestProgressTerminal(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer terminal.Close()
	p := NewProgress(terminal)
	show := p.ListProgress()
	if show == nil {
		t.Fatal("the pseudo-terminal was not recognized as a terminal")
	}
	p.began = time.Now().Add(-progressDelay)
	show(feed.Progress{List: "a", Done: 5_000, Total: 50_000})
	p.End()
	read := make([]byte, 256)
	length, err := master.Read(read)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(read[:length]); !strings.HasPrefix(got, "\r\x1b[Kreading lists: 5000 B of 50 kB, 10 %") {
		t.Errorf("shown: %q", got)
	}
}
