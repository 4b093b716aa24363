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

// Need skips the test if another project's program is not installed. If REMPART_INTEROP is "require", the test fails instead.
func Need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("REMPART_INTEROP") == "require" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// Command runs a command that must succeed.
func Command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// Peer is a process of another project's program. It is stopped at the end of the test, and its output is logged if the test fails. Its methods are safe for
// concurrent use.
type Peer struct {
	cmd   *exec.Cmd
	said  output
	ended chan struct{}
}

// StartPeer starts cmd as a Peer.
func StartPeer(t testing.TB, cmd *exec.Cmd) *Peer {
	t.Helper()
	p := &Peer{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			said := p.Said()
			t.Logf("%s wrote:\n%s", cmd.Args[0], said[max(0, len(said)-8000):])
		}
	})
	return p
}

// Stop ends the process.
func (p *Peer) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(programPatience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// Said returns the output of the process so far.
func (p *Peer) Said() string { return p.said.String() }

// Answers waits until ok returns true. The test fails if the process ends first, or if the wait takes longer than programPatience.
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
