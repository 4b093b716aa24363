package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/admin"
	"rempart/internal/config"
	"rempart/internal/local"
	"rempart/resolver/listen"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

// serveSocket opens the socket for commands of this machine and answers on it until ctx ends. If the socket cannot be opened, the server runs without it.
func (s *server) serveSocket(ctx context.Context, g *errgroup.Group) {
	if s.config.Socket == "" {
		return
	}
	l, err := local.Listen(s.config.Socket)
	if err != nil {
		s.log.Warn("commands such as rempart check cannot ask this server: its socket cannot be opened; set REMPART_SOCKET to another path, or to \"none\"",
			"socket", s.config.Socket, "err", err)
		return
	}
	answers := local.Answers{
		Settings: s.settings, Status: s.status, NotReady: func() string { return config.Redact(s.notReady()) }, Upstreams: s.upstreams, Check: s.check, Matches: s.matches,
		Reload: s.reload, Metrics: admin.Metrics(s.registry),
	}
	g.Go(func() error { return local.Serve(ctx, l, answers) })
}

// settings returns the variables that this server was started with, and its folder.
func (s *server) settings() map[string]string {
	all := map[string]string{}
	for name, value := range config.Environ() {
		if strings.HasPrefix(name, config.Prefix) {
			all[name] = value
		}
	}
	if dir, err := filepath.Abs(s.config.DataDir); err == nil {
		all[config.Prefix+"DATA_DIR"] = dir
	}
	if dir, err := os.Getwd(); err == nil {
		all["PWD"] = dir
	}
	return all
}

// status returns the state of this server.
func (s *server) status() local.Status {
	view, lists := s.set().View(), s.lists.Status()
	stats := view.Stats()
	st := local.Status{
		Version: cli.Version(), Started: s.started, Identity: s.forward.Identity, Mode: "enforce", Set: local.SetStatus{Version: stats.Version, Names: stats.Names, Created: view.Info().Created, Suspended: view.Suspended()},
	}
	if s.config.Mode == config.Observe {
		st.Mode = "observe"
	}
	for _, addr := range s.dnsAt {
		st.Listening = append(st.Listening, addr.String())
	}
	for _, t := range s.encryptedAt {
		for _, addr := range t.addrs {
			st.Listening = append(st.Listening, t.transport.String()+"://"+addr.String())
		}
	}
	st.Queries, st.Blocked = s.resolver.Totals()
	for _, u := range s.forward.Main.Stats().Upstreams {
		st.Upstreams = append(st.Upstreams, local.Upstream{Name: u.Upstream, Healthy: u.Healthy, Unheard: u.Reachable.IsZero(), Looping: u.Looping})
	}
	problem := func(text string) {
		if text != "" {
			st.Problems = append(st.Problems, config.Redact(text))
		}
	}
	problem(s.notReady())
	problem(clockProblem(time.Now(), view.Info().Created))
	problem(s.feeds.Problem())
	for _, text := range s.files().Problems() {
		problem(text)
	}
	for _, err := range s.unserved {
		problem("a web listener could not be opened: " + err.Error())
	}
	for _, addr := range listen.Absent(s.dnsAt) {
		problem("this machine does not have the address " + addr.String() + " (REMPART_LISTEN): no query to it arrives")
	}
	for _, u := range st.Upstreams {
		switch {
		case u.Looping:
			problem("the upstream " + u.Name + " forwards back to this server: configure a resolver that does not forward here")
		case !u.Healthy:
			problem("the upstream " + u.Name + " does not answer: the log of the server says why")
		}
	}
	for _, l := range lists.Lists {
		if l.Result != feed.OK || l.TooOld {
			problem("the list " + report.ListLine(l, time.Now()))
		}
	}
	if lists.Folder != "" {
		problem("the data folder cannot be written: " + lists.Folder)
	}
	if lists.Err != "" {
		problem("the set in force does not hold the newest content: " + lists.Err)
	}
	if s.edge != nil {
		h := s.edge.Health()
		st.Control = &local.Control{URL: config.Redact(s.config.Control), Version: h.Status.Version, Newest: max(h.Newest, h.Status.Version), Heard: h.Heartbeat, Problem: config.Redact(h.Problem)}
		problem(h.Problem)
	}
	st.Feeds, _ = json.Marshal(lists) // it holds plain values only, so that marshalling cannot fail
	return st
}

// ownFiles returns the files of settings that the server itself loads again when they change.
func (s *server) ownFiles() reload.Files {
	return slices.Concat(s.public.Files(), s.cookies.Files(), s.continues.Files())
}

