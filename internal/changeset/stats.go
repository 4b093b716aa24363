package changeset

import (
	"maps"
	"sync"

	"rempart/internal/journal"
)

// Acts counts changes by their act and by whether they are applied. Its rows are as in ActNames.
type Acts [4]struct{ Refused, Accepted uint64 }

// ActNames returns the names of the rows of Acts; the last one is any other act.
func ActNames() [len(Acts{})]string {
	return [...]string{string(journal.Block), string(journal.Allow), string(journal.Withdraw), "other"}
}

func (a *Acts) add(do journal.Act, accepted bool) {
	row := &a[len(a)-1]
	switch do {
	case journal.Block:
		row = &a[0]
	case journal.Allow:
		row = &a[1]
	case journal.Withdraw:
		row = &a[2]
	}
	if accepted {
		row.Accepted++
	} else {
		row.Refused++
	}
}

// Stats holds the counters of a Lifecycle since its start.
type Stats struct {
	States    map[State]uint64 // steps that ended in a state
	Acts      Acts             // changes of accepted uploads
	Advanced  uint64           // stages that ended on all nodes
	Withdrawn uint64           // stages that control withdrew
	Held      int              // change sets that are held at present
}

// Stats returns a copy of the counters.
func (l *Lifecycle) Stats() Stats {
	l.stats.mu.Lock()
	defer l.stats.mu.Unlock()
	out := l.stats.Stats
	out.States, out.Held = maps.Clone(out.States), len(l.watched.ids(Held))
	return out
}

// stats holds the counters under a lock, which is fast enough because steps are rare.
type stats struct {
	mu sync.Mutex
	Stats
}

func newStats() stats { return stats{Stats: Stats{States: map[State]uint64{}}} }

func (s *stats) addState(to State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.States[to]++
}

func (s *stats) addActs(more Acts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range more {
		s.Stats.Acts[i].Refused += more[i].Refused
		s.Stats.Acts[i].Accepted += more[i].Accepted
	}
}

func (s *stats) addAdvanced() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.States[Published]++
	s.Advanced++
}

func (s *stats) addUndone(withdrawn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.States[Undone]++
	if withdrawn {
		s.Withdrawn++
	}
}
