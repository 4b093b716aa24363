package dnstest

import (
	"bytes"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programPatience is the longest time that a test waits for a Program to start, to end, or to meet a condition.
const programPatience = time.Minute

// Program is a process of Rempart. It is stopped at the end of the test. The test fails if the exit code is not 0, unless the test called Stop or Wait itself. Its
// methods are safe for concurrent use.
type Program struct {
	DNS     string // the first address that answers DNS, over UDP and TCP
	Page    string // host and port of the warning page, "" for none
	Metrics string // host and port of /metrics, /livez and /readyz, "" for none
	API     string // URL of the operators' API, "" for none
	DataDir string

	cmd            *exec.Cmd
	stdout, stderr output
	ended          chan struct{} // closed when the process has ended
	err            error         // of cmd.Wait; read it after ended is closed
	checked        bool          // the test examined the exit code
	mu             sync.Mutex
}

// output collects the output of a process.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

var (
	greetingDNS     = regexp.MustCompile(`answers DNS on ([^\s,]+)`)
	greetingPage    = regexp.MustCompile(`(?m)^ +page +http://([^\s,]+)/$`)
	greetingMetrics = regexp.MustCompile(`(?m)^ +metrics +http://([^\s,]+)/metrics$`)
	greetingAPI     = regexp.MustCompile(`(?m)^ +API +(https?://[^\s,]+)/openapi\.json$`)
	greetingEnd     = regexp.MustCompile(`(?m)^ +try .+\n`)
)

// StartProgram runs cmd, which starts Rempart, and waits until Rempart prints its greeting. By default, Rempart listens on free ports of loopback and keeps its
// data in a new folder. env holds further variables as "NAME=value". From the environment of the test, the process receives PATH only.
func StartProgram(t testing.TB, cmd *exec.Cmd, env ...string) *Program {
	t.Helper()
	p := LaunchProgram(t, cmd, env...)
	p.awaitGreeting(t)
	return p
}

// awaitGreeting waits until Rempart prints its greeting, and reads the addresses in it.
func (p *Program) awaitGreeting(t testing.TB) {
	t.Helper()
	end := time.After(programPatience)
	for !greetingEnd.MatchString(p.Stdout()) {
		select {
		case <-p.ended:
			t.Fatalf("dnstest: rempart ended at its start: %v\n%s%s", p.err, p.Stdout(), p.Stderr())
		case <-end:
			t.Fatalf("dnstest: rempart does not greet\n%s%s", p.Stdout(), p.Stderr())
		case <-time.After(time.Millisecond):
		}
	}
	p.DNS = first(greetingDNS, p.Stdout())
	p.Page = first(greetingPage, p.Stdout())
	p.Metrics = first(greetingMetrics, p.Stdout())
	p.API = first(greetingAPI, p.Stdout())
}

// LaunchProgram is StartProgram without waiting: the addresses are not known.
func LaunchProgram(t testing.TB, cmd *exec.Cmd, env ...string) *Program {
	t.Helper()
	p := &Program{cmd: cmd, ended: make(chan struct{})}
	home := t.TempDir()
	given := slices.DeleteFunc(cmd.Environ(), func(v string) bool { return !strings.HasPrefix(v, "PATH=") })
	cmd.Env = slices.Concat(given, []string{
		"HOME=" + home, "REMPART_DATA_DIR=" + home,
		"REMPART_LISTEN=127.0.0.1:0", "REMPART_PAGE_LISTEN=127.0.0.1:0", "REMPART_METRICS_LISTEN=127.0.0.1:0",
	}, env)
	for _, v := range cmd.Env {
		if dir, ok := strings.CutPrefix(v, "REMPART_DATA_DIR="); ok {
			p.DataDir = dir // the last value is in effect, as in the process
		}
	}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	cmd.WaitDelay = programPatience
	if err := cmd.Start(); err != nil {
		t.Fatalf("dnstest: starting rempart: %v", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		if !p.looked() {
			if code := p.Stop(t); code != 0 {
				t.Errorf("rempart ended with exit code %d", code)
			}
		}
		if t.Failed() {
			t.Logf("rempart wrote:\n%s%s", p.Stdout(), p.Stderr())
		}
	})
	return p
}

func first(re *regexp.Regexp, text string) string {
	if m := re.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

// Stdout returns what the process has written to its standard output so far.
func (p *Program) Stdout() string { return p.stdout.String() }

// Stderr returns what the process has written to its standard error so far.
func (p *Program) Stderr() string { return p.stderr.String() }

// PID returns the ID of the process.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process.
func (p *Program) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("dnstest: sending %v: %v", sig, err)
	}
}

// Stop sends SIGTERM to the process, waits until the process ends, and returns the exit code.
func (p *Program) Stop(t testing.TB) int {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means that the process has ended already
	return p.Wait(t)
}

// Wait waits until the process ends and returns the exit code.
func (p *Program) Wait(t testing.TB) int {
	t.Helper()
	p.mu.Lock()
	p.checked = true
	p.mu.Unlock()
	select {
	case <-p.ended:
	case <-time.After(programPatience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // the runtime prints the stack of each goroutine
		select {
		case <-p.ended:
		case <-time.After(time.Second):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		t.Errorf("dnstest: rempart does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *Program) looked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.checked
}

// Eventually waits until ok returns true. The test fails if that takes longer than programPatience.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(programPatience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("dnstest: never: %s", what)
		}
	}
}
