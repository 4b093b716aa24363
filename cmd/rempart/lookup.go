package main

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"

	"rempart/blocklist"
	"rempart/cmd/rempart/setup/public"
	"rempart/internal/config"
	"rempart/internal/fair"
	"rempart/internal/journal"
	"rempart/internal/statistics"
	"rempart/internal/web/lookup"
	"rempart/resolver"
)

const (
	lookups       = 64              // questions of readers that wait for an upstream at a time
	lookupReserve = lookups / 2     // of these, for clients with few such questions
	lookupTimeout = 3 * time.Second // for the upstreams' answers to a reader's question
)

// nameLookup looks up for the pages which answer a client of this server gets for a name, and why.
type nameLookup struct {
	server *server
	places *fair.Places[netip.Prefix]
}

func newNameLookup(s *server) *nameLookup {
	return &nameLookup{s, fair.New[netip.Prefix](lookups, lookupReserve)}
}

// lookup returns the result of queries for a canonical name. If the name itself passes, the names and addresses in its answer decide. lookup gets this answer,
// from an upstream if necessary, only if client may ask this server and not too many readers wait for upstreams. Otherwise it returns the result of the name
// alone.
func (l *nameLookup) lookup(ctx context.Context, name []byte, client netip.Addr) lookup.Result {
	x := l.server.resolver.ExplainName(name)
	if !x.Special && x.Verdict.Action == blocklist.Pass && l.server.resolver.MayAsk(client) {
		key, network := fair.Client(client)
		if l.places.Take(key, network) {
			defer l.places.Return(key, network)
			ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
			defer cancel()
			x, unsure := l.server.resolver.Explain(ctx, name)
			return l.describe(x, name, unsure != nil)
		}
	}
	return l.describe(x, name, false)
}

// describe returns the result for the resolver's explanation of a name. unsure means that the upstream resolvers gave no answer.
func (l *nameLookup) describe(x resolver.Explanation, name []byte, unsure bool) lookup.Result {
	judged := name
	if x.Target != nil {
		judged = x.Target
	}
	r := lookup.Of(x.View, name, judged, x.Verdict, journal.Operator)
	switch {
	case x.Target != nil:
		r.Target = blocklist.NameText(x.Target)
	case x.Address.IsValid():
		r.Target = x.Address.String()
	case x.Verdict.Action != blocklist.Pass:
	case x.Special:
		r.Outcome = lookup.Reserved
	case x.Rebinds:
		r.Outcome = lookup.Withheld
	}
	r.Unsure = unsure
	r.Observed = r.Observed || l.server.config.Mode == config.Observe
	return r
}

// publicAnswers returns the functions that the pages call to look up names and their history. A control in this process adds the journal and the requests for a review.
func (s *server) publicAnswers() public.Answers {
	a := public.Answers{Lookup: newNameLookup(s).lookup, Devices: s.devices, Statement: s.statement, IsHome: s.config.Allow != "" && s.config.Control == "" && s.control == nil}
	a.Links = s.continues.Links(func(name []byte) bool { return s.resolver.MayContinue(name) }) // the resolver does not exist yet
	if s.config.Statistics > 0 {
		a.Statistics = filepath.Join(s.config.DataDir, statistics.Folder)
	}
	if s.control != nil {
		a.History, a.Appeals = s.control.history, s.control.appealsOf(s.forward.Dialer().DialContext)
	}
	return a
}
