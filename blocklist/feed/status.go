package feed

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"rempart/blocklist/feed/fetch"
)

// Result is the result of the last attempt to read or fetch a list.
type Result string

const (
	OK      Result = "ok"      // the current content is in force, as far as is known
	Stale   Result = "stale"   // the last attempt failed; the last good copy is in force
	Failed  Result = "failed"  // the last attempt failed, and there is no copy
	Waiting Result = "waiting" // there is no copy, and no attempt has ended yet
)

// Status is the state of lists and set. It never changes once returned.
type Status struct {
	Lists   []ListStatus // the allow list first
	Version uint64       // of the set in force; 0 for none
	Names   int          // in the set in force
	Err     string       // why the set in force is not of the newest content, "" if it is
	Folder  string       // why the data folder cannot be written, "" if it can
	Waiting string       // a sentence if a URL has never been fetched, "" if every list that can keep one has a copy
}

// ListStatus is the state of one list.
type ListStatus struct {
	Name    string // as configured, without passwords and queries
	Kind    Kind
	Entries int            // listings in force, its own exceptions included
	Refused map[string]int // lines not understood, by Reason, of the content in force
	Held    map[string]int // listings that guards refuse or hold, by outcome and guard ("hold popular")
	Feed    Feed           // its settings, without URL, path and TSIG
	TooOld  bool           // it was not renewed within its maximum age: none of its listings is in effect
	Fetched time.Time      // when the content in force was last known to be the publisher's; zero for none
	Parses  int            // how often content was parsed since New
	Result  Result
	Err     string // of the last attempt
}

// Status returns the current state. The caller must not change it.
func (l *Lists) Status() Status { return *l.status.Load() }

// updateStatus publishes the state of the writer for Status.
func (l *Lists) updateStatus() {
	view, now := l.set.View(), time.Now()
	s := &Status{Version: view.Version(), Names: view.Stats().Names}
	if l.setErr != nil {
		s.Err = l.setErr.Error()
	}
	if l.folderState.err != nil {
		s.Folder = l.folderState.err.Error()
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

// interval returns the interval at which a list is read or fetched.
func (l *Lists) interval(li *list) time.Duration {
	if li.feed.Interval > 0 {
		return li.feed.Interval
	}
	return l.cfg.Refresh
}

// due returns when the next attempt on li may begin.
func (li *list) due() time.Time {
	if li.notBefore.After(li.next) {
		return li.notBefore
	}
	return li.next
}

// finishAttempt records the result of an attempt on li and the time of the next one, and logs a change of state.
func (l *Lists) finishAttempt(li *list, now time.Time, err error) {
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
			li.notBefore = now.Add(status.RetryAfter)
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
		l.log.Error("list cannot be fetched or read, and there is no copy of it", "list", li.name, "err", err)
	case before == Stale || before == Failed:
		l.log.Info("list is up to date again", "list", li.name)
	}
}

// backoff returns first after one failure and doubles with each further one, up to most.
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
