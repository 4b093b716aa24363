package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal/stream"
)

// Publisher is control's hand on the journal: it numbers records, binds each to the one before, and signs them. Its methods are safe from
// any goroutine.
type Publisher struct {
	journal  *stream.Stream
	follower *Follower // of the same journal, as a Control node
	key      *SecretKey
	trust    []PublicKey
	dir      string
	logger   *slog.Logger
	refuse   func() error // ControlConfig.Refuse
	damage   atomic.Pointer[Damage]
	damaged  func() error // Control.Damaged
	repairs  atomic.Uint64
	lostEnd  uint64 // end of a journal that lost records which are not in force here: an epoch that begins follows it; 0 for none

	mu         sync.Mutex // one record at a time
	clock      clock
	clockWrong bool       // it, as was told
	snapshots  sync.Mutex // one snapshot at a time

	gathered struct {
		sync.Mutex
		active   bool
		applied  []appliedRecord // what came into force while a snapshot is written
		snapshot uint64          // version of the last snapshot that brought something of its own
	}
	changeSets struct { // the last change sets in force, by ID: what became of them
		sync.Mutex
		by    map[string]Receipt
		order []string
	}
}

// recentSets is how many change sets are known by their IDs, so that one is not published twice where its first appending ended nobody
// knew how.
const recentChangeSets = 1000

// applied is what a record did.
type appliedRecord struct {
	version uint64
	changes []blocklist.Change
}

// HeartbeatEvery is how often control says which version is the newest, at least.
const HeartbeatEvery = 5 * time.Second

// publishTries is how often a record, or a snapshot, is made anew because another control's came first.
const maxPublishTries = 5

// NewPublisher returns the publisher of what follower follows. dir is for files while they are made.
func NewPublisher(log *stream.Stream, follower *Follower, key *SecretKey, dir string) *Publisher {
	return &Publisher{journal: log, follower: follower, key: key, trust: follower.cfg.Trust, dir: dir, logger: follower.log, damaged: func() error { return nil }}
}

// Draft is what is to be published.
type Draft struct {
	Kind        RecordKind
	By          string
	Approved    []string
	Refused     []int
	ChangeSetID string
	Reason      string
	Body        []byte
}

// Receipt says what a record became.
type Receipt struct {
	Version  uint64 `json:"version"`
	Time     int64  `json:"time"` // Unix milliseconds
	Sequence uint64 `json:"-"`
}

// ErrRefused is what wraps why a record must not be published: every edge would refuse it.
var ErrRefused = errors.New("refused")

