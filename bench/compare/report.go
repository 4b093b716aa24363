package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"
)

// writePage writes the page of what was measured.
func writePage(path string, r results) error {
	var page bytes.Buffer
	r.write(&page)
	if err := os.WriteFile(path, page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// write writes the page. A part that was not measured is not in it.
func (r results) write(w io.Writer) {
	fmt.Fprintf(w, "# Beside other servers\n\nWritten on %s by\n\n```sh\n%s\n```\n\n", r.Date.Format(time.DateOnly), strings.TrimSpace(r.Command))
	fmt.Fprintf(w, "%s, %d cores, Linux %s, %s, %s. %s names on the list (%s). Rounds: %d, in each of which every server has its turn; runs of %d s.\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, r.Generator, thousands(r.Listed), r.Names, r.Rounds, r.Seconds)
	fmt.Fprintf(w, "Every server runs with one thread on core 0, while the others are stopped. dnsperf and the upstream of all servers run on core 1. "+
		"CPU is the user and system time of the server, including the time in which the kernel delivers its answers. "+
		"Numbers are medians of the rounds, with the least and the most in parentheses.\n")
	if st := r.Stillness; st != nil {
		fmt.Fprintf(w, "\nHow quiet the machine was: a program that only reads the clock on core 0, with nothing else running, was interrupted for more than %v %.1f times per second, for at most %.1f ms; "+
			"during the measurements, other machines on the same host took %.0f %% of the processor time. No server answers during an interruption: this explains part of the tails of latency and of the longest pauses.\n",
			heldUp, float64(st.Times)/st.Seconds, float64(st.Longest.Microseconds())/1000, 100*st.Stolen)
	}
	r.writeBars(w)
	r.writeThroughput(w)
	r.writeLatency(w)
	r.writeTCP(w)
	r.writeCores(w)
	r.writeSwaps(w)
	r.writeCollections(w)
	r.writeMisses(w)
	fmt.Fprintf(w, "\n## How each was set up\n\nAll loopback, no logs, no validation; a listed name is answered with %v, every other comes from the upstream.\n\n", landing)
	for _, s := range r.Servers {
		fmt.Fprintf(w, "- **%s**%s: %s\n", s.Name, prefixed(" ", s.Version), s.Settings)
	}
}

func (r results) writeBars(w io.Writer) {
	bars := r.bars()
	if len(bars) == 0 {
		return
	}
	fmt.Fprint(w, "\n## What Rempart is held to\n\n| what | measured | bar | |\n|---|---|---|---|\n")
	for _, b := range bars {
		word := "at most"
		if b.Least {
			word = "at least"
		}
		fmt.Fprintf(w, "| %s | %s | %s %s | %s |\n", b.What, b.figure(b.Value), word, b.figure(b.Limit), b.outcome())
	}
}

func (b bar) figure(v float64) string {
	switch {
	case b.Unit == "queries" || b.Unit == "µs" && math.Abs(v) >= 10:
		return fmt.Sprintf("%.0f%s", v, prefixed(" ", b.Unit))
	default:
		return fmt.Sprintf("%.2f%s", v, prefixed(" ", b.Unit))
	}
}

func (b bar) outcome() string {
	switch {
	case b.kept():
		return "kept"
	case b.Unit == "":
		return fmt.Sprintf("missed by %.0f %%", 100*math.Abs(b.Value/b.Limit-1))
	default:
		return "missed by " + b.figure(math.Abs(b.Value-b.Limit))
	}
}

func (r results) writeThroughput(w io.Writer) {
	if r.Throughput == nil {
		return
	}
	fmt.Fprintf(w, "\n## Throughput\n\nAs fast as possible, UDP, ten sockets, 200 outstanding queries. CPU per query in µs; queries/s. Blocked and cached are %s names each; "+
		"mixed is 95 %% cached, 3 %% blocked and 2 %% names that were never asked before; of the distinct ones, each run asks as many as it can.\n\n", thousands(hot))
	table(w, r.Servers, loadsOfThroughput, r.Throughput, costAndRate)
	fmt.Fprintf(w, "\n%s\n", r.forwarded())
}

// table writes a row for each server that was measured under the first of the loads.
func table[T any](w io.Writer, servers []described, loads []string, runs map[cell][]T, text func([]T) string) {
	header(w, "server", loads)
	for _, s := range servers {
		if len(runs[cell{loads[0], s.Key}]) == 0 {
			continue
		}
		fmt.Fprintf(w, "| %s |", s.Name)
		for _, load := range loads {
			fmt.Fprintf(w, " %s |", text(runs[cell{load, s.Key}]))
		}
		fmt.Fprintln(w)
	}
}

func costAndRate(runs []run) string {
	if len(runs) == 0 {
		return "not measured"
	}
	return fmt.Sprintf("%s; %s/s%s", text(over(runs, run.cost), 2), thousands(int(over(runs, run.rate).Median)), flaws(runs))
}

// flaws lists the lost queries and the wrong answers of runs, if there are any.
func flaws(runs []run) (text string) {
	lost, others, sent := 0, 0, 0
	for _, r := range runs {
		lost, others, sent = lost+r.Lost, others+r.Others, sent+r.Completed+r.Lost
	}
	if lost > 0 {
		text = fmt.Sprintf("; %s of %s lost", thousands(lost), thousands(sent))
	}
	if others > 0 {
		text += fmt.Sprintf("; %s not NOERROR", thousands(others))
	}
	return text
}

// forwarded lists the queries that the upstream received of loads that it should see nothing of, and of the mixed one.
func (r results) forwarded() string {
	share := func(load, server string) float64 {
		return 100 * over(r.Throughput[cell{load, server}], func(r run) float64 { return float64(r.Forwarded) / float64(r.Completed) }).Most
	}
	var seen, missing []string
	for _, s := range r.Servers {
		if s.Key == echo || s.Key == forward {
			continue
		}
		for _, load := range []string{distinct, blocked, cached} {
			if p := share(load, s.Key); p >= 0.01 {
				seen = append(seen, fmt.Sprintf("%s forwarded %.2f %% of the load %q", s.Name, p, load))
			}
		}
		missing = append(missing, fmt.Sprintf("%s %.1f", s.Name, share(mixed, s.Key)))
	}
	text := "Of the mixed load the upstream had, in per cent of the queries at most: " + strings.Join(missing, ", ") + "."
	if len(seen) == 0 {
		return text + " Of the others it had none, or less than one in ten thousand."
	}
	return text + " Of the others: " + strings.Join(seen, "; ") + "."
}

func (r results) writeLatency(w io.Writer) {
	if r.Latency == nil {
		return
	}
	fmt.Fprintf(w, "\n## Latency\n\nAt %s queries/s, UDP. p50 / p99 / p99.9 in µs, medians of the rounds. At most 200 queries are outstanding, which is 10 ms of the load: "+
		"if a server is interrupted for longer, dnsperf waits, so tails beyond 10 ms are reported too short.\n\n", thousands(steady))
	table(w, r.Servers, loadsOfLatency, r.Latency, tails)
}

// tails are the medians of three percentiles, and what was lost or not sent in time.
func tails(runs []delay) string {
	text := fmt.Sprintf("%.0f / %.0f / %.0f", over(runs, delay.p50).Median, over(runs, delay.p99).Median, over(runs, delay.p999).Median)
	if n := lost(runs); n > 0 {
		text += fmt.Sprintf("; %s lost", thousands(n))
	}
	if rate := over(runs, func(d delay) float64 { return float64(d.Completed) / d.Seconds }).Median; rate < 0.99*steady {
		text += fmt.Sprintf("; at %s/s only", thousands(int(rate)))
	}
	return text
}

func (r results) writeTCP(w io.Writer) {
	if r.TCP == nil {
		return
	}
	fmt.Fprint(w, "\n## TCP\n\nTen connections, 200 outstanding queries. CPU per query in µs; queries per second of CPU time.\n\n")
	table(w, r.Servers, []string{cached, blocked}, r.TCP, func(runs []run) string {
		return fmt.Sprintf("%s; %s%s", text(over(runs, run.cost), 2), thousands(int(over(runs, run.capacity).Median)), flaws(runs))
	})
}

func (r results) writeCores(w io.Writer) {
	if r.TwoCores == nil {
		return
	}
	fmt.Fprint(w, "\n## Two cores\n\nRempart on core 0, dnsperf on core 1; and Rempart on both, dnsperf on the same two. CPU per query in µs; queries/s.\n\n")
	loads := []string{blocked, cached}
	header(w, "", loads)
	for _, row := range []struct {
		name string
		runs map[string][]run
	}{{"one core", r.OneCore}, {"two cores", r.TwoCores}} {
		fmt.Fprintf(w, "| %s |", row.name)
		for _, load := range loads {
			fmt.Fprintf(w, " %s |", costAndRate(row.runs[load]))
		}
		fmt.Fprintln(w)
	}
}

func (r results) writeSwaps(w io.Writer) {
	if r.Swaps == nil {
		return
	}
	s := r.Swaps
	fmt.Fprintf(w, "\n## The set replaced under load\n\nRempart, the cached load at %s queries/s; with swaps a second list of 1,000 names is replaced every second: "+
		"%d times, and %d new sets came into force.\n\n", thousands(steady), s.Replaced, s.Versions)
	header(w, "", []string{"p50 / p99 / p99.9, µs", "p99.9 (least to most)", "lost"})
	for _, row := range []struct {
		name string
		runs []delay
	}{{"without", s.Without}, {"with swaps", s.With}} {
		tail := over(row.runs, delay.p999)
		fmt.Fprintf(w, "| %s | %.0f / %.0f / %.0f | %.0f to %.0f | %d |\n", row.name, over(row.runs, delay.p50).Median, over(row.runs, delay.p99).Median,
			tail.Median, tail.Least, tail.Most, lost(row.runs))
	}
}

func (r results) writeCollections(w io.Writer) {
	if r.Collections == nil {
		return
	}
	c := r.Collections
	fmt.Fprintf(w, "\n## The garbage collector\n\nRempart under %.0f s of the mixed load, %s queries, %s lost, and what warmed it between runs: ", c.Seconds, thousands(c.Completed), thousands(c.Lost))
	if len(c.Pauses) == 0 {
		fmt.Fprintln(w, "it did not run.")
		return
	}
	pauses := spreadOf(each(c.Pauses, microseconds))
	over := 0
	for _, p := range c.Pauses {
		if microseconds(p) > mostPause {
			over++
		}
	}
	fmt.Fprintf(w, "it ran %d times. With the world stopped twice each time, a pause was %.0f µs in the median and %.0f µs at the longest, and %d of %d were over %.0f µs (`GODEBUG=gctrace=1`).\n",
		len(c.Pauses)/2, pauses.Median, pauses.Most, over, len(c.Pauses), mostPause)
}

func header(w io.Writer, first string, columns []string) {
	fmt.Fprintf(w, "| %s | %s |\n|%s\n", first, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)+1))
}

// text is a median with the least and the most.
func text(s spread, digits int) string {
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.Median, digits, s.Least, digits, s.Most)
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// prefixed is text behind a prefix, or nothing.
func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
