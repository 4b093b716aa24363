package main

import (
	"path/filepath"
	"time"

	"rempart/blocklist/feed"
	"rempart/internal/appeal"
	"rempart/internal/config"
	"rempart/internal/statistics"
	"rempart/internal/web/lookup"
)

// openStatistics opens the recorder of the public statistics; nil if the settings ask for none.
func (s *server) openStatistics() (*statistics.Recorder, error) {
	if s.config.Statistics == 0 {
		return nil, nil
	}
	c := statistics.Config{
		Dir: filepath.Join(s.config.DataDir, statistics.Folder), Least: uint64(s.config.Statistics), Log: s.log, Now: time.Now,
		Counts: s.publicCounts, Sizes: func() statistics.Sizes { return sizesOf(s.set().View().Stats().Names, s.lists.Status()) },
	}
	if s.control != nil {
		c.Appeals = s.control.publicAppeals
	}
	return statistics.New(c)
}

// publicCounts returns the counters of this process for the public statistics.
func (s *server) publicCounts() statistics.Counts {
	queries, blocked := s.resolver.Totals()
	byCategory, byList := s.resolver.Blocks()
	c := statistics.Counts{Queries: queries, ByCategory: byCategory, ByList: map[string]uint64{}, ByPolicy: map[string]uint64{s.policy(): blocked}}
	for list, n := range byList {
		c.ByList[lookup.ListName(list)] += n
	}
	return c
}

// sizesOf returns the sizes of the set and of its lists.
func sizesOf(names int, lists feed.Status) statistics.Sizes {
	sizes := statistics.Sizes{Names: names, Lists: map[string]int{}}
	for _, l := range lists.Lists {
		sizes.Lists[lookup.ListName(l.Name)] += l.Entries
	}
	return sizes
}

// publicAppeals returns the numbers of the requests for a review; nil if control accepts none.
func (k *controlServer) publicAppeals() *statistics.Appeals {
	desk := k.api.Load().Appeals()
	if desk == nil {
		return nil
	}
	st := desk.Stats()
	a := &statistics.Appeals{MedianHours: uint64(st.Median / time.Hour)}
	for state, n := range st.ByState {
		a.Filed += uint64(n)
		switch state {
		case appeal.Upheld:
			a.Upheld = uint64(n)
		case appeal.Rejected:
			a.Rejected = uint64(n)
		}
	}
	return a
}

// policy returns what this server does with blocked queries.
func (s *server) policy() string {
	if s.config.Mode == config.Observe {
		return "observe"
	}
	return string(s.config.BlockAnswer)
}
