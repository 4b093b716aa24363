package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// publisher appends to the journal: it numbers records, binds each to the previous one, and signs them. It is safe for concurrent use.
type publisher struct {
	stream   *stream.Stream
	source   ownSource
	follower *journal.Follower // follows the same journal, with Node.Control set
	key      *signing.SecretKey
	trust    []signing.PublicKey
	dir      string // for temporary files
	logger   *slog.Logger
	refuse   func() error // Config.Refuse
	damage   atomic.Pointer[Damage]
	repairs  atomic.Uint64
	lostEnd  uint64 // last sequence of a journal that lost records which are not in force here: the next epoch is appended after it; 0 for none

	mu         sync.Mutex // held while a record is appended
	clock      clock
	clockWrong bool       // a problem with the clock was already logged
	snapshots  sync.Mutex // held while a snapshot is published

	gathered struct {
		sync.Mutex
		active   bool
		applied  []appliedRecord // effects while a snapshot is written
		snapshot uint64          // version of the last snapshot with content of its own
	}
	changeSets struct { // the last change sets in force, by ID
		sync.Mutex
		by    map[string]Receipt
		order []string
	}
}

// recentChangeSets is the number of change sets that are remembered by ID, so that a change set is not published twice after an append with unknown outcome.
const recentChangeSets = 1000

// appliedRecord holds the changes that a record made to the base view.
type appliedRecord struct {
	version uint64
	changes []blocklist.Change
}

// maxPublishTries bounds how often a record or a snapshot is made again because another control appended first.
const maxPublishTries = 5

// newPublisher returns a publisher for the journal that follower follows.
func newPublisher(cfg *Config, source ownSource, follower *journal.Follower) *publisher {
	return &publisher{stream: cfg.Stream, source: source, follower: follower, key: cfg.Key, trust: cfg.Trust, dir: cfg.Dir, logger: cfg.Log, refuse: cfg.Refuse}
}

// Draft is a record to be published.
type Draft struct {
	Kind        journal.RecordKind
	By          string
	Approved    []string
	Refused     []int
	ChangeSetID string
	Reason      string
	Body        []byte
}

// Receipt identifies a published record.
type Receipt struct {
	Version  uint64 `json:"version"`
	Time     int64  `json:"time"` // Unix milliseconds
	Sequence uint64 `json:"-"`
}

// ErrRefused is wrapped by the error for a record that every edge would refuse.
var ErrRefused = errors.New("refused")