// files returns ownFiles and the files that parts of the server load again, except the feeds file.
func (s *server) files() reload.Files {
	all := append(s.ownFiles(), reload.GuardFiles{Loader: s.lists.Guards()})
	if s.secure != nil {
		all = append(all, s.secure.Files()...)
	}
	if s.edge != nil {
		all = append(all, s.edge.Files...)
	}
	return all
}

// clockProblem returns a sentence if the clock of this machine is wrong; "" otherwise.
func clockProblem(now, created time.Time) string {
	if !report.ClockIsWrong(now, created) {
		return ""
	}
	return fmt.Sprintf("the clock of this machine is wrong: it says %s, and the set in force was made at %s. Until it is right, certificates and signed changes may be refused, and listings start and end at wrong times: synchronise it (timedatectl set-ntp true)",
		report.Moment(now), report.Moment(created))
}

// upstreams returns the upstreams of this server: first those of all names that are in no zone of REMPART_FORWARD, then those of each zone.
func (s *server) upstreams() []local.UpstreamGroup {
	main := upstreamGroup(".", s.forward.Main.Stats())
	main.Missing = s.forward.Missing()
	groups := []local.UpstreamGroup{main}
	for i, group := range s.forward.ZoneGroups {
		zone := upstreamGroup(zoneText(s.forward.Zones[i]), group.Stats())
		if err := group.Missing(); err != nil {
			zone.Missing = err.Error()
		}
		groups = append(groups, zone)
	}
	return groups
}

// upstreamGroup describes the upstreams of a zone.
func upstreamGroup(zone string, stats upstream.Stats) local.UpstreamGroup {
	g := local.UpstreamGroup{
		Zone: zone, Questions: stats.Queries, Unanswered: stats.Unanswered, Shed: stats.Shed, Denied: stats.Denied, InFlight: stats.InFlight,
		Upstreams: []local.UpstreamStats{},
	}
	for _, u := range stats.Upstreams {
		one := local.UpstreamStats{
			Upstream: u.Upstream, Protocol: u.Protocol, State: local.UpstreamDown, Since: u.Since, Cookies: u.Cookies,
			Mean: u.RTT, P50: u.P50, P95: u.P95, P99: u.P99, Answers: u.Answers, LastGoodAnswer: u.Reachable,
			Queries: u.Queries, Retries: u.Retries, Hedges: u.Hedges, Failures: map[string]uint64{}, ForeignAnswers: u.Foreign, InFlight: u.InFlight,
		}
		switch {
		case u.Looping:
			one.State = local.UpstreamLoop
		case u.Healthy:
			one.State = local.UpstreamHealthy
		}
		for kind, n := range u.Failures {
			one.Failures[transport.Failure(kind).String()] = n
		}
		g.Upstreams = append(g.Upstreams, one)
	}
	return g
}

// check returns the verdict that a query for a name gets.
func (s *server) check(ctx context.Context, text string) local.Verdict {
	name, err := report.ParseName(text)
	if err != nil {
		return local.Verdict{Name: text, Action: report.VerdictError, Note: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	x, unsure := s.resolver.Explain(ctx, name)
	judged := name
	if x.Target != nil {
		judged = x.Target
	}
	v := report.VerdictOf(x.View, judged, x.Verdict)
	v.Name = blocklist.NameText(name)
	switch {
	case x.Target != nil:
		v.Target = blocklist.NameText(x.Target)
	case x.Address.IsValid():
		v.Target = x.Address.String()
	}
	switch {
	case x.Special && x.Verdict.Action == blocklist.Pass:
		v.Note = "it is a special-use name, which Rempart always answers itself, regardless of lists and upstreams"
	case x.Rebinds && x.Verdict.Action == blocklist.Pass:
		v.Note = "its answer is withheld: it points to an address of the local network (REMPART_REBINDING)"
	}
	if unsure != nil {
		v.Unsure = unsure.Error()
	}
	v.Observed = s.config.Mode == config.Observe || x.View.Suspended()
	return v
}

// matches returns the entries with at least so many hits, the most hits first.
func (s *server) matches(least uint64) []local.Match {
	all := []local.Match{}
	for _, m := range s.resolver.Matches(max(least, report.LeastMatches)) {
		all = append(all, local.Match{Entry: m.Name, Category: m.Category.String(), Sources: m.Lists, Hits: m.Hits})
	}
	return all
}

// reload makes the server read its files again, as SIGHUP does.
func (s *server) reload() {
	select {
	case s.again <- struct{}{}:
	default: // a reload is already pending
	}
}
