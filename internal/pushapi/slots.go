package pushapi

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// slotPatience is the time for which an upload waits for a free slot before the upload is refused.
const slotPatience = 2 * time.Second

// slots limits the number of uploads in progress, in total and for each person, so that one person cannot take all slots. It is safe for concurrent use.
type slots struct {
	limit, ownerLimit int // limits in total and for one owner
	mu                sync.Mutex
	taken             map[string]int // by owner
	total             int            // taken by all owners
	freed             chan struct{}  // closed when the next upload ends
}

func newSlots(limit, ownerLimit int) slots {
	return slots{limit: limit, ownerLimit: ownerLimit, taken: map[string]int{}, freed: make(chan struct{})}
}

// enter takes a slot for owner, and waits for at most slotPatience until one is free. The caller must call leave when the upload ends. busy is the answer 429.
func (s *slots) enter(ctx context.Context, owner string) (leave func(), busy error) {
	ctx, cancel := context.WithTimeout(ctx, slotPatience)
	defer cancel()
	for {
		ok, freed := s.take(owner)
		if ok {
			return func() { s.leave(owner) }, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			err := problem(http.StatusTooManyRequests, "", "too many uploads are in progress: wait until one ends")
			return nil, huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"5"}})
		}
	}
}

// take takes a slot for owner and returns true if a slot is free. Otherwise it returns a channel that is closed when the next upload ends.
func (s *slots) take(owner string) (ok bool, freed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= s.limit || s.taken[owner] >= s.ownerLimit {
		return false, s.freed
	}
	s.total++
	s.taken[owner]++
	return true, nil
}

func (s *slots) leave(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.taken[owner]--; s.taken[owner] == 0 {
		delete(s.taken, owner)
	}
	close(s.freed)
	s.freed = make(chan struct{})
}
