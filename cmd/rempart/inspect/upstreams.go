package inspect

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/running"
	"rempart/internal/local"
)

func upstreamsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "upstreams", Short: "Show the upstreams of the running server", Args: cli.NoArgs,
		Long: `Show the upstreams to which the running server forwards: those of REMPART_UPSTREAMS (zone "."), and those of each zone of REMPART_FORWARD, in the
configured order. The numbers start at the start of the server. They start again when the addresses of upstreams change: those of the system's resolvers, or
those of a host name. The log of the server says why an upstream is down.

  state             healthy (also before its first answer), down (asked only if no healthy upstream is left), or that the upstream forwards back to this
                    server and is not used
  last good answer  the time since the last answer to a query or a probe, errors such as SERVFAIL not included
  p50, p95, p99     round-trip times that 50, 95 and 99 of 100 answers do not exceed, of the newest 512 answers
  mean              mean of the round-trip times, in which newer answers have more weight
  queries           attempts to get an answer from the upstream; probes are not included
  retries           queries sent again because an earlier one had failed, by a further attempt, within an attempt, or within a probe
  hedges            attempts because another attempt was slow
  in flight         attempts that wait for an answer now
  foreign answers   messages that answer no question: forged or too late
  failures          failed attempts, by kind:
                    timeout      no answer in time
                    unreachable  the network or the upstream refused the connection or the query, or closed the connection
                    untrusted    the TLS handshake failed, for example because the certificate is not valid for the upstream
                    malformed    no valid answer, for example an HTTP error
                    overload     too many questions were in flight
                    local        this machine lacks file descriptors, memory or ports
                    rcode        SERVFAIL, REFUSED and the like

` + running.ClientOnly + `

Exit code: 0, 1 if a zone has no healthy upstream, 2 on an error.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := running.Client(cmd.Context())
			if err != nil {
				return err
			}
			groups, err := client.Upstreams(cmd.Context())
			if err != nil {
				return err
			}
			if err := writeUpstreams(cmd.OutOrStdout(), groups, asJSON, time.Now()); err != nil {
				return err
			}
			if slices.ContainsFunc(groups, lacksHealthy) {
				return cli.Negative
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object per zone")
	return cmd
}

// lacksHealthy reports whether no upstream of g is healthy.
func lacksHealthy(g local.UpstreamGroup) bool {
	return !slices.ContainsFunc(g.Upstreams, func(u local.UpstreamStats) bool { return u.State == local.UpstreamHealthy })
}

func writeUpstreams(out io.Writer, groups []local.UpstreamGroup, asJSON bool, now time.Time) error {
	enc := cli.JSON(out)
	for i := range groups {
		err := error(nil)
		if asJSON {
			err = enc.Encode(&groups[i])
		} else {
			err = writeGroup(out, &groups[i], now)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeGroup writes the numbers of a zone, and a table of its upstreams.
func writeGroup(out io.Writer, g *local.UpstreamGroup, now time.Time) error {
	tw := cli.Table(out)
	fmt.Fprintf(tw, "zone %s: %s, %d unanswered, %d in flight", g.Zone, report.Count(int(g.Questions), "question"), g.Unanswered, g.InFlight)
	if g.Shed > 0 {
		fmt.Fprintf(tw, ", %d refused because too many questions were waiting", g.Shed)
	}
	if g.Denied > 0 {
		fmt.Fprintf(tw, ", %d without a retry or hedge because these are limited", g.Denied)
	}
	fmt.Fprintln(tw)
	if len(g.Upstreams) == 0 {
		fmt.Fprintf(tw, "  no upstream: %s\n", cmp.Or(g.Missing, "none is known yet"))
		return tw.Flush()
	}
	fmt.Fprintln(tw, "  upstream\tstate\tlast good answer\tp50\tp95\tp99\tmean\tqueries\tretries\thedges\tin flight\tforeign answers\tfailures")
	for i := range g.Upstreams {
		u := &g.Upstreams[i]
		p50, p95, p99, mean := "-", "-", "-", "-"
		if u.Answers > 0 {
			p50, p95, p99, mean = report.Milliseconds(u.P50), report.Milliseconds(u.P95), report.Milliseconds(u.P99), report.Milliseconds(u.Mean)
		}
		good := "none yet"
		if !u.LastGoodAnswer.IsZero() {
			good = report.Age(now.Sub(u.LastGoodAnswer)) + " ago"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", u.Upstream, stateText(u, now), good, p50, p95, p99, mean,
			u.Queries, u.Retries, u.Hedges, u.InFlight, u.ForeignAnswers, failuresText(u.Failures))
	}
	return tw.Flush()
}

// stateText returns the state of an upstream and how long it has lasted.
func stateText(u *local.UpstreamStats, now time.Time) string {
	state := string(u.State)
	if u.State == local.UpstreamLoop {
		state = "forwards back to this server, not used"
	}
	return state + " for " + report.Age(now.Sub(u.Since))
}

// failuresText returns the kinds of failures that occurred, with their numbers.
func failuresText(failures map[string]uint64) string {
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(failures)) {
		if n := failures[kind]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, kind))
		}
	}
	return cmp.Or(strings.Join(kinds, ", "), "none")
}
