package appeal

import (
	"context"
	"slices"
	"time"
)

// sweepEvery is the time between two readings of all appeals.
const sweepEvery = time.Minute

// Run reads all appeals every minute until ctx ends. It deletes appeals whose retention ended, suspends blocks where a suspension is due and missing, and completes
// decisions whose effect is missing, for instance after a crash.
func (d *Desk) Run(ctx context.Context) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		d.sweep(ctx)
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *Desk) sweep(ctx context.Context) {
	all, err := d.List(ctx, "")
	if err != nil {
		d.cfg.Log.Error("control tries again to read the appeals", "error", err)
		return
	}
	policy, now := d.cfg.Policy(), d.cfg.Now()
	present, suspended := map[string]bool{}, d.suspendedNames()
	for _, a := range all {
		if ctx.Err() != nil {
			return
		}
		if now.Sub(a.Filed) >= policy.Retention && d.end(ctx, a) {
			continue
		}
		present[a.Number] = true
		if d.needsSuspension(a, suspended) {
			d.suspend(ctx, a.Number)
		}
		_, _ = d.finish(ctx, a) // finish logs errors
	}
	d.forget(present)
}

// end deletes an appeal at the end of its retention, and reports whether it did. If the appeal is undecided, end first ends its suspension.
func (d *Desk) end(ctx context.Context, a *Appeal) bool {
	var err error
	if !a.State.IsDecided() {
		err = d.endSuspension(ctx, a)
	}
	if err == nil {
		err = d.cfg.Bucket.Delete(ctx, a.Number)
	}
	if err != nil {
		d.cfg.Log.Error("deleting an appeal at the end of its retention failed; control tries again", "appeal", a.Number, "error", err)
	}
	return err == nil
}

// note stores the summary of an appeal for Stats.
func (d *Desk) note(a *Appeal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[a.Number] = summary{a.Name, a.State, a.Filed, a.Due, a.Decided, a.Suspension != "", a.Block.blockers()}
}

// Operators stands for the operators' own blocks among the lists of Stats.Upheld.
const Operators = "operators"

// blockers returns the lists that blocked the name, and Operators if operators did.
func (b *Block) blockers() []string {
	if !b.Operator {
		return b.Lists
	}
	return append([]string{Operators}, b.Lists...)
}

// forget removes the summaries of appeals whose numbers are not in present, the appeals that a sweep read. It keeps those that were filed within the last
// 2*sweepEvery, because the sweep may have missed them.
func (d *Desk) forget(present map[string]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for number, s := range d.known {
		if !present[number] && d.cfg.Now().Sub(s.filed) > 2*sweepEvery {
			delete(d.known, number)
		}
	}
}

func (d *Desk) undecided() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.known {
		if !s.state.IsDecided() {
			n++
		}
	}
	return n
}

// suspendedNames returns the names whose blocks are suspended until the decision about an appeal, according to the summaries of this Desk.
func (d *Desk) suspendedNames() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[string]bool{}
	for _, s := range d.known {
		if s.isSuspended && !s.state.IsDecided() {
			names[s.name] = true
		}
	}
	return names
}

// Stats are the numbers of appeals.
type Stats struct {
	ByState map[State]int
	Overdue int            // undecided appeals whose answer was due
	Oldest  time.Duration  // age of the oldest undecided appeal; 0 without one
	Upheld  map[string]int // upheld appeals by list that had blocked the name; Operators for the operators' own blocks
	Median  time.Duration  // median time from the request to the decision; 0 without a decided appeal
}

// Stats returns the numbers of appeals, as of the newest reading of each appeal by this Desk.
func (d *Desk) Stats() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.cfg.Now()
	st := Stats{ByState: map[State]int{}, Upheld: map[string]int{}}
	var took []time.Duration
	for _, s := range d.known {
		st.ByState[s.state]++
		if s.state == Upheld {
			for _, list := range s.lists {
				st.Upheld[list]++
			}
		}
		if s.state.IsDecided() {
			took = append(took, s.decided.Sub(s.filed))
			continue
		}
		st.Oldest = max(st.Oldest, now.Sub(s.filed))
		if now.After(s.due) {
			st.Overdue++
		}
	}
	if slices.Sort(took); len(took) > 0 {
		st.Median = took[len(took)/2]
	}
	return st
}
