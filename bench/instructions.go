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
	name string
	of   int
	edns bool
	want wire.Outcome
}

const (
	ofListed = iota
	ofCached
	ofOther // neither
)

func fastLoads() []fastLoad {
	return []fastLoad{
		{"hit", ofCached, false, wire.Answered},
		{"hit-edns", ofCached, true, wire.Answered},
		{"block", ofListed, false, wire.Answered},
		{"block-edns", ofListed, true, wire.Answered},
		{"miss", ofOther, false, wire.Slow},
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
	const names = 1024
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
	r, err := Resolver(view)
	if err != nil {
		return err
	}
	defer r.Close()
	w := r.NewWorker()
	cached, err := Queries(popular[:names], false)
	if err != nil {
		return err
	}
	Warm(r, w, cached)
	of := [][]string{ofListed: listed[:names], ofCached: popular[:names], ofOther: popular[names:]}
	packets, err := Queries(of[loads[i].of], loads[i].edns)
	if err != nil {
		return err
	}
	return loads[i].run(w, packets, toggle)
}

func (l fastLoad) run(w *resolver.Worker, packets [][]byte, toggle func()) error {
	batch := Batch()
	for at := 0; at < Counted; at += len(batch) {
		for i := range batch {
			batch[i].Packet = packets[(at+i)%len(packets)]
		}
		runtime.Gosched() // so that the scheduler has no reason to run during the batch
		toggle()
		w.Fast(batch)
		toggle()
		for i := range batch {
			if batch[i].Outcome != l.want {
				return fmt.Errorf("%s: the outcome of a query was %d, not %d", l.name, batch[i].Outcome, l.want)
			}
		}
	}
	return nil
}
