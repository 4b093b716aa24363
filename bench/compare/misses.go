package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// missResult holds the measurements of loads with many names that were never asked before.
type missResult struct {
	Throughput        map[cell][]run
	Latency           map[cell][]delay // of misses
	OneCore, TwoCores []run            // of misses, Rempart
}

// loadsOfMisses is in the order of measurement.
var loadsOfMisses = []string{misses, typical}

// misses measures the servers and the bare forwarder under loads that have to be forwarded, in rounds.
func (s *session) misses(ctx context.Context) error {
	r := &missResult{Throughput: map[cell][]run{}, Latency: map[cell][]delay{}}
	s.results.Misses = r
	var servers []*server
	for _, p := range slices.Concat(s.servers, overTLS(s.servers), []peer{bareForwarder}) {
		if p.key == echo {
			continue
		}
		sv, err := s.start(ctx, p, "misses-"+p.key, serverCore)
		if err != nil {
			return err
		}
		servers = append(servers, sv)
	}
	for round := range s.rounds {
		for _, load := range loadsOfMisses {
			for _, sv := range rotated(servers, round) {
				if load != misses && (sv.key == forward || strings.HasSuffix(sv.key, tlsSuffix)) {
					continue
				}
				if err := s.missesOnce(ctx, sv, load, round); err != nil {
					return err
				}
			}
		}
	}
	s.fleet.endServers()
	return s.missesOnTwoCores(ctx)
}

// missesOnce measures one server once.
func (s *session) missesOnce(ctx context.Context, sv *server, load string, round int) error {
	at := cell{load, sv.key}
	r, err := s.measure(ctx, sv, load, loadCore)
	if err != nil {
		return err
	}
	s.results.Misses.Throughput[at] = append(s.results.Misses.Throughput[at], r)
	say("misses, round %d of %d, %s, %s: %.2f µs per query, %.0f queries/s, %d lost, %d other than NOERROR, %d forwarded",
		round+1, s.rounds, load, sv.peer.name, r.cost(), r.rate(), r.Lost, r.Others, r.Forwarded)
	if load != misses {
		return nil
	}
	d, err := s.time(ctx, sv, load)
	if err != nil {
		return err
	}
	s.results.Misses.Latency[at] = append(s.results.Misses.Latency[at], d)
	say("misses, round %d of %d, %s, %s: %v, %v, %v; %d lost", round+1, s.rounds, load, sv.peer.name, d.P50, d.P99, d.P999, d.Lost)
	return nil
}

// missesOnTwoCores compares Rempart on one core with Rempart on both, as twoCores does.
func (s *session) missesOnTwoCores(ctx context.Context) error {
	if !slices.ContainsFunc(s.servers, func(p peer) bool { return p.key == rempart }) {
		return nil
	}
	one, err := s.start(ctx, s.rempart(), "misses-one-core", serverCore)
	if err != nil {
		return err
	}
	two, err := s.start(ctx, s.rempart(), "misses-two-cores", bothCores)
	if err != nil {
		return err
	}
	for round := range s.rounds {
		for _, sv := range rotated([]*server{one, two}, round) {
			cores, into := loadCore, &s.results.Misses.OneCore
			if sv == two {
				cores, into = bothCores, &s.results.Misses.TwoCores
			}
			r, err := s.measure(ctx, sv, misses, cores)
			if err != nil {
				return err
			}
			*into = append(*into, r)
			say("misses, round %d of %d, cores %s: %.2f µs per query, %.0f queries/s, %d lost", round+1, s.rounds, sv.cores, r.cost(), r.rate(), r.Lost)
		}
	}
	return nil
}

// bars returns the goals of which both sides were measured.
func (m *missResult) bars() (all []bar) {
	if m == nil {
		return nil
	}
	for _, b := range []struct {
		load, peer, name string
		limit            float64
	}{{misses, dnsdist, "dnsdist", mostOfMisses}, {misses, forward, "the bare forwarder", mostOfForward}, {typical, dnsdist, "dnsdist", mostOfTypical}} {
		if both(m.Throughput, b.load, b.peer) {
			cost := func(server string) float64 { return over(m.Throughput[cell{b.load, server}], run.cost).Median }
			all = append(all, bar{"CPU per query, " + b.load + ", relative to " + b.name, cost(rempart) / cost(b.peer), b.limit, false, ""})
		}
	}
	if tls := m.Throughput[cell{misses, rempart + tlsSuffix}]; len(tls) > 0 && len(m.Throughput[cell{misses, rempart}]) > 0 {
		all = append(all, bar{"CPU per query, misses over TLS, relative to UDP", over(tls, run.cost).Median / over(m.Throughput[cell{misses, rempart}], run.cost).Median, mostOfTLS, false, ""})
	}
	if both(m.Latency, misses, forward) {
		of := func(server string, figure func(delay) float64) float64 {
			return over(m.Latency[cell{misses, server}], figure).Median
		}
		all = append(all, bar{"p50, misses, relative to the bare forwarder", of(rempart, delay.p50) / of(forward, delay.p50), mostForwardP50, false, ""},
			bar{"p99, misses, relative to the bare forwarder", of(rempart, delay.p99) / of(forward, delay.p99), mostForwardP99, false, ""})
	}
	if len(m.OneCore) > 0 {
		all = append(all, bar{"CPU per query on two cores, misses, relative to one core", over(m.TwoCores, run.cost).Median / over(m.OneCore, run.cost).Median, mostMissCores, false, ""})
	}
	return all
}

func (r results) writeMisses(w io.Writer) {
	if r.Misses == nil {
		return
	}
	fmt.Fprint(w, "\n## Forwarding\n\nMisses are names that were never asked before; typical of an ISP are 80 % cached, 3 % blocked and 17 % misses. CPU per query in µs; queries/s.\n\n")
	table(w, r.Servers, loadsOfMisses, r.Misses.Throughput, costAndRate)
	fmt.Fprintf(w, "\nMisses at %s queries/s: p50 / p99 / p99.9 in µs, medians of the rounds.\n\n", thousands(steady))
	table(w, r.Servers, []string{misses}, r.Misses.Latency, tails)
	if len(r.Misses.OneCore) > 0 {
		fmt.Fprintf(w, "\nRempart under misses on one core: %s; on two, shared with the load: %s.\n", costAndRate(r.Misses.OneCore), costAndRate(r.Misses.TwoCores))
	}
}