// Publish appends a record. If it returns nil, the record is durable, and in force at control.
func (p *publisher) Publish(ctx context.Context, d Draft) (Receipt, error) {
	if err := p.Damaged(); err != nil {
		return Receipt{}, err
	}
	id := ""
	if d.Kind == journal.RecordChanges {
		if set, _, err := splitChangeSet(d.Body); err == nil {
			id = set.ID
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.append(ctx, id, func(*journal.State) (*journal.Record, []byte, error) {
		return &journal.Record{Kind: d.Kind, By: d.By, Approved: d.Approved, Refused: d.Refused, ChangeSetID: d.ChangeSetID, Reason: d.Reason}, d.Body, nil
	})
}

// append numbers, signs and appends a record that build makes for the newest state. id is the ID of the record's change set, or "": a change set that is in
// force already is not published again, and its first receipt is returned. The caller holds p.mu.
func (p *publisher) append(ctx context.Context, id string, build func(*journal.State) (*journal.Record, []byte, error)) (Receipt, error) {
	for range maxPublishTries {
		if r, ok := p.publishedReceipt(id); ok {
			return r, nil
		}
		st := p.follower.State()
		r, body, err := build(st)
		if err != nil {
			return Receipt{}, err
		}
		after := st.Sequence
		if r.Epoch > 0 {
			after = max(after, p.lostEnd)
		} else { // not the first record of an epoch
			if err := p.refusal(); err != nil {
				return Receipt{}, err
			}
			r.Epoch, r.Version, r.Previous = st.Epoch, st.Version+1, st.Hash
		}
		if r.Time, err = p.signingTime(st, r.Epoch); err != nil {
			return Receipt{}, err
		}
		data, err := r.Seal(p.key, body)
		if err == nil {
			err = st.CheckAppend(data, p.trust)
		}
		if err != nil {
			if clockErr := p.clock.checkAhead(); clockErr != nil {
				err = fmt.Errorf("%w (%w)", err, clockErr)
			}
			return Receipt{}, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		sequence, err := p.stream.Append(ctx, after, string(r.Kind), data)
		switch {
		case err == nil, errors.Is(err, stream.ErrUnknown) && p.confirmAppended(ctx, r.Version, journal.HashOf(data)):
			if err := p.follower.WaitForRecord(ctx, r.Version); err != nil {
				return Receipt{}, err
			}
			p.publishHeartbeat(ctx)
			return Receipt{r.Version, r.Time, sequence}, nil
		case errors.Is(err, stream.ErrBehind): // another control appended first
			waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = p.follower.WaitForRecord(waiting, st.Version+1)
			cancel()
			if err != nil {
				return Receipt{}, fmt.Errorf("another control appended a record first, and the record did not arrive here: %w", err)
			}
		default:
			return Receipt{}, fmt.Errorf("append a record: %w", err)
		}
	}
	return Receipt{}, fmt.Errorf("another control appended a record first %d times: try again", maxPublishTries)
}

// confirmAppended waits for a record whose append had an unknown outcome, and reports whether the journal holds it.
func (p *publisher) confirmAppended(ctx context.Context, version uint64, hash string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if p.follower.WaitForRecord(ctx, version) != nil {
		return false
	}
	st := p.follower.State()
	return st.Version == version && st.Hash == hash
}

// refusal returns an error while no record may be appended, or nil.
func (p *publisher) refusal() error {
	if p.refuse == nil {
		return nil
	}
	return p.refuse()
}

// signingTime returns the time to sign in an epoch, in Unix milliseconds. A new epoch may begin at an earlier time than the last one ended. A problem with the
// clock is logged once.
func (p *publisher) signingTime(st *journal.State, epoch uint64) (int64, error) {
	record, beat := int64(0), int64(0)
	if epoch == st.Epoch {
		record = st.Time
	}
	if b := p.follower.LastHeartbeat(); b.Epoch == epoch {
		beat = b.Time
	}
	at, err := p.clock.now(epoch, record, beat)
	problem := err
	if err == nil {
		problem = p.clock.checkAhead()
	}
	if problem != nil && !p.clockWrong {
		p.logger.Error("records cannot be signed with the correct time", "err", problem)
	}
	p.clockWrong = problem != nil
	return at, err
}

// publishHeartbeat signs and publishes a heartbeat for the newest state. The caller holds p.mu.
func (p *publisher) publishHeartbeat(ctx context.Context) {
	st := p.follower.State()
	if st.Version == 0 {
		return
	}
	at, err := p.signingTime(st, st.Epoch)
	if err != nil {
		return // signingTime logged it
	}
	data, err := journal.Heartbeat{Epoch: st.Epoch, Version: st.Version, Hash: st.Hash, Time: at}.Seal(p.key)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, journal.HeartbeatEvery)
		err = p.stream.Beat(ctx, data)
		cancel()
	}
	if err != nil && ctx.Err() == nil {
		p.logger.Warn("publishing a heartbeat failed", "err", err)
	}
}

// Run publishes heartbeats, and snapshots when they are due, until ctx ends.
func (p *publisher) Run(ctx context.Context) error {
	ticker := time.NewTicker(journal.HeartbeatEvery)
	defer ticker.Stop()
	var last uint64 // version of the last snapshot published here
	lastSweep := time.Now()
	for {
		p.mu.Lock()
		p.publishHeartbeat(ctx)
		p.mu.Unlock()
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		st := p.follower.State()
		if last == 0 {
			last = st.Version
		}
		if p.refusal() != nil || p.Damaged() != nil {
			continue // the function that refuses also logs why
		}
		p.publishRenewal(ctx, st)
		if time.Since(lastSweep) > objectRetention {
			p.removeOldObjects(ctx)
			lastSweep = time.Now()
		}
		if p.follower.IsFetching() {
			continue // the last snapshot is not in force here yet
		}
		if st.View().Stats().Overlay > snapshotOverlay || st.Version > last+snapshotRecords {
			r, err := p.Compact(ctx)
			if err != nil {
				p.logger.Error("publishing a snapshot failed; the journal continues without it", "err", err)
			}
			last = max(r.Version, st.Version)
		}
	}
}

// publishRenewal publishes a version without changes after a scoped change expired: the changes that it overrode are in effect again from that version on.
func (p *publisher) publishRenewal(ctx context.Context, st *journal.State) {
	now := time.Now().Unix()
	if !slices.ContainsFunc(st.Scoped, func(s journal.Scoped) bool { return s.Expired(now) }) {
		return
	}
	if _, err := p.Publish(ctx, Draft{Kind: journal.RecordRenew, By: "time"}); err != nil && ctx.Err() == nil {
		p.logger.Warn("publishing the expiry of a change for some nodes failed; the change that it overrode is in effect again with the next change", "err", err)
	}
}

// noteEffect must be called with every effect of the follower, from FollowerConfig.Changed.
func (p *publisher) noteEffect(e journal.Effect) {
	p.rememberChangeSet(e)
	p.gathered.Lock()
	defer p.gathered.Unlock()
	if s := e.Record.Snapshot; s != nil && (!s.Same || e.All) {
		p.gathered.snapshot = max(p.gathered.snapshot, e.Record.Version)
	}
	if p.gathered.active && len(e.Applied) > 0 {
		p.gathered.applied = append(p.gathered.applied, appliedRecord{e.Record.Version, e.Applied})
	}
}

// rememberChangeSet stores the receipt of the change set that was put in force.
func (p *publisher) rememberChangeSet(e journal.Effect) {
	set := e.ChangeSet
	if s := e.Record.Snapshot; s != nil && s.Changes != nil {
		set = &s.Changes.ChangeSet
	}
	if set == nil {
		return
	}
	p.changeSets.Lock()
	defer p.changeSets.Unlock()
	if p.changeSets.by == nil {
		p.changeSets.by = map[string]Receipt{}
	}
	if _, ok := p.changeSets.by[set.ID]; !ok {
		p.changeSets.order = append(p.changeSets.order, set.ID)
	}
	p.changeSets.by[set.ID] = Receipt{Version: e.Record.Version, Time: e.Record.Time}
	if len(p.changeSets.order) > recentChangeSets {
		delete(p.changeSets.by, p.changeSets.order[0])
		p.changeSets.order = p.changeSets.order[1:]
	}
}

// forgetChangeSets makes every change set publishable again: in a new epoch, change sets of the last one need not be in force.
func (p *publisher) forgetChangeSets() {
	p.changeSets.Lock()
	defer p.changeSets.Unlock()
	p.changeSets.by, p.changeSets.order = nil, nil
}

func (p *publisher) publishedReceipt(id string) (Receipt, bool) {
	p.changeSets.Lock()
	defer p.changeSets.Unlock()
	r, ok := p.changeSets.by[id]
	return r, ok
}

// Seal signs a payload with control's key.
func (p *publisher) Seal(kind signing.Kind, payload []byte) []byte {
	return signing.Seal(kind, payload, p.key)
}
