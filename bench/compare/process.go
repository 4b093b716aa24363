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

// Servers have one core, the load generator and the upstream another.
const (
	serverCore = "0"
	loadCore   = "1"
	bothCores  = serverCore + "," + loadCore
)

// patience is how long a process may take to end after a signal, before it is killed.
const patience = 5 * time.Second

// program is a command: a path and its arguments.
type program struct {
	name  string // for people
	path  string
	args  []string
	cores string   // as taskset names them
	env   []string // in addition to this process's own
	dir   string   // its working folder, also for its output
}

// process is a program that runs. It belongs to one goroutine.
type process struct {
	program
	cmd  *exec.Cmd
	log  string        // the file of its output
	done chan struct{} // closed when it ended
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
		_ = cmd.Wait() // its output shows how it ended
		close(run.done)
	}()
	return run, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// pause stops it completely, until resume.
func (p *process) pause() error  { return p.signal(stopSignal) }
func (p *process) resume() error { return p.signal(continueSignal) }

func (p *process) signal(s os.Signal) error {
	if !p.runs() {
		return p.ended()
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signalling %s: %w", p.name, err)
	}
	return nil
}

func (p *process) runs() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ended returns the error of a process that should not have ended.
func (p *process) ended() error {
	return fmt.Errorf("%s ended by itself (%v); it said last: %s", p.name, p.cmd.ProcessState, p.said())
}

// said returns the end of its output.
func (p *process) said() string {
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
	case <-time.After(patience):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// waitUntil polls ready until it is true, telling people every few seconds that it still waits, and fails when the process ends or the time
// is up. Errors of ready are reported then.
func (p *process) waitUntil(ctx context.Context, limit time.Duration, ready func() error) error {
	const often, tell = 50 * time.Millisecond, 10 * time.Second
	began, told := time.Now(), time.Now()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if time.Since(began) > limit {
			return fmt.Errorf("%s was not ready within %v: %w; it said last: %s", p.name, limit, err, p.said())
		}
		if time.Since(told) > tell {
			told = time.Now()
			say("  %s loads since %.0f s", p.name, time.Since(began).Seconds())
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-p.done:
			return p.ended()
		case <-time.After(often):
		}
	}
}
