package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"rempart/blocklist"
)

// Entry is a record where it is kept.
type SequencedRecord struct {
	Sequence uint64 // its place in a stream; 0 where there is none
	Data     []byte
}

// Position is after which record to go on.
type Position struct{ Version, Sequence uint64 }

// Reader is told what a Source has. An error ends the following.
type Consumer interface {
	Record(SequencedRecord) error
	Heartbeat(data []byte) error
}

// Source is where a journal is read: a stream, a control's address, a mirror. It is trusted in nothing.
type Source interface {
	// Follow tells to of each record after a position, in order, as they come, and of heartbeats, until ctx ends, to or the source fails.
	Follow(ctx context.Context, after Position, to Consumer) error
	// Newest is the newest record of a snapshot.
	Newest(ctx context.Context) (SequencedRecord, error)
	// Object is one by its name, to be closed.
	Object(ctx context.Context, name string) (io.ReadCloser, error)
	// Report tells control how this node stands. It may be lost.
	Report(ctx context.Context, status []byte) error
}

// FollowerConfig says what is followed, by whom.
type FollowerConfig struct {
	Dir     string // for what is in force, this process's alone
	Source  Source
	Trust   []PublicKey // root keys
	Node    Node
	Totals  func() (queries, blocked uint64)                    // since the start, for reports; may be nil
	Changed func(before, after *blocklist.View, e Effect)       // after each record came into force, by the one goroutine; may be nil
	Log     *slog.Logger                                        // nil: none
	Refresh func(view *blocklist.View) (*blocklist.View, error) // puts what is of this machine alone over a view; may be nil
}

// Follower keeps a Set at the newest version of a journal. Start, then Run, are called by one goroutine; other methods are safe from any.
type Follower struct {
	cfg   FollowerConfig
	log   *slog.Logger
	set   *blocklist.Set
	disk  *disk
	state atomic.Pointer[State]

	mu                sync.Mutex    // one writer at a time: Run, or Relocal
	applied           chan struct{} // closed when something came into force
	reportDue         chan struct{} // a report is due at once
	retry             chan struct{} // closed and replaced by RetryNow
	pending           *pendingSnapshot
	fetchDue          chan struct{}
	lostMark          mark      // the newest version that was ever in force in the folder, if that is later than what is now
	salvaged          *State    // shown instead of an earlier state of the same epoch: of records behind those that are missing on disk; nil for none
	gap               bool      // records are missing before the next
	damaged           *Snapshot // found so on disk
	replacementSought *Snapshot // damaged, and a newer one was looked for among the records
	beat              Heartbeat
	beatData          []byte
	beatArrived       chan struct{} // closed when one came
	beatReceived      time.Time     // by the monotonic clock: no wrong clock hides an age
	offset            clockOffset
	started           time.Time
	problem           string
	outage            outage
	unwritten         string
	took              time.Duration // from control's time to in force, of the last record that came as news
	stats             Stats
	verify            sync.WaitGroup
}

// Counts are what a follower met.
type Stats struct {
	Records   uint64 // put in force
	Refused   uint64 // records and heartbeats that were not rightly signed, in order or fresh
	Snapshots uint64 // fetched
}

const (
	minRetry       = 200 * time.Millisecond
	maxRetry       = 8 * time.Second
	reportInterval = 10 * time.Second
	// freshOverlay is above how many entries of an overlay a snapshot of the same state is fetched.
	largeOverlay = 20_000
	// freshTail is above how many octets of records on disk the same is done: they are replayed at each start.
	largeTail = 32 << 20
	// farBehind is how many records are replayed rather than a snapshot fetched.
	farBehind = 2_000
)

