package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// generator runs dnsperf.
type generator struct {
	path string
	dir  string // for its output
}

// For UDP and TCP: ten sockets, two hundred outstanding queries, a query is lost after two seconds.
var usual = []string{"-c", "10", "-T", "1", "-q", "200", "-t", "2"}

// counts are the numbers that dnsperf reports for a run.
type counts struct {
	Completed int
	Lost      int
	Others    int // answers other than NOERROR
	Seconds   float64
}

// load sends the queries of a file to addr, on the cores given. times are of queries that dnsperf lists (-v).
func (g generator) load(ctx context.Context, cores, addr, file string, args ...string) (c counts, times []time.Duration, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return c, nil, err
	}
	// A file, not a pipe: reading a pipe meanwhile would take time from the measured programs.
	output, err := os.Create(filepath.Join(g.dir, "dnsperf.output"))
	if err != nil {
		return c, nil, err
	}
	defer output.Close()
	var complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, "taskset", slices.Concat([]string{"-c", cores, g.path, "-s", host, "-p", port, "-d", file}, usual, args)...)
	cmd.Stdout, cmd.Stderr = output, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return c, nil, context.Cause(ctx)
		}
		return c, nil, fmt.Errorf("running dnsperf: %w: %s", err, complaint.String())
	}
	if _, err := output.Seek(0, io.SeekStart); err != nil {
		return c, nil, err
	}
	return readOutput(output)
}

// timed runs a load at a fixed rate, and returns the time of each query.
func (g generator) timed(ctx context.Context, addr, file string, rate, seconds int) (delay, error) {
	c, times, err := g.load(ctx, loadCore, addr, file, "-v", "-Q", strconv.Itoa(rate), "-l", strconv.Itoa(seconds))
	if err != nil {
		return delay{}, err
	}
	return delayOf(c, times), nil
}

var (
	countLine = regexp.MustCompile(`^\s*Queries (completed|lost):\s+(\d+)`)
	timeLine  = regexp.MustCompile(`^\s*Run time \(s\):\s+([\d.]+)`)
	codesLine = regexp.MustCompile(`^\s*Response codes:`)
	oneCode   = regexp.MustCompile(`([A-Z]+\d*) (\d+) \(`)
)

// readOutput reads the output of dnsperf: its statistics and, for listed queries (-v), the time of each answered one. It reads one line at a time.
func readOutput(r io.Reader) (c counts, times []time.Duration, err error) {
	const longestLine = 4096
	complete := false
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, longestLine), longestLine)
	for lines.Scan() {
		line := lines.Bytes()
		if bytes.HasPrefix(line, []byte("> ")) {
			t, lost, err := readQuery(string(line))
			if err != nil {
				return c, nil, err
			}
			if !lost {
				times = append(times, t)
			}
			continue
		}
		if m := countLine.FindSubmatch(line); m != nil {
			n, err := strconv.Atoi(string(m[2]))
			if err != nil {
				return c, nil, fmt.Errorf("dnsperf's counts: %w", err)
			}
			if string(m[1]) == "completed" {
				c.Completed = n
			} else {
				c.Lost = n
			}
		} else if m := timeLine.FindSubmatch(line); m != nil {
			if c.Seconds, err = strconv.ParseFloat(string(m[1]), 64); err != nil {
				return c, nil, fmt.Errorf("dnsperf's run time: %w", err)
			}
			complete = true
		} else if codesLine.Match(line) {
			for _, m := range oneCode.FindAllSubmatch(line, -1) {
				if n, err := strconv.Atoi(string(m[2])); err == nil && string(m[1]) != "NOERROR" {
					c.Others += n
				}
			}
		}
	}
	switch {
	case lines.Err() != nil:
		return c, nil, fmt.Errorf("reading dnsperf's output: %w", lines.Err())
	case !complete || c.Completed == 0:
		return c, nil, errors.New("dnsperf completed no query")
	}
	return c, times, nil
}

// readQuery reads a line of dnsperf about one query: "> NOERROR www.example.com A 0.000104"; or, of one lost, "> T www.example.com A".
func readQuery(line string) (t time.Duration, lost bool, err error) {
	fields := strings.Fields(line)
	if len(fields) > 1 && fields[1] == "T" {
		return 0, true, nil
	}
	if len(fields) < 5 {
		return 0, false, fmt.Errorf("dnsperf wrote a line about a query in an unknown format: %q", line)
	}
	seconds, err := strconv.ParseFloat(fields[len(fields)-1], 64)
	if err != nil {
		return 0, false, fmt.Errorf("dnsperf's time of a query: %w", err)
	}
	return time.Duration(math.Round(seconds * 1e9)), false, nil
}

// delay are the times of the queries of a run.
type delay struct {
	P50, P99, P999 time.Duration
	Completed      int
	Lost           int
	Seconds        float64
}

func delayOf(c counts, times []time.Duration) delay {
	slices.Sort(times)
	return delay{percentile(times, 50), percentile(times, 99), percentile(times, 99.9), c.Completed, c.Lost, c.Seconds}
}

// percentile returns the smallest of the sorted times that p percent of all do not exceed; 0 if there are none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
