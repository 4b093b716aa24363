// Package statistics makes the public statistics of a server. For each day (UTC) they contain the number of queries, the numbers of blocked queries by
// category, list and policy, the sizes of the set and of its lists, and the numbers of appeals. They contain no queried name and no client. Counts of what
// clients did are rounded down, and suppressed below a least count, because few clients may share a small count.
package statistics

import (
	"cmp"
	"maps"
	"slices"
)

// Counts are counters of a server, which only grow while its process runs.
type Counts struct {
	Queries    uint64            `json:"queries"`
	ByCategory map[string]uint64 `json:"by_category"` // blocked queries; the categories are disjoint
	ByList     map[string]uint64 `json:"by_list"`     // blocked queries; a query is counted for each list that contains the name
	ByPolicy   map[string]uint64 `json:"by_policy"`   // blocked queries, by what is done with them
}

// add adds the growth of counters from before to now. A counter that is lower than before began again at 0.
func (c *Counts) add(before, now *Counts) {
	grown := func(was, is uint64) uint64 {
		if is < was {
			return is
		}
		return is - was
	}
	c.Queries += grown(before.Queries, now.Queries)
	for _, t := range []struct {
		sum         *map[string]uint64
		before, now map[string]uint64
	}{{&c.ByCategory, before.ByCategory, now.ByCategory}, {&c.ByList, before.ByList, now.ByList}, {&c.ByPolicy, before.ByPolicy, now.ByPolicy}} {
		if *t.sum == nil {
			*t.sum = map[string]uint64{}
		}
		for key, n := range t.now {
			if n = grown(t.before[key], n); n > 0 {
				(*t.sum)[key] += n
			}
		}
	}
}

// Sizes are the sizes of the set and of its lists.
type Sizes struct {
	Names int            `json:"names"`
	Lists map[string]int `json:"lists"` // entries by list
}

// Appeals are the numbers of requests for a review that control stores.
type Appeals struct {
	Filed, Upheld, Rejected uint64
	MedianHours             uint64 // from the request to the decision
}

// Row is one number of the public statistics.
type Row struct {
	Date    string `json:"date"` // of the day in UTC, like 2026-11-30
	Measure string `json:"measure"`
	Key     string `json:"key,omitempty"` // the category, list or policy
	Value   *int64 `json:"value"`         // nil: suppressed, because it is below the least count
}

// maxCells is the largest number of lists in the statistics of a day, those with the most blocked queries. With few cells, each of them rounded, nobody can compute
// a suppressed number from the others (see TestSuppressedNumbersCannotBeComputed).
const maxCells = 50

// Limits of the least count.
const (
	leastCount = 60 // above maxCells
	mostCount  = 1_000_000
)

// rows returns the public numbers of a day. Each count of what clients did is rounded down to a multiple of least, and suppressed if that is 0. There are no sums:
// with them, a suppressed number could be computed.
func rows(date string, c *Counts, now, before *Sizes, a *Appeals, least uint64) []Row {
	var all []Row
	count := func(measure, key string, n uint64) {
		r := Row{Date: date, Measure: measure, Key: key}
		if n >= least {
			rounded := int64(n / least * least)
			r.Value = &rounded
		}
		all = append(all, r)
	}
	exact := func(measure, key string, n int64) {
		all = append(all, Row{date, measure, key, &n})
	}
	count("queries", "", c.Queries)
	for _, t := range []struct {
		measure string
		counts  map[string]uint64
	}{{"blocked_by_category", c.ByCategory}, {"blocked_by_list", c.ByList}, {"blocked_by_policy", c.ByPolicy}} {
		for _, key := range largest(t.counts) {
			count(t.measure, key, t.counts[key])
		}
	}
	exact("set_names", "", int64(now.Names))
	for _, list := range slices.Sorted(maps.Keys(now.Lists)) {
		exact("list_entries", list, int64(now.Lists[list]))
		if was, ok := before.Lists[list]; ok {
			exact("list_growth", list, int64(now.Lists[list]-was))
		}
	}
	if a != nil {
		count("appeals_filed", "", a.Filed)
		count("appeals_upheld", "", a.Upheld)
		count("appeals_rejected", "", a.Rejected)
		if a.Upheld+a.Rejected >= least {
			exact("appeals_median_hours", "", int64(a.MedianHours))
		}
	}
	return all
}

// largest returns the keys of the largest counts, at most maxCells of them, in the order of the alphabet.
func largest(counts map[string]uint64) []string {
	keys := slices.SortedFunc(maps.Keys(counts), func(x, y string) int { return cmp.Or(cmp.Compare(counts[y], counts[x]), cmp.Compare(x, y)) })
	keys = keys[:min(len(keys), maxCells)]
	slices.Sort(keys)
	return keys
}