// NewFollower returns a follower; its set is empty until Start.
func NewFollower(cfg FollowerConfig) (*Follower, error) {
	if cfg.Source == nil || cfg.Dir == "" || len(cfg.Trust) == 0 {
		return nil, errors.New("a follower needs a folder, a source and a root key to trust")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	empty, err := emptyView()
	if err != nil {
		return nil, err
	}
	f := &Follower{cfg: cfg, log: cfg.Log, set: blocklist.NewSet(empty), applied: make(chan struct{}), reportDue: make(chan struct{}, 1), retry: make(chan struct{}), fetchDue: make(chan struct{}, 1), beatArrived: make(chan struct{}), started: time.Now()}
	f.state.Store(&State{base: empty, view: empty})
	return f, nil
}

func emptyView() (*blocklist.View, error) {
	var b bytes.Buffer
	if err := blocklist.Compile(&b, blocklist.Info{}); err != nil {
		return nil, err
	}
	return blocklist.OpenView(b.Bytes(), nil)
}

// Set is what is in force, one set for the follower's life; State, where it stands.
func (f *Follower) Set() *blocklist.Set { return f.set }

// State is where it stands.
func (f *Follower) State() *State { return f.state.Load() }

// View is the state's view, without what is of this machine alone.
func (st *State) View() *blocklist.View { return st.view }

// Ring is the sealed key ring in force; nil for none.
func (st *State) Ring() []byte {
	if st.ring == nil {
		return nil
	}
	return st.ring.sealed
}

// next is the state after a checked record. What a snapshot holds is fetched beside, and put under what came since.
func (f *Follower) next(st *State, c *checked, e SequencedRecord) (*State, *Effect, error) {
	n, effect, err := st.next(c, e.Sequence, f.cfg.Node)
	if err != nil {
		return nil, nil, err
	}
	if f.pending != nil {
		if f.pending.records = append(f.pending.records, e); len(f.pending.records) > farBehind && f.pending.completeVersion >= f.pending.Version {
			f.pending = nil // it is in force all the same
		}
	}
	lacks := f.isIncomplete()
	if s := c.Snapshot; s != nil && (!s.Same || lacks || f.snapshotIsWorthFetching(st)) {
		w := &pendingSnapshot{checked: c, announcement: e, completeVersion: st.Version}
		switch {
		case lacks: // it holds what the one before brings, whose objects may be gone already
			w.completeVersion = f.pending.completeVersion
		case s.Same:
			w.completeVersion = c.Version
		}
		f.pending = w
		f.wakeFetcher()
	}
	effect.Incomplete = f.isIncomplete()
	return n, effect, nil
}

// fresher reports whether a snapshot of a state that is in force is worth fetching.
func (f *Follower) snapshotIsWorthFetching(st *State) bool {
	return st.view.Stats().Overlay > largeOverlay || f.disk != nil && (f.disk.tailSize > largeTail || f.isDamaged())
}

// isDamaged reports whether the snapshot on disk was found damaged.
func (f *Follower) isDamaged() bool { return f.damaged != nil && f.damaged == f.disk.base }

// Run follows until ctx ends. Whatever goes wrong, what is in force stays.
func (f *Follower) Run(ctx context.Context) error {
	var background sync.WaitGroup
	background.Go(func() { f.reportLoop(ctx) })
	background.Go(func() { f.fetchSnapshots(ctx) })
	defer func() {
		background.Wait()
		f.verify.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.disk.closeTail()
	}()
	wait := minRetry
	var epochEnd *State // the last epoch
	for ctx.Err() == nil {
		started := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if st := f.State(); errors.Is(err, errNewEpoch) && st != epochEnd { // or the source has a record of it, and no snapshot
			epochEnd = st
			f.log.Info("the journal was begun anew; its first snapshot is fetched")
			continue
		}
		if f.State().Version > 0 || !f.cfg.Node.Control { // control itself waits for its own first record
			f.failed(started, err)
		}
		if time.Since(started) > maxRetry {
			wait = minRetry
		}
		if f.pause(ctx, wait+rand.N(wait)) {
			wait = minRetry
			continue
		}
		wait = min(2*wait, maxRetry)
	}
	return nil
}

var errNewEpoch = errors.New("an epoch of the journal began")

// RetryNow ends the wait before the next attempt to reach control, if one is in progress: the caller knows that the network is back.
func (f *Follower) RetryNow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.retry)
	f.retry = make(chan struct{})
}

// pause waits for d, or until RetryNow is called or ctx ends. It reports whether RetryNow was called.
func (f *Follower) pause(ctx context.Context, d time.Duration) (now bool) {
	f.mu.Lock()
	retry := f.retry
	f.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-retry:
		return true
	case <-ctx.Done():
	}
	return false
}

// follow brings the state up to the newest snapshot where that is needed, and follows from there until something fails.
func (f *Follower) follow(ctx context.Context) error {
	if f.needsNewest() {
		if err := f.jumpToNewest(ctx); err != nil {
			return err
		}
	}
	st := f.State()
	reader := &followerConsumer{f: f}
	err := f.cfg.Source.Follow(ctx, Position{st.Version, st.Sequence}, reader)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gap = f.gap || errors.Is(err, ErrGap)
	if err == nil {
		err = errors.New("the source ended")
	}
	if !reader.refused.Load() {
		err = sourceError{err}
	}
	return err
}

// needsNewest reports whether there is nothing to go on from, or a gap, or the last heartbeat speaks of another epoch or of a version far ahead.
func (f *Follower) needsNewest() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.State()
	return st.Version == 0 || f.gap || f.beat.Epoch > st.Epoch || f.beat.Version > st.Version+farBehind
}

// following passes what a source reads to the follower.
type followerConsumer struct {
	f            *Follower
	gotHeartbeat bool        // a heartbeat, since the source was reached; guarded by f.mu
	refused      atomic.Bool // something that the source read: the follower ended the reading, and not the source. Records and heartbeats come from two goroutines
}

