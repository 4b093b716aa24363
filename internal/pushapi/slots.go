package pushapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// slotPatience is the time for which an upload waits for a place before it is refused.
const slotPatience = 2 * time.Second

// slots bounds the number of uploads in progress, in total and for one person, so that one person cannot take all places. It is safe for concurrent use.
type slots struct {
	all, each int
	mu        sync.Mutex
	by        map[string]int
	taken     int
	left      chan struct{} // closed when the next upload ends
}

func newSlots(all, each int) slots {
	return slots{all: all, each: each, by: map[string]int{}, left: make(chan struct{})}
}

// enter waits for a place for at most slotPatience. The caller calls leave when the upload ends.
func (s *slots) enter(ctx context.Context, owner string) (leave func(), busy error) {
	ctx, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	for {
		taken, left := s.take(owner)
		if taken {
			return func() { s.leave(owner) }, nil
		}
		select {
		case <-left:
		case <-ctx.Done():
			err := problem(http.StatusTooManyRequests, "", "too many uploads are in progress: wait until one ends")
			return nil, huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"5"}})
		}
	}
}

// take takes a place if one is free. left is closed when the next upload ends.
func (s *slots) take(owner string) (taken bool, left <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.by[owner] >= s.each {
		return false, s.left
	}
	s.taken++
	s.by[owner]++
	return true, nil
}

func (s *slots) leave(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[owner]--; s.by[owner] == 0 {
		delete(s.by, owner)
	}
	close(s.left)
	s.left = make(chan struct{})
}
