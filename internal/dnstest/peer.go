package dnstest

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Need skips the test where a program of other people is not installed, or fails it if REMPART_INTEROP is "require".
func Need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("REMPART_INTEROP") == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// Peer is a program of other people, running. It ends with its test, and what it wrote is shown if that fails. Its methods may be called from any
// goroutine.
type Peer struct {
	said  output
	ended chan struct{}
}

// StartPeer starts it.
func StartPeer(t testing.TB, cmd *exec.Cmd) *Peer {
	t.Helper()
	p := &Peer{ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(programPatience):
			_ = cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			said := p.Said()
			t.Logf("%s wrote:\n%s", cmd.Args[0], said[max(0, len(said)-8000):])
		}
	})
	return p
}

// Said is what it has written so far.
func (p *Peer) Said() string { return p.said.String() }

// Answers waits until ok, and fails the test if that takes too long, or the program ends before.
func (p *Peer) Answers(t testing.TB, ok func() bool) {
	t.Helper()
	Eventually(t, "the program answers", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("it ended at its start:\n%s", p.Said())
		default:
		}
		return ok()
	})
}

// KillOne runs a process, waits until it has written that number of lines, and kills it after a further time. hear is called with each line that the
// process wrote before it was killed. The test fails if the process ends by itself.
func KillOne(t testing.TB, cmd *exec.Cmd, lines int, after time.Duration, hear func(line string)) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for ; lines > 0 && said.Scan(); lines-- {
		hear(said.Text())
	}
	time.Sleep(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for said.Scan() {
		hear(said.Text())
	}
	if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("it ended by itself: %v", err)
	}
}
