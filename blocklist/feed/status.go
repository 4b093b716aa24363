package feed

import (
	"fmt"
	"maps"
	"time"

	"rempart/blocklist"
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
	Version uint64       // of the set in force; 0 if there is none
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
	if l.publisher.err != nil {
		s.Err = l.publisher.err.Error()
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

// setReplaced updates the status before it calls Changed, whose receivers call Status for the lists in the set.
func (l *Lists) setReplaced() {
	if l.cfg.Changed != nil {
		l.updateStatus()
		l.cfg.Changed()
	}
}

// lastSetInForce updates the status, and makes Start return.
func (l *Lists) lastSetInForce(view *blocklist.View) {
	status := l.Status() // the lists may be read at this moment: their part of the status does not change
	status.Version, status.Names = view.Version(), view.Stats().Names
	l.status.Store(&status)
	if l.cfg.Changed != nil {
		l.cfg.Changed()
	}
	l.log.Info("the set of the last run is in force until the lists are read and the next set is compiled", "version", view.Version(), "names", view.Stats().Names)
	if l.markLast != nil {
		l.markLast()
	}
}
