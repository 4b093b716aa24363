package journal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Status is a node's report to control. It holds nothing about clients.
type Status struct {
	Node      string `json:"node"`
	Epoch     uint64 `json:"epoch"`
	Version   uint64 `json:"version"`           // completely in force
	Hash      string `json:"hash"`              // of the record of version HashOf
	HashOf    uint64 `json:"hash_of,omitempty"` // 0: Version; later than Version while an announced snapshot is on its way
	Took      int64  `json:"took"`              // milliseconds from control's signature until the version was in force here
	Suspended bool   `json:"suspended,omitempty"`
	Queries   uint64 `json:"queries"` // since the start of the process
	Blocked   uint64 `json:"blocked"`
	Problem   string `json:"problem,omitempty"`
	Country   string `json:"country,omitempty"`  // from the node's settings: ISO 3166-1 alpha-2
	Operator  string `json:"operator,omitempty"` // from the node's settings: changes may apply to some operators only
}

// HashVersion returns the version that Hash belongs to.
func (s *Status) HashVersion() uint64 { return cmp.Or(s.HashOf, s.Version) }

// MaxStatus is the largest size of a status in bytes.
const MaxStatus = 4 << 10

// Health is the follower's state for metrics and /readyz.
type Health struct {
	Status
	Stats
	Heartbeat   time.Duration // time since the last new heartbeat; since the start if none arrived
	ControlTime time.Duration // by how much control's clock is ahead of this machine's clock, estimated from the last heartbeats
	Newest      uint64        // version in the last heartbeat
	Unwritten   string        // why records in force are not on disk; "" if all are
	Lost        uint64        // a version that was in force here before and is later than the version in force: the folder lost records or is damaged; 0 for none
}

// Health returns the follower's state for /readyz and metrics.
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

// reportLoop reports each version to control as it comes into force, and otherwise at intervals, until ctx ends.
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

// sendReport sends one report. If it arrives, the wait for the next attempt to follow control ends.
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
		return // the next report contains the same and more
	}
	f.mu.Lock()
	out := !f.outage.since.IsZero()
	f.outage.lastReport = time.Now()
	f.mu.Unlock()
	if out {
		f.RetryNow()
	}
}

// reportNow makes reportLoop send a report at once.
func (f *Follower) reportNow() {
	select {
	case f.reportDue <- struct{}{}:
	default:
	}
}

// sourceError is an error of the source itself, such as a connection error, and not of the data that it returned.
type sourceError struct{ error }

func (e sourceError) Unwrap() error { return e.error }

// outage is a period in which the source fails. Its zero value is none.
type outage struct {
	since       time.Time // end of the first failed attempt
	lastAttempt time.Time // start of the last failed attempt
	lastReport  time.Time // arrival of the last report
}

// endsWithReport reports whether a report that arrives disproves the outage. It does, unless the source failed again after an earlier report had arrived.
func (o *outage) endsWithReport() bool {
	return !o.since.IsZero() && (o.lastReport.Before(o.since) || o.lastAttempt.Before(o.lastReport))
}

// failed stores the problem that ended an attempt to follow the source. started is the start of the attempt.
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
