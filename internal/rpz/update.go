package rpz

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"rempart/blocklist"
	"rempart/internal/pause"
)

const (
	maxPending = 100_000                // names; if there are more, all names are judged
	settle     = 500 * time.Millisecond // minimum time between two serials: changes meanwhile become one
	renewEvery = time.Minute            // at most
	retryEvery = time.Minute            // after a state could not be made
)

// pending are the changes since the state that is served.
type pending struct {
	wake chan struct{} // capacity 1

	mu    sync.Mutex
	since uint64          // the version after which names changed
	view  *blocklist.View // nil for no change
	names [][]byte
	all   bool // other names changed as well
}

// Changed reports that the set was before and is now after. names are the canonical wire names about which the views may differ; nil means any name, or any
// prefix of addresses: the zones are then compared as a whole, which takes time but loses no difference, unless there are very many. Names are copied. It is
// called in the order of versions, by one goroutine at a time, and returns at once.
func (s *Server) Changed(before, after *blocklist.View, names [][]byte) {
	p := &s.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case before == nil:
		p.all = true
	case p.view == nil:
		p.since = before.Version()
	case p.view.Version() != before.Version():
		p.all = true
	}
	p.view = after
	if p.all = p.all || names == nil || len(p.names)+len(names) > maxPending; p.all {
		p.names = nil
	} else {
		for _, n := range names {
			p.names = append(p.names, bytes.Clone(n))
		}
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns the changes since version have; view is nil if there are none.
func (p *pending) take(have uint64) (view *blocklist.View, names [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	view, names = p.view, p.names
	if names == nil {
		names = [][]byte{}
	}
	if p.all || p.since > have {
		names = nil
	}
	p.view, p.names, p.all = nil, nil, false
	return view, names
}

// update makes the states, until ctx ends.
func (s *Server) update(ctx context.Context) {
	if view := s.cfg.View(); view != nil {
		s.publish(ctx, view, nil)
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-s.pending.wake:
		case <-s.due():
			s.cfg.Renew()
			s.renewed = time.Now()
			continue
		}
		have := uint64(0)
		st := s.state.Load()
		if st != nil {
			have = st.view.Version()
		}
		view, names := s.pending.take(have)
		switch {
		case view == nil:
			continue
		case st != nil && view.Version() == have:
			s.stale = s.stale || view.Stamp() != st.view.Stamp() // for example because a damaged snapshot was repaired
			continue
		case s.stale:
			names = nil
		}
		s.publish(ctx, view, names)
		s.stale = false
		pause.For(ctx, settle)
	}
}

// publish makes the state of a view, serves it, and notifies the secondaries.
func (s *Server) publish(ctx context.Context, view *blocklist.View, names [][]byte) {
	before := s.state.Load()
	for {
		st, err := s.builder.next(ctx, before, view, moment(view), names)
		if err == nil {
			s.announce(before, st)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Error("the response policy zones stay as they were", slog.Any("error", err))
		pause.For(ctx, retryEvery)
		if later, _ := s.pending.take(math.MaxUint64); later != nil {
			view = later
		}
		names = nil
	}
}

func (s *Server) announce(before, st *state) {
	if st == before {
		return
	}
	s.state.Store(st)
	for i, z := range s.zones {
		if left := st.zones[i].leftOut; left > 0 && !s.logged[i] {
			s.logged[i] = true
			s.cfg.Log.Warn("names are left out of a response policy zone, whose records they cannot be: they are too long with the zone's name, have a label * or the form of another trigger",
				slog.String("zone", z.text), slog.Int("records", left))
		}
	}
	for _, n := range s.notifiers {
		n.request(st.serial())
	}
}

// moment returns when the view's version was made, Unix seconds. The content of a serial depends on nothing else: another control, or this one after a restart,
// has the same zone under it, and changes by time get another serial.
func moment(view *blocklist.View) int64 { return view.Info().Created.Unix() }

// due returns the channel of the time at which a new version is asked for, because time alone changes the zones.
func (s *Server) due() <-chan time.Time {
	at := s.builder.due.next()
	if s.stale {
		at = 0
	}
	if s.cfg.Renew == nil || at == math.MaxInt64 {
		return nil
	}
	const over = 50 * time.Millisecond // so that the new version is made in that second, not just before it
	wait := max(time.Until(time.Unix(at, 0))+over, time.Until(s.renewed.Add(renewEvery)))
	return time.After(wait)
}
