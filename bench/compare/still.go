package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// A virtual machine is held up by its neighbours. The report shows how much, because no server can answer while it is held up.

// stillCommand makes this program read the clock instead of comparing.
const stillCommand = "read-the-clock"

// heldUp is the shortest delay that is counted: a bar of the collector's.
const heldUp = 100 * time.Microsecond

// stillness shows how undisturbed a core was, for a program that only reads the clock.
type stillness struct {
	Seconds float64
	Times   int // delays above heldUp
	Longest time.Duration
	Stolen  float64 // share of the processors' time that other machines had during all measurements
}

// watchClock reads the clock for that long and prints what measureStillness reads.
func watchClock(length time.Duration) {
	runtime.LockOSThread()
	var s stillness
	began := time.Now()
	for last := began; last.Sub(began) < length; {
		now := time.Now()
		if gap := now.Sub(last); gap > heldUp {
			s.Times++
			s.Longest = max(s.Longest, gap)
		}
		last = now
	}
	fmt.Println(s.Times, s.Longest.Nanoseconds())
}

// measureStillness watches the servers' core while nothing else runs.
func measureStillness(ctx context.Context) (*stillness, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	const length = 5 * time.Second
	out, err := exec.CommandContext(ctx, pinning, "-c", serverCore, self, stillCommand, length.String()).Output()
	if err != nil {
		return nil, fmt.Errorf("watching the clock: %w", err)
	}
	s := &stillness{Seconds: length.Seconds()}
	if _, err := fmt.Sscan(string(out), &s.Times, &s.Longest); err != nil {
		return nil, fmt.Errorf("watching the clock: unexpected output %q: %w", out, err)
	}
	say("the core is held up for over %v %.1f times a second, for %v at the longest, when nothing runs", heldUp, float64(s.Times)/s.Seconds, s.Longest)
	return s, nil
}

// processorTime returns the time of all processors since the machine started, in ticks, and the part that other machines had.
func processorTime() (all, stolen int, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	var user, nice, system, idle, wait, irq, soft int
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &soft, &stolen); err != nil {
		return 0, 0, fmt.Errorf("/proc/stat: %w", err)
	}
	return user + nice + system + idle + wait + irq + soft + stolen, stolen, nil
}