// Record takes in a record.
func (w *followerConsumer) Record(e SequencedRecord) error {
	err := w.record(e)
	if err != nil {
		w.refused.Store(true)
	}
	return err
}

func (w *followerConsumer) record(e SequencedRecord) error {
	f := w.f
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.State()
	if w := f.pending; w != nil && len(w.records) > farBehind { // what it holds must come first
		f.gap = true // or a newer one
		return fmt.Errorf("the snapshot of version %d does not come, and records wait for it", w.Version)
	}
	c, err := st.check(e.Data, f.cfg.Trust)
	if err == nil {
		err = f.beat.checkKeyAfter(c.Version, c.Time, c.key)
	}
	if err != nil {
		f.stats.Refused++
		f.gap = errors.Is(err, ErrGap)
		return err
	}
	if c.Epoch != st.Epoch {
		f.gap = true // the newest snapshot leads over it
		return errNewEpoch
	}
	n, effect, err := f.next(st, c, e)
	if err != nil {
		f.stats.Refused++
		return err
	}
	if err := f.persist(e, n.Version); err != nil {
		return err
	}
	return f.putInForce(n, *effect)
}

// keep writes a record to disk. A disk that takes none does not keep a block from the public: it is written later.
func (f *Follower) persist(e SequencedRecord, version uint64) error {
	err := f.disk.append(e)
	switch {
	case err == nil:
		f.unwritten = ""
		return nil
	case errors.Is(err, errBufferFull):
		return err
	case f.unwritten == "":
		f.log.Error("changes are in force but cannot be written to disk, and would be missing after a restart without control; it is tried again", "version", version, "err", err)
	}
	f.unwritten = err.Error()
	return nil
}

// putInForce exchanges the set's view and tells who waits.
func (f *Follower) putInForce(n *State, effect Effect) error {
	before := f.set.View()
	after, err := f.localView(n)
	if err != nil {
		return err
	}
	if after.Stamp() <= before.Stamp() { // the same version, mapped anew
		after = after.Revise(before)
	}
	if err := f.set.Replace(after); err != nil {
		return err
	}
	if f.cfg.Changed != nil {
		f.cfg.Changed(before, after, effect) // before anybody builds upon the state
	}
	f.state.Store(n)
	f.setMark(mark{n.Epoch, n.Version})
	f.problem, f.outage = "", outage{}
	if effect.Record.Version > 0 {
		f.stats.Records++
		f.took = max(0, time.Since(time.UnixMilli(n.Time)))
	}
	close(f.applied)
	f.applied = make(chan struct{})
	return nil
}

// setMark notes in the folder which version is in force, unless a later one was.
func (f *Follower) setMark(m mark) {
	if f.disk == nil || m.Version == 0 || f.lostMark.after(m) {
		return
	}
	f.lostMark = mark{}
	f.disk.writeMark(m)
}

// here is the state's view with what is of this machine alone over it.
func (f *Follower) localView(st *State) (*blocklist.View, error) {
	if s := f.salvaged; s != nil && s.Epoch == st.Epoch && s.Version > st.Version {
		st = s
	} else {
		f.salvaged = nil
	}
	if f.cfg.Refresh == nil {
		return st.view, nil
	}
	refreshed, err := f.cfg.Refresh(st.view)
	if err != nil {
		return nil, err
	}
	return refreshed.Suspend(st.Suspended), nil
}

// Refresh puts what is of this machine alone over the view again.
func (f *Follower) Refresh() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.putInForce(f.State(), Effect{All: true, Incomplete: f.isIncomplete()})
}

// Wait waits until a version is in force here, whole.
func (f *Follower) Wait(ctx context.Context, version uint64) error {
	return f.waitUntil(ctx, func() bool { return f.inForce() >= version })
}

// reach waits until a record came, be what it announces still on its way.
func (f *Follower) waitForRecord(ctx context.Context, version uint64) error {
	return f.waitUntil(ctx, func() bool { return f.State().Version >= version })
}

// until waits until something that changes with what is in force is so.
func (f *Follower) waitUntil(ctx context.Context, condition func() bool) error {
	for {
		f.mu.Lock()
		done, applied := condition(), f.applied
		f.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// holds waits a while for a record whose appending ended nobody knows how, and reports whether it came to be.
func (f *Follower) confirmAppended(ctx context.Context, version uint64, hash string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if f.waitForRecord(ctx, version) != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.State().Version == version && f.State().Hash == hash
}

func (f *Follower) setProblem(problem string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setProblemLocked(problem)
}

// note logs a trouble once.
func (f *Follower) setProblemLocked(problem string) {
	f.outage = outage{}
	if f.problem != problem {
		f.problem = problem
		f.log.Warn("control's changes do not arrive; what is in force stays", "why", problem)
	}
}

func (f *Follower) countRefused() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats.Refused++
}
