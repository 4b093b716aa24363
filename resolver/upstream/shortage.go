package upstream

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"syscall"
	"time"
)

// shortageEnd is the time without a failure after which a shortage has ended, so that the next failure is logged again.
const shortageEnd = time.Minute

// shortage logs that this machine lacks descriptors, memory or ports for questions: one line per episode, not one per question. Its methods may be called
// concurrently.
type shortage struct {
	descriptors, others atomic.Int64 // time of the newest failure, in nanoseconds since 1970; 0 before the first
}

// note notes a failure whose kind is transport.Local.
func (s *shortage) note(log *slog.Logger, err error) {
	now := time.Now().UnixNano()
	switch {
	case !errors.Is(err, syscall.EMFILE):
		if isFirst(&s.others, now) {
			log.Warn("this machine lacks memory, ports or descriptors to ask upstreams: some queries fail or get stale answers; the upstreams stay in use", "error", err)
		}
	case isFirst(&s.descriptors, now):
		log.Warn("the limit of open files and sockets is reached, so that no further socket can be opened to ask upstreams: the open sockets stay in use, and some queries "+
			"fail or get stale answers; raise LimitNOFILE= in the unit, or ulimit -n", "error", err)
	}
}

// isFirst stores the time of a failure in last, and reports whether the failure begins an episode.
func isFirst(last *atomic.Int64, now int64) bool {
	earlier := last.Swap(now)
	return earlier == 0 || now-earlier > int64(shortageEnd)
}
