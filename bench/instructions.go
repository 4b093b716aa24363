package bench

import (
	"fmt"
	"runtime"
	"slices"

	"rempart/internal/wire"
	"rempart/resolver"
)

// Counted is the number of queries that RunLoad counts.
const Counted = 320 * BatchSize

// fastLoad is a set of names, with or without EDNS, and the outcome of Fast for them.
type fastLoad struct {
	name    string
	of      int
	edns    bool
	want    wire.Outcome
	limited bool // with limits, and clients in many networks
	cookie  bool // with a client cookie, to which each answer adds a server cookie
	grants  bool // people may continue to blocked names, and 4,000 clients do
	own     bool // the client of the queries has a grant for one of the names, too
}

const names = 1024 // in each load, and networks of clients

const (
	ofListed = iota
	ofCached
	ofOther // neither
)

func fastLoads() []fastLoad {
	return []fastLoad{
		{name: "hit", of: ofCached, want: wire.Answered},
		{name: "hit-edns", of: ofCached, edns: true, want: wire.Answered},
		{name: "hit-limits", of: ofCached, edns: true, want: wire.Answered, limited: true},
		{name: "hit-cookie", of: ofCached, edns: true, want: wire.Answered, limited: true, cookie: true},
		{name: "block", of: ofListed, want: wire.Answered},
		{name: "block-edns", of: ofListed, edns: true, want: wire.Answered},
		{name: "block-grants", of: ofListed, want: wire.Answered, grants: true},
		{name: "block-own-grant", of: ofListed, want: wire.Answered, grants: true, own: true},
		{name: "miss", of: ofOther, want: wire.Slow},
	}
}

// RunLoad takes the load with that name through Fast: about a thousand names in turn, in batches of 32, with 10,000 listed and a thousand cached names. It
// calls toggle before and after each call of Fast that is counted; nothing in between is random except the seed of the cache's hash.
func RunLoad(name string, toggle func()) error {
	loads := fastLoads()
	i := slices.IndexFunc(loads, func(l fastLoad) bool { return l.name == name })
	if i < 0 {
		return fmt.Errorf("there is no load %q", name)
	}
	listed, err := Blocked(10_000)
	if err != nil {
		return err
	}
	popular, err := Popular(2 * names)
	if err != nil {
		return err
	}
	view, err := View(listed)
	if err != nil {
		return err
	}
	var r *resolver.Resolver
	if loads[i].grants {
		r, err = ContinuingResolver(view, listed[names], loads[i].own)
	} else {
		r, err = Resolver(view)
	}
	if err != nil {
		return err
	}
	defer r.Close()
	w := r.NewWorker()
	cached, err := Queries(popular[:names], false)
	if err != nil {
		return err
	}
	Warm(r, w, client, cached)
	of := [][]string{ofListed: listed[:names], ofCached: popular[:names], ofOther: popular[names:]}
	packets, err := Queries(of[loads[i].of], loads[i].edns)
	if err != nil {
		return err
	}
	if loads[i].cookie {
		if packets, err = WithCookies(w, packets, false); err != nil {
			return err
		}
	}
	return loads[i].run(w, packets, toggle)
}

func (l fastLoad) run(w *resolver.Worker, packets [][]byte, toggle func()) error {
	batch, answer := Batch(), w.Fast
	if l.limited {
		limiter := Limiter()
		answer = func(batch []wire.Query) { Limited(w, limiter, batch) }
	}
	for at := 0; at < Counted; at += len(batch) {
		for i := range batch {
			batch[i].Packet = packets[(at+i)%len(packets)]
		}
		if l.limited {
			Spread(batch, at/len(batch), names)
		}
		runtime.Gosched() // so that the scheduler has no reason to run during the batch
		toggle()
		answer(batch)
		toggle()
		for i := range batch {
			if batch[i].Outcome != l.want {
				return fmt.Errorf("%s: the outcome of a query was %d, not %d", l.name, batch[i].Outcome, l.want)
			}
		}
	}
	return nil
}
