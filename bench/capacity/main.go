// Command capacity computes how many machines subscribers need, from measured costs.
//
//	go run ./bench/capacity                            # a household, an ISP and a country
//	go run ./bench/capacity -lines 250000 -cores 8     # your own
package main

import (
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

//go:embed costs.json
var measured []byte

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "capacity:", err)
		os.Exit(2)
	}
}

// scenario is a demand with a name.
type scenario struct {
	name string
	demand
}

// scenarios are what the command prints without flags.
func scenarios() []scenario {
	common := demand{
		peak: 3, hit: 0.80, block: 0.03, perConn: 50, connections: 1, names: 1e6, cached: 1e5, cores: 16, load: 0.5, sites: 1,
		transports: map[string]float64{"tls": 0.05, "https": 0.05},
	}
	household, isp, country := common, common, common
	household.lines, household.perLine, household.cores, household.transports, household.cached = 1, 5, 1, nil, 1e4
	isp.lines, isp.perLine, isp.sites, isp.failures, isp.names, isp.cached = 1e6, 0.055, 2, 1, 5e6, 5e6
	country.lines, country.perLine, country.sites, country.failures, country.names, country.cached = 30e6, 0.055, 4, 2, 10e6, 2e7
	return []scenario{{"a household", household}, {"an ISP of a million lines", isp}, {"a country of 30 million lines", country}}
}

// run prints the plans.
func run(args []string, out io.Writer) error {
	all := scenarios()
	own := all[1]
	own.name = "your lines"
	f := flag.NewFlagSet("capacity", flag.ContinueOnError)
	file := f.String("costs", "", "JSON file of measured costs in place of costs.json")
	f.Float64Var(&own.lines, "lines", 0, "lines (subscribers); without it, three scenarios are printed")
	f.Float64Var(&own.perLine, "per-line", own.perLine, "queries per second of a line, mean over a day")
	f.Float64Var(&own.peak, "peak", own.peak, "the busiest minute, in times of the mean")
	f.Float64Var(&own.hit, "hit", own.hit, "share of the queries that the cache answers")
	f.Float64Var(&own.block, "block", own.block, "share of the queries that are blocked")
	transports := f.String("transports", "tls=0.05,https=0.05", "shares of the queries by transport (tls, https, h3, quic); the rest is UDP")
	f.Float64Var(&own.perConn, "per-connection", own.perConn, "queries on one encrypted connection")
	f.Float64Var(&own.connections, "connections", own.connections, "open connections of a line that uses an encrypted transport")
	f.Float64Var(&own.names, "names", own.names, "names of the set")
	f.Float64Var(&own.cached, "cached", own.cached, "answers in the cache of a machine")
	f.Float64Var(&own.cores, "cores", own.cores, "cores of a machine")
	f.Float64Var(&own.load, "load", own.load, "share of the cores that may be busy in the peak")
	f.IntVar(&own.sites, "sites", own.sites, "sites; one of several may fail")
	f.IntVar(&own.failures, "failures", own.failures, "machines that may fail at a time")
	if err := f.Parse(args); err != nil {
		return err
	}
	text := measured
	if *file != "" {
		var err error
		if text, err = os.ReadFile(*file); err != nil {
			return err
		}
	}
	c := &costs{}
	if err := json.Unmarshal(text, c); err != nil {
		return fmt.Errorf("the costs: %w", err)
	}
	if own.lines > 0 {
		var err error
		if own.transports, err = parseShares(*transports); err != nil {
			return err
		}
		all = []scenario{own}
	}
	return print(out, c, all)
}

func parseShares(text string) (map[string]float64, error) {
	shares := map[string]float64{}
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		name, value, _ := strings.Cut(part, "=")
		share, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("-transports: %q: write transport=share, such as tls=0.1", part)
		}
		shares[name] = share
	}
	return shares, nil
}

// print writes the plans as a table with one column per scenario.
func print(out io.Writer, c *costs, all []scenario) error {
	rows := []string{"lines", "queries/s, mean", "queries/s, peak", "CPU per query", "cores busy in the peak", "cores of a machine", "machines", "queries/s per machine, peak",
		"TLS handshakes/s, peak", "memory of a machine", "network of a machine, peak"}
	cells := make([][]string, len(rows))
	for _, s := range all {
		p, err := compute(c, &s.demand)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for i, cell := range []string{
			large(s.lines), large(p.mean), large(p.peak), p.perQuery.Round(100).String(), fmt.Sprintf("%.1f", p.cores), large(s.cores), strconv.Itoa(p.machines), large(p.perMachine),
			large(p.handshakes), fmt.Sprintf("%.1f GB", p.memory/1e9), fmt.Sprintf("%.2f Gbit/s", p.bitsPerMachine/1e9),
		} {
			cells[i] = append(cells[i], cell)
		}
	}
	tw := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	heads := []string{""}
	for _, s := range all {
		heads = append(heads, s.name)
	}
	fmt.Fprintln(tw, strings.Join(heads, "\t"))
	for i, row := range rows {
		fmt.Fprintln(tw, row+"\t"+strings.Join(cells[i], "\t"))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nCosts: %s\n", c.Measured)
	return err
}

// large returns a number with three digits, or all digits below a million, in groups.
func large(v float64) string {
	if v < 10 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
