package canary

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/guard"
)

// question is a name with the verdict that every node must give.
type question struct {
	name    []byte // canonical
	blocked bool
	follows bool // the verdict is that of control's set, which may change
}

// names chooses the questions of each round. Only one goroutine uses it.
type names struct {
	plan    *plan
	set     *blocklist.Set // of control; nil without one
	popular [][]byte
	sample  [][]byte // names of the set
	taken   time.Time
}

const (
	popularPool = 10_000 // most popular names, of which a round asks for some
	samplePool  = 10_000 // names of the set, of which a round asks for some
	sampleEvery = time.Hour
)

func newNames(p *plan, set *blocklist.Set) (*names, error) {
	if len(p.blocked)+len(p.passed)+p.popular == 0 && (set == nil || p.listed == 0) {
		return nil, errors.New("the canary file has no name to ask for: add names to blocked or passed, or set popular; listed has an effect with REMPART_CONTROL only")
	}
	n := &names{plan: p, set: set}
	enough := errors.New("enough")
	err := guard.EachPopular(nil, func(_ int, name []byte) error {
		n.popular = append(n.popular, bytes.Clone(name))
		if len(n.popular) == popularPool {
			return enough
		}
		return nil
	})
	if err != nil && !errors.Is(err, enough) {
		return nil, err
	}
	return n, nil
}

// next returns the questions of a round. Where control has a set, its verdict at this moment is the expected one; a name that was unblocked in the meantime must pass.
func (n *names) next(now time.Time) (all []question, err error) {
	for _, name := range n.plan.blocked {
		all = append(all, question{name: name, blocked: true})
	}
	for _, name := range n.plan.passed {
		all = append(all, question{name: name})
	}
	if n.set == nil {
		for _, name := range choose(n.popular, n.plan.popular) {
			all = append(all, question{name: name})
		}
		return all, nil
	}
	if now.Sub(n.taken) > sampleEvery || len(n.sample) == 0 {
		if n.sample, err = sampled(n.set.View()); err != nil {
			return nil, err
		}
		n.taken = now
	}
	view := n.set.View()
	for _, name := range append(choose(n.sample, n.plan.listed), choose(n.popular, n.plan.popular)...) {
		v := view.Match(name, blocklist.AllCategories, now.Unix())
		if v.Until != 0 && v.Until-now.Unix() < int64(time.Minute/time.Second) {
			continue // time alone may change the verdict during the round
		}
		all = append(all, question{name, v.Action == blocklist.BlockedBy && !view.Suspended(), true})
	}
	return all, nil
}

// renew returns a question with the verdict that control's set has now. It may be called concurrently.
func (n *names) renew(q question, now time.Time) question {
	if q.follows {
		view := n.set.View()
		q.blocked = view.Match(q.name, blocklist.AllCategories, now.Unix()).Action == blocklist.BlockedBy && !view.Suspended()
	}
	return q
}

// sampled returns some of the names in a view, each with the same probability (algorithm R of reservoir sampling).
func sampled(view *blocklist.View) (sample [][]byte, err error) {
	seen := 0
	err = view.Input().EachName(func(name []byte) error {
		seen++
		if len(sample) < samplePool {
			sample = append(sample, bytes.Clone(name))
		} else if at := rand.IntN(seen); at < samplePool {
			sample[at] = bytes.Clone(name)
		}
		return nil
	}, func(blocklist.Change) {})
	return sample, err
}

// choose returns up to n different elements.
func choose(from [][]byte, n int) (chosen [][]byte) {
	for _, i := range rand.Perm(len(from))[:min(n, len(from))] {
		chosen = append(chosen, from[i])
	}
	return chosen
}
