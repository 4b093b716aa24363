package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"rempart/bench"
)

// The measurements of Rempart alone.

// twoCores compares Rempart on one core, the load generator on the other, with Rempart on both, the load generator on the same two.
func (s *session) twoCores(ctx context.Context) error {
	one, err := s.start(ctx, s.rempart(), "one-core", serverCore)
	if err != nil {
		return err
	}
	two, err := s.start(ctx, s.rempart(), "two-cores", bothCores)
	if err != nil {
		return err
	}
	s.results.OneCore, s.results.TwoCores = map[string][]run{}, map[string][]run{}
	for round := range s.rounds {
		for _, load := range []string{blocked, cached} {
			for _, sv := range rotated([]*server{one, two}, round) {
				cores, into := loadCore, s.results.OneCore
				if sv == two {
					cores, into = bothCores, s.results.TwoCores
				}
				r, err := s.measure(ctx, sv, load, cores)
				if err != nil {
					return err
				}
				into[load] = append(into[load], r)
				say("cores, round %d of %d, %s, cores %s: %.2f µs per query, %.0f queries/s, %d lost", round+1, s.rounds, load, sv.cores, r.cost(), r.rate(), r.Lost)
			}
		}
	}
	return nil
}

// swapResult is the result of replacing the set under load.
type swapResult struct {
	Without, With []delay
	Replaced      int // number of replacements of the small list
	Versions      int // sets that came into force in that time
}

// swap measures latency while a small list, next to the large one, is replaced every second, and while it is not.
func (s *session) swap(ctx context.Context) error {
	// In a folder of its own: files in the other folder change all the time, and Rempart waits until a folder is unchanged.
	small := filepath.Join(s.dir, "swapped", "list.txt")
	if err := errors.Join(os.MkdirAll(filepath.Dir(small), 0o755), replaceList(small, 0)); err != nil {
		return err
	}
	metrics, err := bench.FreeAddr()
	if err != nil {
		return err
	}
	sv, err := s.start(ctx, s.rempart(), "swap", serverCore, "REMPART_LISTS="+s.setup.list+","+small, "REMPART_METRICS_LISTEN="+metrics)
	if err != nil {
		return err
	}
	result := &swapResult{}
	content := 0
	for round := range s.rounds {
		for i := range 2 {
			with := (round+i)%2 == 1
			if err := sv.resume(); err != nil {
				return err
			}
			// A change may cause further work: wait for it, so that it belongs to neither run.
			before, err := settled(ctx, metrics)
			if err != nil {
				return err
			}
			replacedBefore := content
			stop, done := make(chan struct{}), make(chan error, 1)
			go func() { done <- replaceEverySecond(stop, small, with, &content) }()
			d, err := s.time(ctx, sv, cached)
			close(stop)
			if err := errors.Join(err, <-done); err != nil {
				return err
			}
			if !with {
				result.Without = append(result.Without, d)
				say("swap, round %d of %d, without: p99.9 %v, %d lost", round+1, s.rounds, d.P999, d.Lost)
				continue
			}
			result.With = append(result.With, d)
			if err := sv.resume(); err != nil {
				return err
			}
			after, err := settled(ctx, metrics)
			if err != nil {
				return err
			}
			result.Replaced += content - replacedBefore
			result.Versions += after - before
			say("swap, round %d of %d, with: p99.9 %v, %d lost, %d lists, %d sets", round+1, s.rounds, d.P999, d.Lost, content-replacedBefore, after-before)
		}
	}
	if result.Versions == 0 {
		return fmt.Errorf("the small list was replaced %d times, and no set was put in force: nothing was measured", result.Replaced)
	}
	s.results.Swaps = result
	return nil
}

// replaceEverySecond replaces the list until stop is closed, if really is set. Only one runs at a time.
func replaceEverySecond(stop <-chan struct{}, path string, really bool, content *int) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
			if !really {
				continue
			}
			*content++
			if err := replaceList(path, *content); err != nil {
				return err
			}
		}
	}
}

// replaceList renames another thousand names over the small list.
func replaceList(path string, content int) error {
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("swap%x-%x.example", content, i)
	}
	fresh := path + ".new"
	if err := bench.WriteLines(fresh, names, ""); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}

// settled waits until the set's version no longer changes, and returns it.
func settled(ctx context.Context, metrics string) (version int, err error) {
	const quiet, limit = 2 * time.Second, time.Minute
	began, since := time.Now(), time.Now()
	for time.Since(since) < quiet {
		if time.Since(began) > limit {
			return 0, errors.New("the set still changes a minute after its lists did")
		}
		v, err := setVersion(metrics)
		if err != nil {
			return 0, err
		}
		if v != version {
			version, since = v, time.Now()
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return version, nil
}

// setVersion reads the version of the set in force from Rempart's metrics.
func setVersion(addr string) (int, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return 0, fmt.Errorf("reading Rempart's metrics: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(conn, "GET /metrics HTTP/1.0\r\nHost: %s\r\n\r\n", addr); err != nil {
		return 0, fmt.Errorf("reading Rempart's metrics: %w", err)
	}
	const most = 1 << 20
	lines := bufio.NewScanner(io.LimitReader(conn, most))
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "rempart_set_version "); ok {
			v, err := strconv.ParseFloat(text, 64)
			return int(v), err
		}
	}
	return 0, errors.Join(errors.New("reading Rempart's metrics: the set's version is not among them"), lines.Err())
}

// collections are the garbage collections under load.
type collections struct {
	Seconds   float64
	Completed int
	Lost      int
	Pauses    []time.Duration // times in which the world was stopped, two per collection
}

// collector lets Rempart answer the mixed load for a while, and reads the collector's pauses from the output of the runtime.
func (s *session) collector(ctx context.Context) error {
	sv, err := s.start(ctx, s.rempart(), "collector", serverCore, "GODEBUG=gctrace=1")
	if err != nil {
		return err
	}
	// Only collections under load are counted, not those of reading the list.
	info, err := os.Stat(sv.log)
	if err != nil {
		return err
	}
	result := &collections{}
	for result.Seconds < float64(s.collect) {
		r, err := s.measure(ctx, sv, mixed, loadCore)
		if err != nil {
			return err
		}
		result.Seconds += r.Seconds
		result.Completed += r.Completed
		result.Lost += r.Lost
		say("collector: %.0f s of %d", result.Seconds, s.collect)
	}
	f, err := os.Open(sv.log)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(info.Size(), io.SeekStart); err != nil {
		return err
	}
	if result.Pauses, err = readPauses(f); err != nil {
		return err
	}
	s.results.Collections = result
	if len(result.Pauses) > 0 {
		say("collector: the longest of %d pauses was %v", len(result.Pauses), slices.Max(result.Pauses))
	}
	return nil
}

// traceLine is a line of the runtime's gctrace: "gc 5 @1.234s 0%: 0.012+1.5+0.003 ms clock, …". The first and the third number are
// times in which the world was stopped.
var traceLine = regexp.MustCompile(`^gc \d+ @[\d.]+s \d+%: ([\d.]+)\+[\d.]+\+([\d.]+) ms clock`)

func readPauses(r io.Reader) (pauses []time.Duration, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		m := traceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		for _, text := range m[1:] {
			ms, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("the collector's trace: %w", err)
			}
			pauses = append(pauses, time.Duration(ms*float64(time.Millisecond)))
		}
	}
	return pauses, lines.Err()
}
