package main

import (
	"slices"
	"time"
)

// results is all that was measured. What was not is nil.
type results struct {
	Date      time.Time
	Command   string
	Machine   machine
	Generator string
	Names     string // where the names are from
	Listed    int
	Rounds    int
	Seconds   int // of a run
	Servers   []described
	Stillness *stillness

	Throughput  map[cell][]run // a run a round
	Latency     map[cell][]delay
	TCP         map[cell][]run
	OneCore     map[string][]run // by load
	TwoCores    map[string][]run
	Swaps       *swapResult
	Collections *collections
	Misses      *missResult
}

// described is a server that took part.
type described struct {
	Key, Name, Version, Settings string
}

// spread is a measurement over several runs.
type spread struct {
	Median, Least, Most float64
}

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return spread{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// over collects one measurement of each run.
func over[T any](runs []T, figure func(T) float64) spread { return spreadOf(each(runs, figure)) }

func each[T any](runs []T, figure func(T) float64) []float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = figure(r)
	}
	return values
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

func (d delay) p50() float64  { return microseconds(d.P50) }
func (d delay) p99() float64  { return microseconds(d.P99) }
func (d delay) p999() float64 { return microseconds(d.P999) }

// bar is a goal of Rempart: a measurement and its limit.
type bar struct {
	What  string
	Value float64
	Limit float64
	Least bool // the limit is the least, not the most
	Unit  string
}

func (b bar) kept() bool {
	if b.Least {
		return b.Value >= b.Limit
	}
	return b.Value <= b.Limit
}

// The limits that the measurements of Rempart must meet; -Of- is a ratio to another measurement.
const (
	mostOfDnsdist    = 0.55   // CPU per query, to dnsdist's, all names distinct
	mostOfCached     = 0.65   // CPU per query, to PowerDNS Recursor's, cached
	mostOfMixed      = 0.75   // CPU per query, to PowerDNS Recursor's, mixed
	mostAboveEcho    = 0.6    // µs per query more than the echo server, which measures the cost of sockets
	mostOfMedian     = 1.1    // p50, to PowerDNS Recursor's
	mostOfEcho       = 1.5    // p99, to the echo server's, if the limit is then above leastOfTail
	leastOfTail      = 3000.0 // µs; a virtual machine alone causes a p99 of this size
	mostPause        = 100.0  // µs, the longest pause of the garbage collector
	mostOfSwaps      = 2.0    // p99.9 while sets are replaced, to p99.9 without
	mostOfOneCore    = 1.10   // CPU per query on two cores, to one core
	mostOfMisses     = 0.5    // CPU per query, to dnsdist's, misses
	mostOfForward    = 2.5    // CPU per query, to the bare forwarder's, misses
	mostOfTypical    = 0.4    // CPU per query, to dnsdist's, typical of an ISP
	mostOfTLS        = 1.3    // CPU per query with an upstream over TLS, to UDP, misses
	mostForwardP50   = 1.5    // p50 of misses, to the bare forwarder's
	mostForwardP99   = 2.0    // p99 of misses, to the bare forwarder's
	mostMissCores    = 1.15   // CPU per query on two cores, to one core, misses
	leastOfUnboundIn = 1.5    // queries over TCP per second of CPU, to Unbound's
)

// bars returns the bars of which both sides were measured.
func (r results) bars() (all []bar) {
	add := func(what string, value, limit float64, unit string) {
		all = append(all, bar{what, value, limit, false, unit})
	}
	cost := func(load, server string) float64 { return over(r.Throughput[cell{load, server}], run.cost).Median }
	for _, b := range []struct {
		load, peer, name string
		limit            float64
	}{{distinct, dnsdist, "dnsdist", mostOfDnsdist}, {cached, recursor, "PowerDNS Recursor", mostOfCached}, {mixed, recursor, "PowerDNS Recursor", mostOfMixed}} {
		if both(r.Throughput, b.load, b.peer) {
			add("CPU per query, "+b.load+", relative to "+b.name, cost(b.load, rempart)/cost(b.load, b.peer), b.limit, "")
		}
	}
	for _, load := range []string{blocked, cached} {
		if both(r.Throughput, load, echo) {
			add("CPU per query, "+load+", above the echo's: medians", cost(load, rempart)-cost(load, echo), mostAboveEcho, "µs")
			add("CPU per query, "+load+", above the echo's: median of the rounds' differences", r.aboveEcho(load), mostAboveEcho, "µs")
		}
	}
	for _, load := range loadsOfLatency {
		of := func(server string, figure func(delay) float64) float64 {
			return over(r.Latency[cell{load, server}], figure).Median
		}
		if both(r.Latency, load, recursor) {
			add("p50, "+load+", of PowerDNS Recursor's", of(rempart, delay.p50)/of(recursor, delay.p50), mostOfMedian, "")
		}
		if both(r.Latency, load, echo) {
			add("p99, "+load, of(rempart, delay.p99), max(mostOfEcho*of(echo, delay.p99), leastOfTail), "µs")
		}
	}
	return append(append(all, r.barsAlone()...), r.Misses.bars()...)
}

// barsAlone returns the bars of the parts after throughput and latency.
func (r results) barsAlone() (all []bar) {
	for _, load := range []string{cached, blocked} {
		if both(r.TCP, load, unbound) {
			of := func(server string) float64 { return over(r.TCP[cell{load, server}], run.capacity).Median }
			all = append(all, bar{"queries over TCP a CPU second, " + load + ", of Unbound's", of(rempart) / of(unbound), leastOfUnboundIn, true, ""})
		}
	}
	for _, load := range []string{cached, blocked} {
		if len(r.TwoCores[load]) > 0 {
			value := over(r.TwoCores[load], run.cost).Median / over(r.OneCore[load], run.cost).Median
			all = append(all, bar{"CPU per query on two cores, " + load + ", relative to one core", value, mostOfOneCore, false, ""})
		}
	}
	if s := r.Swaps; s != nil {
		all = append(all, bar{"p99.9 with swaps, of that without", over(s.With, delay.p999).Median / over(s.Without, delay.p999).Median, mostOfSwaps, false, ""},
			bar{"queries lost with swaps", float64(lost(s.With)), 0, false, "queries"})
	}
	if c := r.Collections; c != nil && len(c.Pauses) > 0 {
		all = append(all, bar{"the collector's longest pause", microseconds(slices.Max(c.Pauses)), mostPause, false, "µs"})
	}
	return all
}

// both reports whether Rempart and a peer were measured under a load.
func both[T any](table map[cell][]T, load, peer string) bool {
	return len(table[cell{load, rempart}]) > 0 && len(table[cell{load, peer}]) > 0
}

// aboveEcho is the median of what Rempart took above the echo in the same round.
func (r results) aboveEcho(load string) float64 {
	ours, floor := r.Throughput[cell{load, rempart}], r.Throughput[cell{load, echo}]
	var differences []float64
	for i := range min(len(ours), len(floor)) {
		differences = append(differences, ours[i].cost()-floor[i].cost())
	}
	return spreadOf(differences).Median
}

func lost(delays []delay) (n int) {
	for _, d := range delays {
		n += d.Lost
	}
	return n
}