// Publish appends a record. When it returns nil, the record is kept for good, and in force here.
func (p *Publisher) Publish(ctx context.Context, d Draft) (Receipt, error) {
	if err := p.damaged(); err != nil {
		return Receipt{}, err
	}
	id := ""
	if d.Kind == RecordChanges {
		if set, _, err := splitChangeSet(d.Body); err == nil {
			id = set.ID
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.append(ctx, id, func(*State) (*Record, []byte, error) {
		return &Record{Kind: d.Kind, By: d.By, Approved: d.Approved, Refused: d.Refused, ChangeSetID: d.ChangeSetID, Reason: d.Reason}, d.Body, nil
	})
}

// append numbers, signs and keeps a record that build makes for the newest state. Where it is that of a change set, id is the set's: one that is in
// force already is not published again.
func (p *Publisher) append(ctx context.Context, id string, build func(*State) (*Record, []byte, error)) (Receipt, error) {
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
		} else { // not the first of an epoch
			if err := p.refusal(); err != nil {
				return Receipt{}, err
			}
			r.Epoch, r.Version, r.Previous = st.Epoch, st.Version+1, st.Hash
		}
		if r.Time, err = p.signingTime(st, r.Epoch); err != nil {
			return Receipt{}, err
		}
		data, err := r.seal(p.key, body)
		if err == nil {
			err = st.checkAppend(data, p.trust)
		}
		if err != nil {
			if clockErr := p.clock.checkAhead(); clockErr != nil {
				err = fmt.Errorf("%w (%w)", err, clockErr)
			}
			return Receipt{}, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		sequence, err := p.journal.Append(ctx, after, string(r.Kind), data)
		switch {
		case err == nil, errors.Is(err, stream.ErrUnknown) && p.follower.confirmAppended(ctx, r.Version, HashOf(data)):
			if err := p.follower.waitForRecord(ctx, r.Version); err != nil {
				return Receipt{}, err
			}
			p.publishHeartbeat(ctx)
			return Receipt{r.Version, r.Time, sequence}, nil
		case errors.Is(err, stream.ErrBehind): // another control's came first
			waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = p.follower.waitForRecord(waiting, st.Version+1)
			cancel()
			if err != nil {
				return Receipt{}, fmt.Errorf("another record came first, and did not arrive here: %w", err)
			}
		default:
			return Receipt{}, fmt.Errorf("keep a record: %w", err)
		}
	}
	return Receipt{}, errors.New("others publish all the time: try again")
}

// refused returns why no record may be appended now, or nil.
func (p *Publisher) refusal() error {
	if p.refuse == nil {
		return nil
	}
	return p.refuse()
}

// now is the time to sign something in an epoch, in Unix milliseconds: one that begins may be dated before the last. What is wrong with the clock is told once.
func (p *Publisher) signingTime(st *State, epoch uint64) (int64, error) {
	record, beat := int64(0), int64(0)
	if epoch == st.Epoch {
		record = st.Time
	}
	if b := p.follower.lastBeat(); b.Epoch == epoch {
		beat = b.Time
	}
	at, err := p.clock.now(epoch, record, beat)
	problem := err
	if err == nil {
		problem = p.clock.checkAhead()
	}
	if problem != nil && !p.clockWrong {
		p.logger.Error("what is signed cannot have the right time", "err", problem)
	}
	p.clockWrong = problem != nil
	return at, err
}

// maxScopedOctets bounds what every announcement of a snapshot holds of what is scoped.
const maxScopedBytes = 1 << 20

// admits reports why a record could not follow, whoever gets it.
func (st *State) checkAppend(data []byte, trust []PublicKey) error {
	c, err := st.check(data, trust)
	if err != nil || c.Kind != RecordChanges && c.Kind != RecordAdvance {
		return err
	}
	all, _, err := st.rescope(c)
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(all)
	if err == nil && len(encoded) > maxScopedBytes {
		err = fmt.Errorf("%w: more than %d octets of changes would be in force on some nodes only: advance or withdraw others first", ErrChanges, maxScopedBytes)
	}
	return err
}

// beat signs a heartbeat for the newest state.
func (p *Publisher) publishHeartbeat(ctx context.Context) {
	st := p.follower.State()
	if st.Version == 0 {
		return
	}
	at, err := p.signingTime(st, st.Epoch)
	if err != nil {
		return // it was told
	}
	data, err := Heartbeat{st.Epoch, st.Version, st.Hash, at}.seal(p.key)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, HeartbeatEvery)
		err = p.journal.Beat(ctx, data)
		cancel()
	}
	if err != nil && ctx.Err() == nil {
		p.logger.Warn("a heartbeat could not be published", "err", err)
	}
}

// Run publishes heartbeats, and snapshots when they are due, until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	ticker := time.NewTicker(HeartbeatEvery)
	defer ticker.Stop()
	var last uint64 // version of the last snapshot made here
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
		if p.refusal() != nil || p.damaged() != nil {
			continue // whoever refuses it logs why
		}
		p.publishRenewal(ctx, st)
		if time.Since(lastSweep) > objectRetention {
			p.removeOldObjects(ctx)
			lastSweep = time.Now()
		}
		if p.follower.isFetching() {
			continue // the last one is not in force here yet
		}
		if st.view.Stats().Overlay > snapshotOverlay || st.Version > last+snapshotRecords {
			r, err := p.Compact(ctx)
			if err != nil {
				p.logger.Error("a snapshot could not be published; the journal goes on without", "err", err)
			}
			last = max(r.Version, st.Version)
		}
	}
}

// renew publishes a version without changes when something scoped ran out: what it stood over counts again from there.
func (p *Publisher) publishRenewal(ctx context.Context, st *State) {
	now := time.Now().Unix()
	if !slices.ContainsFunc(st.Scoped, func(s Scoped) bool { return s.expired(now) }) {
		return
	}
	if _, err := p.Publish(ctx, Draft{Kind: RecordRenew, By: "time"}); err != nil && ctx.Err() == nil {
		p.logger.Warn("what a change for some nodes stood over counts again with the next change only", "err", err)
	}
}

// Applied is to be told of every effect, by whoever made the follower.
func (p *Publisher) NoteEffect(e Effect) {
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

// note remembers which change set came into force.
func (p *Publisher) rememberChangeSet(e Effect) {
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

// forgetSets makes every change set publishable again: in an epoch that begins, those of the last one need not be in force.
func (p *Publisher) forgetChangeSets() {
	p.changeSets.Lock()
	defer p.changeSets.Unlock()
	p.changeSets.by, p.changeSets.order = nil, nil
}

func (p *Publisher) publishedReceipt(id string) (Receipt, bool) {
	p.changeSets.Lock()
	defer p.changeSets.Unlock()
	r, ok := p.changeSets.by[id]
	return r, ok
}

// Seal signs something with control's key.
func (p *Publisher) Seal(kind Kind, payload []byte) []byte { return Seal(kind, payload, p.key) }
