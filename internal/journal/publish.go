package journal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal/stream"
)

// Publisher is control's hand on the journal: it numbers records, binds each to the one before, and signs them. Its methods are safe from
// any goroutine.
type Publisher struct {
	log      *stream.Stream
	follower *Follower // of the same journal, as a Control node
	key      *SecretKey
	trust    []PublicKey
	dir      string
	logger   *slog.Logger

	mu        sync.Mutex // one record at a time
	clock     clock
	snapshots sync.Mutex // one snapshot at a time

	since struct {
		sync.Mutex
		keep     bool
		applied  []applied // what came into force while a snapshot is written
		snapshot uint64    // version of the last snapshot that brought something of its own
	}
	sets struct { // the last change sets in force, by ID: what became of them
		sync.Mutex
		by    map[string]Receipt
		order []string
	}
}

// recentSets is how many change sets are known by their IDs, so that one is not published twice where its first appending ended nobody
// knew how.
const recentSets = 1000

// applied is what a record did.
type applied struct {
	version uint64
	changes []blocklist.Change
}

// HeartbeatEvery is how often control says which version is the newest, at least.
const HeartbeatEvery = 5 * time.Second

const (
	publishTries = 5
	// snapshotAt is how many entries of an overlay make a new snapshot worthwhile.
	snapshotAt = 50_000
	// snapshotRecords is after how many records one is due in any case.
	snapshotRecords = 5_000
)

// NewPublisher returns the publisher of what follower follows. dir is for files while they are made.
func NewPublisher(log *stream.Stream, follower *Follower, key *SecretKey, dir string) *Publisher {
	return &Publisher{log: log, follower: follower, key: key, trust: follower.cfg.Trust, dir: dir, logger: follower.log}
}

// clock is control's: it never goes back behind what was signed, though the machine's does. Edges take nothing that is older than what they have.
type clock struct {
	wall  func() time.Time // nil: the machine's
	floor int64            // Unix milliseconds, at since
	since time.Time
}

// now is not before the last record and after the last heartbeat, in Unix milliseconds; from them it goes on while the machine's clock is behind.
func (c *clock) now(record, beat int64) int64 {
	wall := time.Now
	if c.wall != nil {
		wall = c.wall
	}
	now := max(wall().UnixMilli(), record, beat+1)
	if !c.since.IsZero() {
		now = max(now, c.floor+time.Since(c.since).Milliseconds())
	}
	c.floor, c.since = now, time.Now()
	return now
}

