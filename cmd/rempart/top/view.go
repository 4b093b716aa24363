package top

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/local"
)

// style marks text on a terminal. The zero value marks nothing.
type style struct{ bold, alarm, plain string }

var terminalStyle = style{"\x1b[1m", "\x1b[31m", "\x1b[0m"}

// view returns the lines that show a sample, with rates since an earlier one. At most that many lists are shown.
func view(now, before sample, st style, lists int) []string {
	var b strings.Builder
	header(&b, now, st)
	traffic(&b, now, before)
	transports(&b, now, before, st)
	upstreamTable(&b, now, st)
	listTable(&b, now, st, lists)
	for _, p := range now.status.Problems {
		fmt.Fprintf(&b, "%sproblem: %s%s\n", st.alarm, cli.Printable(p), st.plain)
	}
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

func header(b *strings.Builder, s sample, st style) {
	mode := "blocking"
	switch {
	case s.status.Set.Suspended:
		mode = st.alarm + "nothing is blocked: kill switch" + st.plain
	case s.status.Mode == "observe":
		mode = "only counting"
	}
	fmt.Fprintf(b, "%srempart %s%s, running for %s, %s by %s, version %d\n", st.bold, cli.Printable(s.status.Version), st.plain, report.Age(s.at.Sub(s.status.Started)), mode,
		report.Count(s.status.Set.Names, "name"), s.status.Set.Version)
	if c := s.status.Control; c != nil {
		fmt.Fprintf(b, "control %s: version %d of %d, last contact %s ago\n", cli.Printable(c.URL), c.Version, c.Newest, report.Age(c.Heard))
	}
	b.WriteString("\n")
}

// traffic writes queries, latency, cache and overload.
func traffic(b *strings.Builder, s, before sample) {
	const queries, hits, misses = "rempart_queries_total", "rempart_cache_hits_total", "rempart_cache_misses_total"
	all, blocked := s.rate(before, queries), s.rate(before, queries, "verdict", "block")
	fmt.Fprintf(b, "queries   %s, of them %s blocked (%s)\n", perSecond(all), perSecond(blocked), percent(blocked, all))
	var parts []string
	for _, q := range []struct {
		name  string
		share float64
	}{{"half", 0.5}, {"95 %", 0.95}, {"99 %", 0.99}} {
		if d, ok := s.quantile(before, q.share); ok {
			parts = append(parts, q.name+" within "+bound(d))
		}
	}
	if parts == nil {
		parts = []string{"no queries"}
	}
	fmt.Fprintf(b, "answers   %s\n", strings.Join(parts, ", "))
	hit, miss := s.rate(before, hits), s.rate(before, misses)
	fmt.Fprintf(b, "cache     %s hits, %s of %s used, %s\n", percent(hit, hit+miss), report.Bytes(int64(s.sum("rempart_cache_bytes"))),
		report.Bytes(int64(s.sum("rempart_cache_limit_bytes"))), report.Count(int(s.sum("rempart_cache_entries")), "answer"))
	fmt.Fprintf(b, "overload  %s refused, %s dropped by the kernel, %s limited; %s stale\n\n", perSecond(s.rate(before, "rempart_queries_shed_total")),
		perSecond(s.rate(before, "rempart_udp_receive_drops_total")), perSecond(s.rate(before, "rempart_udp_answers_limited_total")),
		perSecond(s.rate(before, "rempart_stale_answers_total")))
}

// table is a table with a line of headings.
type table struct {
	rows   [][]string
	alarms []int // rows that are marked
}

func (t *table) add(alarm bool, cells ...string) {
	if alarm {
		t.alarms = append(t.alarms, len(t.rows))
	}
	t.rows = append(t.rows, cells)
}

// write writes the table. Lines are marked as a whole, because marks would take part in the width of a cell.
func (t *table) write(b *strings.Builder, st style) {
	var plain strings.Builder
	tw := tabwriter.NewWriter(&plain, 0, 0, 2, ' ', 0)
	for _, cells := range t.rows {
		fmt.Fprintln(tw, cli.Printable(strings.Join(cells, "\t")))
	}
	tw.Flush()
	for i, line := range strings.Split(strings.TrimRight(plain.String(), "\n"), "\n") {
		mark := ""
		switch {
		case i == 0:
			mark = st.bold
		case slices.Contains(t.alarms, i):
			mark = st.alarm
		}
		if line = strings.TrimRight(line, " "); mark != "" {
			line = mark + line + st.plain
		}
		b.WriteString(line + "\n")
	}
	b.WriteString("\n")
}

func transports(b *strings.Builder, s, before sample, st style) {
	t := table{rows: [][]string{{"transport", "queries", "connections"}}}
	for _, name := range s.values("rempart_queries_total", "transport") {
		connections := ""
		if name != "udp" {
			connections = fmt.Sprint(int(s.sum("rempart_connections", "transport", name)))
		}
		t.add(false, name, perSecond(s.rate(before, "rempart_queries_total", "transport", name)), connections)
	}
	t.write(b, st)
}

func upstreamTable(b *strings.Builder, s sample, st style) {
	t := table{rows: [][]string{{"upstream", "state", "p50", "p95", "in flight"}}}
	for _, group := range s.upstreams {
		for _, u := range group.Upstreams {
			name := u.Upstream
			if group.Zone != "." {
				name = group.Zone + ": " + name
			}
			t.add(u.State != local.UpstreamHealthy, name, string(u.State), measured(u.P50), measured(u.P95), fmt.Sprint(u.InFlight))
		}
	}
	t.write(b, st)
}

// listTable writes the lists, those with a problem first.
func listTable(b *strings.Builder, s sample, st style, most int) {
	isBad := func(l feed.ListStatus) bool { return l.Result != feed.OK || l.TooOld }
	all := slices.Clone(s.lists.Lists)
	slices.SortStableFunc(all, func(a, b feed.ListStatus) int {
		switch {
		case isBad(a) == isBad(b):
			return 0
		case isBad(a):
			return -1
		}
		return 1
	})
	t := table{rows: [][]string{{"list", "entries", "age", "state"}}}
	for i, l := range all {
		if i == most {
			t.add(false, "and "+report.Count(len(all)-most, "other list"))
			break
		}
		age := "none yet"
		if !l.Fetched.IsZero() {
			age = report.Age(s.at.Sub(l.Fetched))
		}
		t.add(isBad(l), l.Name, fmt.Sprint(l.Entries), age, string(l.Result))
	}
	if len(all) > 0 {
		t.write(b, st)
	}
}

func perSecond(rate float64) string {
	if rate > 0 && rate < 10 {
		return fmt.Sprintf("%.1f/s", rate)
	}
	return fmt.Sprintf("%.0f/s", rate)
}

func percent(part, of float64) string {
	if of <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f %%", 100*part/of)
}

// measured returns a time, or a dash if there was nothing to measure.
func measured(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return report.Milliseconds(d)
}

// bound returns a bound of the times of answers.
func bound(d time.Duration) string {
	if d == math.MaxInt64 {
		return "more than 5 s"
	}
	return d.String()
}
