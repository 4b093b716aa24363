package feed

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"rempart/blocklist/feed/fetch"
)

// Result is how a list stands.
type Result string

const (
	OK      Result = "ok"      // what is in force is what the list says, as far as is known
	Stale   Result = "stale"   // the last attempt failed; the last good copy is in force
	Failed  Result = "failed"  // the last attempt failed, and there is no copy
	Waiting Result = "waiting" // there is no copy, and no attempt has ended yet
)

// Status is how lists and set stand. It never changes once returned.
type Status struct {
	Lists   []ListStatus // the allow list first
	Version uint64       // of the set in force; 0 for none
	Names   int          // in the set in force
	Err     string       // why the set in force is not of the newest content, "" if it is
	Folder  string       // why the data folder cannot be written, "" if it can
	Waiting string       // a sentence if a URL has never been fetched, "" if every list that can keep one has a copy
}

// ListStatus is how one list stands.
type ListStatus struct {
	Name    string // as configured, without passwords and queries
	Kind    Kind
	Entries int            // listings in force, its own exceptions included
	Refused map[string]int // lines not understood, by Reason, of the content in force
	Held    map[string]int // listings the guards did not let count, by outcome and guard ("hold popular")
	Feed    Feed           // what is asked of it; URL, path and TSIG are left out
	TooOld  bool           // it could not be renewed for so long that nothing it lists counts
	Fetched time.Time      // when the content in force was last known to be the publisher's; zero for none
	Parses  int            // how often content was parsed since New
	Result  Result
	Err     string // of the last attempt
}

// Status is how things stand now. The result is the caller's to read, not to change.
func (l *Lists) Status() Status { return *l.status.Load() }

// report makes what the writer knows readable.
func (l *Lists) report() {
	view, now := l.set.View(), time.Now()
	s := &Status{Version: view.Version(), Names: view.Stats().Names}
	if l.setErr != nil {
		s.Err = l.setErr.Error()
	}
	if l.folder.err != nil {
		s.Folder = l.folder.err.Error()
	}
	missing := 0
	for _, li := range l.lists {
		st := ListStatus{Name: li.name, Kind: li.kind, Result: li.result, Parses: li.parses, Feed: li.feed, TooOld: li.tooOld(now)}
		st.Feed.URL, st.Feed.Path, st.Feed.TSIG = "", "", ""
		if li.err != nil {
			st.Err = li.err.Error()
		}
		if li.copy != nil {
			st.Entries, st.Fetched, st.Refused = li.copy.Entries, li.copy.Fetched, maps.Clone(li.copy.Refused)
			st.Held = maps.Clone(li.copy.Held)
		} else if li.kind == KindURL {
			if missing++; missing == 1 {
				s.Waiting = fmt.Sprintf("The list %s has not been fetched yet", li.name)
				if st.Err != "" {
					s.Waiting += ": " + st.Err
				}
			}
		}
		s.Lists = append(s.Lists, st)
	}
	if missing > 1 {
		s.Waiting += fmt.Sprintf(" (and %d more)", missing-1)
	}
	l.status.Store(s)
}

// interval is how often a list is asked again.
func (l *Lists) interval(li *list) time.Duration {
	if li.feed.Interval > 0 {
		return li.feed.Interval
	}
	return l.cfg.Refresh
}

// due returns when the next attempt on li may begin.
func (li *list) due() time.Time {
	if li.leaveAlone.After(li.next) {
		return li.leaveAlone
	}
	return li.next
}

// settle notes how an attempt on li ended and when the next is due, and logs a change of state.
func (l *Lists) settle(li *list, now time.Time, err error) {
	if errors.Is(err, errChanging) && li.copy != nil {
		li.next = now.Add(l.timing.again)
		return
	}
	before := li.result
	li.err = err
	switch {
	case err == nil:
		li.result, li.failures = OK, 0
		li.next = now.Add(jitter(l.interval(li)))
	default:
		li.result = Failed
		if li.copy != nil {
			li.result = Stale
		}
		li.failures++
		wait := jitter(backoff(l.timing.backoff, l.interval(li), li.failures))
		if status := (*fetch.StatusError)(nil); errors.As(err, &status) {
			wait = max(wait, status.RetryAfter)
			li.leaveAlone = now.Add(status.RetryAfter)
		}
		if errors.Is(err, errChanging) {
			wait = l.timing.again
		}
		li.next = now.Add(wait)
	}
	switch {
	case li.result == before:
	case li.result == Stale:
		l.log.Warn("list cannot be renewed; its last good copy stays in force", "list", li.name, "err", err, "fetched", li.copy.Fetched)
	case li.result == Failed:
		l.log.Error("list cannot be had, and there is no copy of it", "list", li.name, "err", err)
	case before == Stale || before == Failed:
		l.log.Info("list is up to date again", "list", li.name)
	}
}

// backoff is first after one failure and doubles with each further one, up to most.
func backoff(first, most time.Duration, failures int) time.Duration {
	d := first
	for ; failures > 1 && d < most; failures-- {
		d *= 2
	}
	return min(d, most)
}

// jitter spreads d by a tenth either way, so that a fleet does not ask at the same instant.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