// Draft is what is to be published.
type Draft struct {
	Kind     RecordKind
	By       string
	Approved []string
	Refused  []int
	Set      string
	Reason   string
	Body     []byte
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
	id := ""
	if d.Kind == RecordChanges {
		if set, err := firstLine(d.Body); err == nil {
			id = set.ID
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.append(ctx, id, func(*State) (*Record, []byte, error) {
		return &Record{Kind: d.Kind, By: d.By, Approved: d.Approved, Refused: d.Refused, Set: d.Set, Reason: d.Reason}, d.Body, nil
	})
}

// append numbers, signs and keeps a record that build makes for the newest state. Where it is that of a change set, id is the set's: one that is in
// force already is not published again.
func (p *Publisher) append(ctx context.Context, id string, build func(*State) (*Record, []byte, error)) (Receipt, error) {
	for range publishTries {
		if r, ok := p.known(id); ok {
			return r, nil
		}
		st := p.follower.State()
		r, body, err := build(st)
		if err != nil {
			return Receipt{}, err
		}
		if r.Epoch == 0 {
			r.Epoch, r.Version, r.Previous = st.Epoch, st.Version+1, st.Hash
		}
		r.Time = p.clock.now(st.Time, p.follower.lastBeat())
		data, err := r.seal(p.key, body)
		if err == nil {
			err = st.admits(data, p.trust, p.follower.cfg.Node)
		}
		if err != nil {
			return Receipt{}, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		sequence, err := p.log.Append(ctx, st.Sequence, string(r.Kind), data)
		switch {
		case err == nil, errors.Is(err, stream.ErrUnknown) && p.follower.holds(ctx, r.Version, hashOf(data)):
			if err := p.follower.reach(ctx, r.Version); err != nil {
				return Receipt{}, err
			}
			p.beat(ctx)
			return Receipt{r.Version, r.Time, sequence}, nil
		case errors.Is(err, stream.ErrBehind): // another control's came first
			waiting, cancel := context.WithTimeout(ctx, 5*time.Second)
			err = p.follower.reach(waiting, st.Version+1)
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

// maxScopedOctets bounds what every announcement of a snapshot holds of what is scoped.
const maxScopedOctets = 1 << 20

// admits reports why a record could not follow, whoever gets it.
func (st *State) admits(data []byte, trust []PublicKey, node Node) error {
	c, err := st.check(data, trust)
	if err != nil || c.Kind != RecordChanges {
		return err
	}
	all, _ := scoped(current(st.Scoped, c.Time/1000), c.set, c.changes, node)
	encoded, err := json.Marshal(all)
	if err == nil && (len(all) > maxScoped || len(encoded) > maxScopedOctets) {
		err = fmt.Errorf("%w: more than %d changes, or %d octets of them, would be in force on some nodes only: advance or withdraw others first",
			ErrChanges, maxScoped, maxScopedOctets)
	}
	return err
}

// beat signs a heartbeat for the newest state.
func (p *Publisher) beat(ctx context.Context) {
	st := p.follower.State()
	if st.Version == 0 {
		return
	}
	data, err := Heartbeat{st.Epoch, st.Version, st.Hash, p.clock.now(st.Time, p.follower.lastBeat())}.seal(p.key)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, HeartbeatEvery)
		err = p.log.Beat(ctx, data)
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
	swept := time.Now()
	for {
		p.mu.Lock()
		p.beat(ctx)
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
		if time.Since(swept) > objectRest {
			p.sweep(ctx)
			swept = time.Now()
		}
		if p.follower.fetches() {
			continue // the last one is not in force here yet
		}
		if st.view.Stats().Overlay > snapshotAt || st.Version > last+snapshotRecords {
			r, err := p.Compact(ctx)
			if err != nil {
				p.logger.Error("a snapshot could not be published; the journal goes on without", "err", err)
			}
			last = max(r.Version, st.Version)
		}
	}
}

// objectRest is how long a snapshot stays after the next: nodes may be fetching it.
const objectRest = time.Hour

// sweep removes the objects of snapshots that nothing leads to any more. Change sets stay: they are the journal's.
func (p *Publisher) sweep(ctx context.Context) {
	newest, err := p.follower.cfg.Source.Newest(ctx)
	if err != nil {
		return
	}
	r, _, err := ReadRecord(newest.Data)
	if err != nil || r.Snapshot == nil {
		return
	}
	wanted := r.Snapshot.Names()
	objects, err := p.log.Objects(ctx)
	for _, o := range objects {
		old := time.Since(o.ModTime) > objectRest && !slices.Contains(wanted, o.Name)
		if old && (strings.HasSuffix(o.Name, snapshotSuffix) || strings.HasSuffix(o.Name, overlaySuffix)) {
			err = errors.Join(err, p.log.DeleteObject(ctx, o.Name))
		}
	}
	if err != nil && ctx.Err() == nil {
		p.logger.Warn("objects of old snapshots stay", "err", err)
	}
}

// Compact publishes the state as it is as a snapshot, which spares new edges the replay.
func (p *Publisher) Compact(ctx context.Context) (Receipt, error) {
	return p.PublishSnapshot(ctx, Load{Same: true, Compile: func(w io.Writer, st *State) error {
		return st.view.Compact(w, st.info())
	}})
}

// Load is a snapshot to be published.
type Load struct {
	Same     bool // it is the state as it is
	By       string
	Approved []string
	Changes  *LargeSet
	// Compile writes the state as it is to be. It may take its time: others publish meanwhile, and what they do is put over it.
	Compile func(w io.Writer, st *State) error
}

// PublishSnapshot writes a snapshot, keeps it as an object and announces it. When it returns nil, it is kept for good; Follower.Wait tells when it is in
// force here.
func (p *Publisher) PublishSnapshot(ctx context.Context, l Load) (Receipt, error) {
	p.snapshots.Lock()
	defer p.snapshots.Unlock()
	for range publishTries {
		if r, err := p.snapshot(ctx, l); !errors.Is(err, errAnew) {
			return r, err
		}
	}
	return Receipt{}, errors.New("others publish snapshots all the time: try again")
}

// errAnew says that another control's snapshot came first: what was written does not hold what that brought.
var errAnew = errors.New("another snapshot came first")

func (p *Publisher) snapshot(ctx context.Context, l Load) (Receipt, error) {
	st, err := p.gather(ctx)
	defer p.gatherNoMore()
	if err != nil {
		return Receipt{}, err
	}
	f, err := os.CreateTemp(p.dir, ".snapshot-*.tmp")
	if err != nil {
		return Receipt{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	object, err := writeHashed(f, func(w io.Writer) error { return l.Compile(w, st) })
	if err != nil {
		return Receipt{}, fmt.Errorf("write a snapshot: %w", err)
	}
	if err := p.put(ctx, f, object.SHA256+snapshotSuffix); err != nil {
		return Receipt{}, err
	}
	view, err := openView(f.Name())
	if err != nil {
		return Receipt{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.announce(ctx, l, st.Version, object, view)
}

// announce publishes the record of a snapshot of what was in force at a version, and what came into force since over it.
func (p *Publisher) announce(ctx context.Context, l Load, from uint64, object Object, view *blocklist.View) (Receipt, error) {
	id := ""
	if l.Changes != nil {
		id = l.Changes.Set.ID
	}
	return p.append(ctx, id, func(st *State) (*Record, []byte, error) { // anew if another control's record came first
		s := &Snapshot{
			Object: object, Same: l.Same, Changes: l.Changes, Count: view.Stats().Names, Suspended: st.Suspended, Scoped: st.Scoped,
		}
		since, anew := p.gathered(from)
		if anew {
			return nil, nil, errAnew
		}
		if len(since) > 0 {
			over, err := view.With(blocklist.Info{Version: st.Version, Created: time.Now()}, since)
			if err != nil {
				return nil, nil, err
			}
			if s.Overlay, err = p.putOverlay(ctx, over); err != nil {
				return nil, nil, err
			}
			s.Count = over.Stats().Names
		}
		return &Record{Kind: RecordSnapshot, By: l.By, Approved: l.Approved, Snapshot: s}, st.Ring(), nil
	})
}

func (p *Publisher) putOverlay(ctx context.Context, view *blocklist.View) (*Object, error) {
	f, err := os.CreateTemp(p.dir, ".overlay-*.tmp")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	o, err := writeHashed(f, func(w io.Writer) error {
		_, err := w.Write(view.Overlay())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &o, p.put(ctx, f, o.SHA256+overlaySuffix)
}

// Begin publishes the first record of an epoch: a snapshot that nothing comes before, under a ring.
func (p *Publisher) Begin(ctx context.Context, epoch, version uint64, ring []byte, compile func(w io.Writer) error) (Receipt, error) {
	p.snapshots.Lock()
	defer p.snapshots.Unlock()
	f, err := os.CreateTemp(p.dir, ".snapshot-*.tmp")
	if err != nil {
		return Receipt{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	object, err := writeHashed(f, compile)
	if err == nil {
		err = p.put(ctx, f, object.SHA256+snapshotSuffix)
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("write the first snapshot: %w", err)
	}
	view, err := openView(f.Name())
	if err != nil {
		return Receipt{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.append(ctx, "", func(st *State) (*Record, []byte, error) {
		s := &Snapshot{Object: object, Count: view.Stats().Names, Suspended: st.Suspended, Scoped: st.Scoped}
		return &Record{Epoch: epoch, Version: version, Kind: RecordSnapshot, Previous: st.Hash, Snapshot: s}, ring, nil
	})
}

// gather begins to keep what comes into force, and returns the state it begins from: one that is in force whole, or what is written from it
// would lack what the last snapshot brings.
func (p *Publisher) gather(ctx context.Context) (*State, error) {
	p.since.Lock()
	p.since.keep = true
	p.since.Unlock()
	for {
		whole := p.follower.InForce()
		st := p.follower.State()
		if st.Version <= whole {
			return st, nil
		}
		if err := p.follower.Wait(ctx, st.Version); err != nil {
			return nil, fmt.Errorf("the last snapshot is on its way still: %w", err)
		}
	}
}

// gathered is what came after a version, and whether that is not all.
func (p *Publisher) gathered(after uint64) (changes []blocklist.Change, anew bool) {
	p.since.Lock()
	defer p.since.Unlock()
	for _, a := range p.since.applied {
		if a.version > after {
			changes = append(changes, a.changes...)
		}
	}
	return changes, p.since.snapshot > after
}

func (p *Publisher) gatherNoMore() {
	p.since.Lock()
	defer p.since.Unlock()
	p.since.keep, p.since.applied = false, nil
}

// Applied is to be told of every effect, by whoever made the follower.
func (p *Publisher) Applied(e Effect) {
	p.note(e)
	p.since.Lock()
	defer p.since.Unlock()
	if s := e.Record.Snapshot; s != nil && (!s.Same || e.Jumped) {
		p.since.snapshot = max(p.since.snapshot, e.Record.Version)
	}
	if p.since.keep && len(e.Applied) > 0 {
		p.since.applied = append(p.since.applied, applied{e.Record.Version, e.Applied})
	}
}

// note remembers which change set came into force.
func (p *Publisher) note(e Effect) {
	set := e.Set
	if s := e.Record.Snapshot; s != nil && s.Changes != nil {
		set = &s.Changes.Set
	}
	if set == nil {
		return
	}
	p.sets.Lock()
	defer p.sets.Unlock()
	if p.sets.by == nil {
		p.sets.by = map[string]Receipt{}
	}
	if _, ok := p.sets.by[set.ID]; !ok {
		p.sets.order = append(p.sets.order, set.ID)
	}
	p.sets.by[set.ID] = Receipt{Version: e.Record.Version, Time: e.Record.Time}
	if len(p.sets.order) > recentSets {
		delete(p.sets.by, p.sets.order[0])
		p.sets.order = p.sets.order[1:]
	}
}

func (p *Publisher) known(id string) (Receipt, bool) {
	p.sets.Lock()
	defer p.sets.Unlock()
	r, ok := p.sets.by[id]
	return r, ok
}

func (p *Publisher) put(ctx context.Context, f *os.File, name string) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := p.log.PutObject(ctx, name, f); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

// writeHashed writes a file and says what object it is.
func writeHashed(f *os.File, write func(io.Writer) error) (Object, error) {
	h := sha256.New()
	if err := write(io.MultiWriter(f, h)); err != nil {
		return Object{}, err
	}
	size, err := f.Seek(0, io.SeekCurrent)
	return Object{hex.EncodeToString(h.Sum(nil)), size}, err
}

// PutSet keeps what an author signed of a large change set, and returns the object it is.
func (p *Publisher) PutSet(ctx context.Context, f *os.File) (Object, error) {
	h := sha256.New()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Object{}, err
	}
	n, err := io.Copy(h, f)
	if err != nil {
		return Object{}, err
	}
	o := Object{hex.EncodeToString(h.Sum(nil)), n}
	return o, p.put(ctx, f, o.SHA256+SetSuffix)
}

// Seal signs something with control's key.
func (p *Publisher) Seal(kind Kind, payload []byte) []byte { return Seal(kind, payload, p.key) }

// SetSuffix ends the names of objects that hold large change sets.
const SetSuffix = ".set"

// reach waits until a record came, be what it announces still on its way.
func (f *Follower) reach(ctx context.Context, version uint64) error {
	for {
		f.mu.Lock()
		done, applied := f.State().Version >= version, f.applied
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
func (f *Follower) holds(ctx context.Context, version uint64, hash string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if f.reach(ctx, version) != nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.State().Version == version && f.State().Hash == hash
}
