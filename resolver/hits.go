package resolver

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/wire"
)

// Blocks are counted by the listed entry that decides them, in two steps. A worker notes a hit in its own table of fixed size, by the entry's number: a
// few instructions, without a lock. Every few seconds the tables are gathered into totals by category, by list and by entry; only then the number is
// resolved to its entry. Queried names are not kept: an entry holds the name in the list.

const (
	hitSlots  = 1 << 14 // of a worker's table, a power of two; 16 bytes each
	hitProbes = 4       // slots that are tried for an entry
)

// hitTable counts the hits of one worker since the last call of gather. Its methods may be called concurrently.
type hitTable struct {
	slots [hitSlots]hitSlot
	other atomic.Uint64 // hits of entries that found no slot
}

type hitSlot struct {
	entry atomic.Uint64 // 0 of a free slot
	hits  atomic.Uint64
}

// note counts a hit for each query in a batch that is blocked, or would be in observe mode. It neither waits nor allocates.
func (t *hitTable) note(batch []wire.Query) {
	for i := range batch {
		q := &batch[i]
		if q.Verdict != uint8(blocklist.BlockedBy) || q.Outcome != wire.Answered {
			continue
		}
		if s := &t.slots[(q.Entry>>3)%hitSlots]; s.entry.Load() == q.Entry {
			s.hits.Add(1)
		} else {
			t.noteElsewhere(q.Entry)
		}
	}
}

// noteElsewhere counts a hit of an entry that is not in its first slot. It is rare, and a separate function to keep note short.
//
//go:noinline
func (t *hitTable) noteElsewhere(entry uint64) {
	for i := range uint64(hitProbes) {
		s := &t.slots[(entry>>3+i)%hitSlots]
		if have := s.entry.Load(); have == entry || have == 0 && s.entry.CompareAndSwap(0, entry) || s.entry.Load() == entry {
			s.hits.Add(1)
			return
		}
	}
	t.other.Add(1)
}

// gather passes on the hits and resets them. A slot without hits since the previous call is freed: a hit that is noted at that very moment may
// be counted for the next entry in the slot.
func (t *hitTable) gather(take func(entry, hits uint64)) {
	for i := range t.slots {
		s := &t.slots[i]
		entry := s.entry.Load()
		if entry == 0 {
			continue
		}
		if hits := s.hits.Swap(0); hits > 0 {
			take(entry, hits)
		} else {
			s.entry.CompareAndSwap(entry, 0)
		}
	}
	if other := t.other.Swap(0); other > 0 {
		take(0, other)
	}
}

const (
	gatherEvery = 10 * time.Second
	maxMatches  = 1 << 14     // entries whose hits are kept; above it, those with the fewest hits are dropped
	maxHitLists = 1 << 14     // lists that are counted separately
	unknownList = "(unknown)" // hits whose entry was withdrawn before they were gathered, or that found no slot
)

// Match is a listed entry with the number of queries that were blocked because of it, or would have been in observe mode.
type Match struct {
	Name     string // the listed name, or the prefix of addresses: never the queried name
	Category blocklist.Category
	Lists    []string // the lists that held the entry at its last hit
	Hits     uint64   // since the resolver was made, or since the entry was last dropped
}

// hitTotals are the hits gathered from all workers.
type hitTotals struct {
	mu         sync.Mutex
	matches    map[uint64]*Match // by number
	byCategory [categories]uint64
	byList     map[string]uint64
}

// Run gathers the hits of listed entries, and removes the grants that have ended, every few seconds until ctx ends.
func (r *Resolver) Run(ctx context.Context) error {
	ticker := time.NewTicker(gatherEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.gatherHits()
			if r.grants != nil {
				r.grants.table.Tend(r.now().mono)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Matches returns the listed entries with at least that many hits, most hits first. They are in memory only, 16384 at most, and hold neither clients nor queried
// names. A caller that shows them to people should pass at least ten, so that the queries of one client cannot be seen in them. It may be called from any goroutine.
func (r *Resolver) Matches(least uint64) []Match {
	r.gatherHits()
	t := &r.hits
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Match
	for _, m := range t.matches {
		if m.Hits >= least {
			all = append(all, *m)
		}
	}
	slices.SortFunc(all, func(a, b Match) int { return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(a.Name, b.Name)) })
	return all
}

// gatherHits adds the hits in the workers' tables to the totals.
func (r *Resolver) gatherHits() {
	r.mu.Lock()
	workers := slices.Clone(r.counts)
	r.mu.Unlock()
	view := r.set.View()
	r.hits.mu.Lock()
	defer r.hits.mu.Unlock()
	for _, w := range workers {
		w.hitEntries.gather(func(entry, hits uint64) { r.hits.add(view, entry, hits) })
	}
	r.hits.bound()
}

// add counts hits of the entry with that number, as view holds it.
func (t *hitTotals) add(view *blocklist.View, number, hits uint64) {
	if t.matches == nil {
		t.matches, t.byList = map[uint64]*Match{}, map[string]uint64{}
	}
	category := categories - 1 // unknown
	if number != 0 {
		category = min(int(blocklist.EntryCategory(number)), categories-1)
	}
	t.byCategory[category] += hits
	m := t.matches[number]
	if entry, known := view.Named(number); known {
		if m == nil {
			m = &Match{Name: entry.Name, Category: entry.Category}
			t.matches[number] = m
		}
		m.Lists = entry.Sources
	}
	if m == nil { // the entry was withdrawn meanwhile, or found no slot
		t.byList[unknownList] += hits
		return
	}
	m.Hits += hits
	for _, list := range m.Lists {
		if _, counted := t.byList[list]; !counted && len(t.byList) >= maxHitLists {
			list = unknownList
		}
		t.byList[list] += hits
	}
}

// bound drops the entries with the fewest hits if there are too many.
func (t *hitTotals) bound() {
	if len(t.matches) <= maxMatches {
		return
	}
	numbers := make([]uint64, 0, len(t.matches))
	for n := range t.matches {
		numbers = append(numbers, n)
	}
	slices.SortFunc(numbers, func(a, b uint64) int { return cmp.Compare(t.matches[b].Hits, t.matches[a].Hits) })
	for _, n := range numbers[maxMatches/2:] {
		delete(t.matches, n)
	}
}

// Blocks returns the numbers of blocked queries by category, and by list: a query is counted for each list that contains the entry. It may be called from any
// goroutine.
func (r *Resolver) Blocks() (byCategory, byList map[string]uint64) {
	r.gatherHits()
	t := &r.hits
	t.mu.Lock()
	defer t.mu.Unlock()
	byCategory = map[string]uint64{}
	for i, n := range t.byCategory {
		byCategory[blocklist.Category(i).String()] += n
	}
	return byCategory, maps.Clone(t.byList)
}
