package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rempart/bench"
)

// Servers run on one core, the load generator and the upstream on the other.
const (
	serverCore = "0"
	loadCore   = "1"
	bothCores  = serverCore + "," + loadCore
)

// endTimeout is the time after which a process that does not end on SIGTERM is killed.
const endTimeout = 5 * time.Second

// program is a command: a path and its arguments.
type program struct {
	name  string // for people
	path  string
	args  []string
	cores string   // in the syntax of taskset
	env   []string // in addition to this process's own
	dir   string   // the working folder, which also holds the output
}

// process is a program that runs. It belongs to one goroutine.
type process struct {
	program
	cmd  *exec.Cmd
	log  string        // the path of the file with its output
	done chan struct{} // closed when the process has ended
}

// launch starts a program. The caller calls end.
func launch(p program) (*process, error) {
	log := filepath.Join(p.dir, "output")
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	// taskset becomes the program, under the same process id.
	cmd := exec.Command("taskset", append([]string{"-c", p.cores, p.path}, p.args...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = bench.Environ(p.env...), p.dir, out, out
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	run := &process{program: p, cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // unexpectedEnd reports cmd.ProcessState
		close(run.done)
	}()
	return run, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// pause stops all threads of the process until resume is called.
func (p *process) pause() error  { return p.signal(stopSignal) }
func (p *process) resume() error { return p.signal(continueSignal) }

func (p *process) signal(s os.Signal) error {
	if !p.isRunning() {
		return p.unexpectedEnd()
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signalling %s: %w", p.name, err)
	}
	return nil
}

func (p *process) isRunning() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// unexpectedEnd returns the error for a process that ended without a call of end.
func (p *process) unexpectedEnd() error {
	return fmt.Errorf("%s ended unexpectedly (%v); end of its output: %s", p.name, p.cmd.ProcessState, p.lastOutput())
}

// lastOutput returns the end of the process's output.
func (p *process) lastOutput() string {
	const enough = 2000
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-enough):]))
}

// end resumes and ends the process, kills it if it does not end, and waits for it.
func (p *process) end() {
	_ = p.cmd.Process.Signal(continueSignal)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return
	case <-time.After(endTimeout):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// waitUntil polls ready until it returns nil, and logs every ten seconds that it is still waiting. It returns an error if the process ends, or if
// the time limit is reached; the latter error wraps the last error of ready.
func (p *process) waitUntil(ctx context.Context, limit time.Duration, ready func() error) error {
	const pollInterval, logInterval = 50 * time.Millisecond, 10 * time.Second
	began, logged := time.Now(), time.Now()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Since(began) > limit {
			return fmt.Errorf("%s was not ready within %v: %w; end of its output: %s", p.name, limit, err, p.lastOutput())
		}
		if time.Since(logged) > logInterval {
			logged = time.Now()
			say("  %s is still loading after %.0f s", p.name, time.Since(began).Seconds())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.done:
			return p.unexpectedEnd()
		case <-time.After(pollInterval):
		}
	}
}
