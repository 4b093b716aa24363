package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"rempart/bench"
)

// run is the result of one run of a load.
type run struct {
	counts
	CPU       time.Duration // of the server
	Forwarded uint32        // queries that the upstream received during the run
}

func (r run) cost() float64     { return float64(r.CPU.Nanoseconds()) / 1000 / float64(r.Completed) } // µs per query
func (r run) rate() float64     { return float64(r.Completed) / r.Seconds }
func (r run) capacity() float64 { return float64(r.Completed) / r.CPU.Seconds() } // queries per second of CPU

// cell is a place in a table.
type cell struct{ Load, Server string }

// ready resumes a server, prepares it for a load, and returns the file of the load.
func (s *session) ready(ctx context.Context, sv *server, load string) (file string, err error) {
	if file, err = s.loads.file(load, s.seconds); err != nil {
		return "", err
	}
	if err := sv.resume(); err != nil {
		return "", err
	}
	return file, sv.fresh(ctx, s, load)
}

// measure lets one server answer one load as fast as it can.
func (s *session) measure(ctx context.Context, sv *server, load, cores string, args ...string) (r run, err error) {
	file, err := s.ready(ctx, sv, load)
	if err != nil {
		return r, err
	}
	asked, err := upstreamAsked(s.setup.upstream.addr)
	if err != nil {
		return r, err
	}
	before, err := bench.CPU(sv.pid())
	if err != nil {
		return r, err
	}
	args = append([]string{"-l", strconv.Itoa(s.seconds)}, args...)
	if once(load) {
		args = append(args, "-n", "1")
	}
	if r.counts, _, err = s.generator.load(ctx, cores, sv.addr, file, args...); err != nil {
		return r, s.why(sv, err)
	}
	now, err := bench.CPU(sv.pid())
	if err != nil {
		return r, s.why(sv, err)
	}
	r.CPU = now - before
	after, err := upstreamAsked(s.setup.upstream.addr)
	if err != nil {
		return r, err
	}
	r.Forwarded = after - asked
	return r, sv.pause()
}

// why returns the error of the load generator, or of the server that ended during the load.
func (s *session) why(sv *server, err error) error {
	if !sv.isRunning() {
		return sv.unexpectedEnd()
	}
	return fmt.Errorf("%s: %w", sv.peer.name, err)
}

// rotated returns the servers in the order of a round: each is first once, so that a drift affects all equally.
func rotated(servers []*server, round int) []*server {
	at := round % len(servers)
	return slices.Concat(servers[at:], servers[:at])
}

// loadsOfThroughput and loadsOfLatency are measured in this order.
var (
	loadsOfThroughput = []string{distinct, blocked, cached, mixed}
	loadsOfLatency    = []string{cached, blocked, mixed}
)

// throughput measures all servers under all loads, in rounds.
func (s *session) throughput(ctx context.Context, servers []*server) error {
	s.results.Throughput = map[cell][]run{}
	for round := range s.rounds {
		for _, load := range loadsOfThroughput {
			for _, sv := range rotated(servers, round) {
				r, err := s.measure(ctx, sv, load, loadCore)
				if err != nil {
					return err
				}
				at := cell{load, sv.key}
				s.results.Throughput[at] = append(s.results.Throughput[at], r)
				say("throughput, round %d of %d, %s, %s: %.2f µs per query, %.0f queries/s, %d lost, %d other than NOERROR, %d forwarded",
					round+1, s.rounds, load, sv.peer.name, r.cost(), r.rate(), r.Lost, r.Others, r.Forwarded)
			}
		}
	}
	return nil
}

// steady is the rate at which latency is measured, queries/s.
const steady = 20_000

// latency measures how long all servers take at a steady rate, in rounds.
func (s *session) latency(ctx context.Context, servers []*server) error {
	s.results.Latency = map[cell][]delay{}
	for round := range s.rounds {
		for _, load := range loadsOfLatency {
			for _, sv := range rotated(servers, round) {
				d, err := s.time(ctx, sv, load)
				if err != nil {
					return err
				}
				at := cell{load, sv.key}
				s.results.Latency[at] = append(s.results.Latency[at], d)
				say("latency, round %d of %d, %s, %s: %v, %v, %v; %d lost", round+1, s.rounds, load, sv.peer.name, d.P50, d.P99, d.P999, d.Lost)
			}
		}
	}
	return nil
}

// time lets one server answer one load at the steady rate.
func (s *session) time(ctx context.Context, sv *server, load string) (d delay, err error) {
	file, err := s.ready(ctx, sv, load)
	if err != nil {
		return d, err
	}
	if d, err = s.generator.timed(ctx, sv.addr, file, steady, s.seconds); err != nil {
		return d, s.why(sv, err)
	}
	return d, sv.pause()
}

// tcp measures queries over TCP, for the servers that are compared with each other.
func (s *session) tcp(ctx context.Context, servers []*server) error {
	servers = slices.DeleteFunc(slices.Clone(servers), func(sv *server) bool { return sv.key != rempart && sv.key != unbound })
	if len(servers) == 0 {
		return nil
	}
	s.results.TCP = map[cell][]run{}
	for round := range s.rounds {
		for _, load := range []string{cached, blocked} {
			for _, sv := range rotated(servers, round) {
				r, err := s.measure(ctx, sv, load, loadCore, "-m", "tcp")
				if err != nil {
					return err
				}
				at := cell{load, sv.key}
				s.results.TCP[at] = append(s.results.TCP[at], r)
				say("TCP, round %d of %d, %s, %s: %.2f µs per query, %.0f queries/s, %d lost", round+1, s.rounds, load, sv.peer.name, r.cost(), r.rate(), r.Lost)
			}
		}
	}
	return nil
}
