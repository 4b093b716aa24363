// Command compare measures Rempart and other DNS servers, one after another: each blocks the same list, forwards to the same upstream and runs on one
// core, while dnsperf queries it from another core. The command installs nothing, and writes the results as one page.
//
//	go run ./bench/compare                                  # everything: about an hour
//	go run ./bench/compare -parts throughput -rounds 1 -servers rempart,unbound,echo -out /dev/stdout
//
// Package bench documents where the listed names are from. Linux only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"rempart/bench"
)

// The parts, in the order in which they are measured.
const (
	partThroughput = "throughput"
	partLatency    = "latency"
	partTCP        = "tcp"
	partCores      = "cores"
	partSwap       = "swap"
	partCollector  = "collector"
	partMisses     = "misses"
)

var allParts = []string{partThroughput, partLatency, partTCP, partCores, partSwap, partCollector, partMisses}

type options struct {
	listed  int
	servers []peer
	parts   []string
	rounds  int
	seconds int // of a run
	collect int // of the part about the collector
	out     string
	keep    string
}

// programs is the folder of the programs that are built here.
const programs = "bin"

// session is one call of the command.
type session struct {
	options
	dir       string
	setup     setup
	loads     *loads
	generator generator
	fleet     fleet
	results   results
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == upstreamCommand {
		if err := serveUpstream(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "compare: the upstream:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == stillCommand {
		length, err := time.ParseDuration(os.Args[2])
		if err != nil || length > time.Minute {
			fmt.Fprintf(os.Stderr, "compare: %q is no length of time up to a minute\n", os.Args[2])
			os.Exit(2)
		}
		watchClock(length)
		return
	}
	o, err := readFlags()
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	if err := compare(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func readFlags() (o options, err error) {
	servers := flag.String("servers", strings.Join(allPeers(), ","), "the servers to measure")
	parts := flag.String("parts", strings.Join(allParts, ","), "what to measure")
	flag.IntVar(&o.listed, "listed", 1_000_000, "names on the list, 20,000 to 10,000,000")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds, 1 to 20")
	flag.IntVar(&o.seconds, "seconds", 5, "length of a run, 1 to 30")
	flag.IntVar(&o.collect, "collector", 60, "seconds of load in the part about the garbage collector, 1 to 600")
	flag.StringVar(&o.out, "out", filepath.Join("bench", "RESULTS.md"), "where to write the page")
	flag.StringVar(&o.keep, "keep", "", "a folder for the servers' configurations and output")
	flag.Parse()
	for _, f := range []struct {
		name               string
		value, least, most int
	}{{"listed", o.listed, 2 * hot, 10_000_000}, {"rounds", o.rounds, 1, 20}, {"seconds", o.seconds, 1, 30}, {"collector", o.collect, 1, 600}} {
		if f.value < f.least || f.value > f.most {
			return o, fmt.Errorf("-%s takes a number from %d to %d", f.name, f.least, f.most)
		}
	}
	if flag.NArg() > 0 {
		return o, fmt.Errorf("%q is no flag", flag.Arg(0))
	}
	o.parts = strings.Split(*parts, ",")
	for _, p := range o.parts {
		if !slices.Contains(allParts, p) {
			return o, fmt.Errorf("-parts: there is no %q; there are %s", p, strings.Join(allParts, ","))
		}
	}
	o.servers, err = chosen(strings.Split(*servers, ","))
	return o, err
}

// wants reports whether a part is to be measured.
func (o options) wants(parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(o.parts, p) })
}

// say reports the progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

// compare prepares everything, measures, and writes the page. Everything that it started has ended when it returns.
func compare(ctx context.Context, o options) (err error) {
	if runtime.GOOS != "linux" || runtime.NumCPU() < 2 {
		return errors.New("measuring takes Linux and two cores")
	}
	if _, err := os.Stat(filepath.Dir(o.out)); err != nil {
		return fmt.Errorf("-out: %w", err)
	}
	paths, err := find(o.servers)
	if err != nil {
		return err
	}
	s := &session{options: o}
	if s.dir, err = os.MkdirTemp("", "rempart-compare"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	shared := s.dir
	if memory, err := os.MkdirTemp("/dev/shm", "rempart-compare"); err == nil {
		defer os.RemoveAll(memory)
		shared = memory
	}
	if err := build(ctx, filepath.Join(s.dir, programs), paths); err != nil {
		return err
	}
	if err := s.prepareLoads(); err != nil {
		return err
	}
	s.generator = generator{paths[loadGenerator], s.dir}
	up, at, err := launchUpstream(s.dir)
	if err != nil {
		return err
	}
	s.fleet.running = append(s.fleet.running, up)
	defer s.fleet.end()
	if err := up.waitUntil(ctx, 10*time.Second, func() error { _, err := upstreamAsked(at.addr); return err }); err != nil {
		return err
	}
	s.setup = setup{dir: s.dir, shared: shared, list: s.loads.list(), zone: s.loads.zone(), upstream: at, paths: paths}
	s.describe(ctx)
	if s.results.Stillness, err = measureStillness(ctx); err != nil {
		return err
	}
	allBefore, stolenBefore, err := processorTime()
	if err != nil {
		return err
	}
	err = s.all(ctx)
	if all, stolen, err := processorTime(); err == nil {
		s.results.Stillness.Stolen = float64(stolen-stolenBefore) / float64(max(1, all-allBefore))
	}
	if o.keep != "" {
		err = errors.Join(err, s.keepFiles())
	}
	if err != nil {
		return err
	}
	if err := writePage(o.out, s.results); err != nil {
		return err
	}
	say("written to %s", o.out)
	return nil
}

// prepareLoads writes the list in both formats, and the loads.
func (s *session) prepareLoads() (err error) {
	if s.loads, err = newLoads(s.dir, s.listed); err != nil {
		return err
	}
	say("%d names listed", len(s.loads.names))
	return s.loads.writeLists()
}

// all measures the chosen parts. While one server is measured, the others are paused.
func (s *session) all(ctx context.Context) error {
	if s.wants(partThroughput, partLatency, partTCP) {
		servers, err := s.startAll(ctx)
		if err != nil {
			return err
		}
		if s.wants(partThroughput) {
			if err := s.throughput(ctx, servers); err != nil {
				return err
			}
		}
		if s.wants(partLatency) {
			if err := s.latency(ctx, servers); err != nil {
				return err
			}
		}
		if s.wants(partTCP) {
			if err := s.tcp(ctx, servers); err != nil {
				return err
			}
		}
		s.fleet.endServers()
	}
	for _, p := range []struct {
		name string
		do   func(context.Context) error
	}{{partCores, s.twoCores}, {partSwap, s.swap}, {partCollector, s.collector}, {partMisses, s.misses}} {
		if !s.wants(p.name) {
			continue
		}
		if err := p.do(ctx); err != nil {
			return err
		}
		s.fleet.endServers()
	}
	return nil
}

// startAll starts the servers, one after the other.
func (s *session) startAll(ctx context.Context) (servers []*server, err error) {
	for _, p := range s.servers {
		if !s.wants(partThroughput, partLatency) && p.key != rempart && p.key != unbound {
			continue // TCP alone
		}
		sv, err := s.start(ctx, p, p.key, serverCore)
		if err != nil {
			return nil, err
		}
		servers = append(servers, sv)
	}
	return servers, nil
}

// rempart returns the peer that is also measured alone.
func (s *session) rempart() peer { return peers[0] }

// describe records what is measured, and on which machine.
func (s *session) describe(ctx context.Context) {
	s.results = results{
		Date: time.Now(), Machine: thisMachine(), Command: "go run ./bench/compare " + strings.Join(os.Args[1:], " "),
		Listed: len(s.loads.names), Rounds: s.rounds, Seconds: s.seconds, Generator: "dnsperf " + versionOf(ctx, peer{program: loadGenerator, ask: []string{"-h"}}, s.setup.paths),
	}
	s.results.Names = "made up"
	if os.Getenv(bench.ThreatNames) != "" && os.Getenv(bench.PopularNames) != "" {
		s.results.Names = "real, from the files that " + bench.ThreatNames + " and " + bench.PopularNames + " name"
	}
	for _, p := range s.servers {
		s.results.Servers = append(s.results.Servers, described{p.key, p.name, versionOf(ctx, p, s.setup.paths), p.settings})
	}
	if s.wants(partMisses) {
		for _, p := range append(overTLS(s.servers), bareForwarder) {
			s.results.Servers = append(s.results.Servers, described{p.key, p.name, "", p.settings})
		}
	}
}

// keepFiles copies each server's configuration and output to the folder of -keep.
func (s *session) keepFiles() error {
	files, err := filepath.Glob(filepath.Join(s.dir, "*", "*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		of := filepath.Base(filepath.Dir(file))
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if of == programs || of == listFolder || !info.Mode().IsRegular() {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		to := filepath.Join(s.keep, of)
		if err := errors.Join(os.MkdirAll(to, 0o755), os.WriteFile(filepath.Join(to, filepath.Base(file)), b, 0o644)); err != nil {
			return err
		}
	}
	return nil
}
