package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Status is how a node stands, as it tells control. It holds nothing about who asks.
type Status struct {
	Node      string `json:"node"`
	Epoch     uint64 `json:"epoch"`
	Version   uint64 `json:"version"`           // in force whole
	Hash      string `json:"hash"`              // of the record that made version HashOf
	HashOf    uint64 `json:"hash_of,omitempty"` // 0: Version; later than it while what a record announces is on its way
	Took      int64  `json:"took"`              // milliseconds from control's time of that version to in force here
	Suspended bool   `json:"suspended,omitempty"`
	Queries   uint64 `json:"queries"` // since the start
	Blocked   uint64 `json:"blocked"`
	Problem   string `json:"problem,omitempty"`
	Country   string `json:"country,omitempty"`  // as its settings say: ISO 3166-1 alpha-2
	Operator  string `json:"operator,omitempty"` // the same: changes may be for some operators only
}

// At returns the version that Hash belongs to.
func (s *Status) HashVersion() uint64 { return cmp.Or(s.HashOf, s.Version) }

// MaxStatus is how many octets a status has at most.
const MaxStatus = 4 << 10

// Health is how a follower stands, for its own metrics and readiness.
type Health struct {
	Status
	Stats
	Heartbeat   time.Duration // since the last that was new; since the start where none came
	ControlTime time.Duration // by how much control's clock is ahead of this one, as estimated from the last heartbeats
	Newest      uint64        // version that control spoke of last
	Unwritten   string        // why records in force are not on disk
	Lost        uint64        // a version that was in force here before, later than what is in force now: what was on disk is lost or damaged; 0 for none
}

// Health tells it.
func (f *Follower) Health() Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.State()
	h := Health{
		Status: Status{
			Node: f.cfg.Node.ID, Epoch: st.Epoch, Version: f.inForce(), Hash: st.Hash, Took: f.took.Milliseconds(),
			Suspended: st.Suspended, Problem: f.problem, Country: f.cfg.Node.Country, Operator: f.cfg.Node.Operator,
		},
		Stats: f.stats, Newest: f.beat.Version, Unwritten: f.unwritten, Lost: f.lostMark.Version,
	}
	if h.Status.Version != st.Version {
		h.HashOf = st.Version
	}
	if f.cfg.Totals != nil {
		h.Queries, h.Blocked = f.cfg.Totals()
	}
	if len(h.Problem) > 500 {
		h.Problem = h.Problem[:500]
	}
	since := f.started
	if !f.beatReceived.IsZero() {
		since = f.beatReceived
		h.ControlTime = f.offset.estimate()
	}
	h.Heartbeat = time.Since(since)
	return h
}

// report tells control of each version as it comes into force, and now and then that this node is there.
func (f *Follower) reportLoop(ctx context.Context) {
	for ctx.Err() == nil {
		f.mu.Lock()
		applied := f.applied
		if f.disk != nil && len(f.disk.unwritten) > 0 && f.disk.flush() == nil {
			f.unwritten = ""
		}
		f.mu.Unlock()
		f.sendReport(ctx)
		select {
		case <-applied:
		case <-f.reportDue:
		case <-time.After(reportInterval):
		case <-ctx.Done():
		}
	}
}

// send sends one report. One that arrives ends the wait for the next attempt to follow control.
func (f *Follower) sendReport(ctx context.Context) {
	st := f.Health().Status
	if st.Version == 0 || f.cfg.Node.Control {
		return
	}
	f.mu.Lock()
	if f.outage.endsWithReport() {
		st.Problem = ""
	}
	f.mu.Unlock()
	data, err := json.Marshal(st)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportInterval)
	defer cancel()
	if f.cfg.Source.Report(ctx, data) != nil {
		return // the next one tells more
	}
	f.mu.Lock()
	out := !f.outage.since.IsZero()
	f.outage.lastReport = time.Now()
	f.mu.Unlock()
	if out {
		f.RetryNow()
	}
}

// reportNow makes a report due at once.
func (f *Follower) reportNow() {
	select {
	case f.reportDue <- struct{}{}:
	default:
	}
}

// sourceError is an error of the source itself, such as one of the connection to control; not of what it read.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// outage is a time in which the source fails. Its zero value is none.
type outage struct {
	since       time.Time // of the first attempt that failed
	lastAttempt time.Time // of the last one
	lastReport  time.Time // when a report arrived last
}

// endsWithReport reports whether a report that arrives disproves the outage: it does, unless the source failed again after an earlier report had arrived.
func (o *outage) endsWithReport() bool {
	return !o.since.IsZero() && (o.lastReport.Before(o.since) || o.lastAttempt.Before(o.lastReport))
}

// failed notes why an attempt to follow the source failed, which began at that time.
func (f *Follower) failed(started time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.outage
	f.setProblemLocked(err.Error())
	if errors.As(err, new(sourceError)) {
		f.outage = before
		if f.outage.lastAttempt = started; before.since.IsZero() {
			f.outage.since = time.Now()
		}
	}
}
