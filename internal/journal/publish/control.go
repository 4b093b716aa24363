package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Config configures a Control.
type Config struct {
	Stream   *stream.Stream
	Key      *signing.SecretKey                                    // must have the role control in the ring
	Ring     []byte                                                // sealed key ring to put in force; ignored if the journal's ring is newer
	Trust    []signing.PublicKey                                   // root keys
	Dir      string                                                // folder for the state in force and temporary files
	Above    func() uint64                                         // returns a version that the first version of the journal or of a new epoch must exceed; called when needed; may be nil
	NewEpoch bool                                                  // begin a new epoch with a version above Above, after the journal was restored from an older backup
	Recover  string                                                // folder of a follower: records that it holds and the journal lacks are appended first; "" for none
	First    func(w io.Writer, info blocklist.Info) error          // compiles the first snapshot of an empty journal; nil: an empty snapshot
	Changed  func(before, after *blocklist.View, e journal.Effect) // called after each record was put in force, never concurrently; may be nil
	Log      *slog.Logger

	// Refuse returns an error that wraps ErrOlder while no record may be appended, or nil. It is called before each record except the first of an epoch and
	// recovered records. It must not block, and may be nil.
	Refuse func() error

	ScrubInterval time.Duration // time between two checks of the journal for lost records; 0: scrubEvery
}

// Control publishes a journal. It has a follower that holds the state in force, and a publisher. The caller opens Stream, and closes it after Run has returned.
type Control struct {
	*publisher
	Stream     *stream.Stream
	state      *journal.Follower
	cfg        Config
	endVersion uint64        // the journal's last version when Start was called
	lastEpoch  uint64        // the journal's epoch when Start was called
	gap        *gap          // lost records, found by Start, that were not in force here; nil for none
	ready      chan struct{} // closed when records may be published

	recovered []Recovered // records that this start recovered; constant after ready
}

// New checks the keys, and returns a Control. Call Start, and then Run.
func New(cfg Config) (*Control, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ring, err := signing.ParseRing(cfg.Ring, cfg.Trust)
	if err != nil {
		return nil, err
	}
	if k, ok := ring.ByID[cfg.Key.ID()]; !ok || !k.HasRole(signing.RoleControl, time.Now().Unix()) {
		return nil, fmt.Errorf("key %s does not have the role %s at this time in key ring %d: give it the role in a new ring (rempart keys)", cfg.Key.ID(), signing.RoleControl, ring.Serial)
	}
	c, source := &Control{Stream: cfg.Stream, cfg: cfg, ready: make(chan struct{})}, newOwnSource(cfg.Stream)
	c.state, err = journal.NewFollower(journal.FollowerConfig{
		Dir: cfg.Dir, Source: source, Trust: cfg.Trust, Node: journal.Node{ID: "control", Control: true}, Log: cfg.Log,
		Changed: func(before, after *blocklist.View, e journal.Effect) {
			c.noteEffect(e)
			if cfg.Changed != nil {
				cfg.Changed(before, after, e)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	c.publisher = newPublisher(&cfg, source, c.state)
	return c, nil
}

// ErrOlder is wrapped by the error for a journal that ends before a version in force here or on a node, or that holds another record of such a version.
var ErrOlder = errors.New("the journal is older than the version in force: was it restored from an older backup?")

// Start puts the persisted state in force and determines the end of the journal.
func (c *Control) Start(ctx context.Context) error {
	if err := c.state.Start(); err != nil {
		return err
	}
	last, err := c.Stream.Last(ctx, "")
	if err != nil && !errors.Is(err, stream.ErrNone) {
		return err
	}
	st := c.state.State()
	var end journal.Record
	if err == nil {
		r, _, err := journal.ReadRecord(last.Data)
		if err != nil {
			return fmt.Errorf("the journal's last record: %w", err)
		}
		end = *r
	}
	lostEnd, err := c.endIsLost(ctx, st, end, last.Sequence)
	if err != nil {
		return err
	}
	if lostEnd {
		end.Version = st.Version
	}
	if older := end.Version < st.Version; older && !c.cfg.NewEpoch {
		return fmt.Errorf("%w It ends at version %d, and version %d was in force here; move %s aside and start once with --recover and its new name, or begin a new epoch (--new-epoch, with the highest version of any node)",
			ErrOlder, end.Version, st.Version, c.cfg.Dir)
	}
	c.endVersion = end.Version
	return c.checkReachable(ctx)
}

// Run publishes and follows the journal until ctx ends. It calls ready when records may be published. Run must be called once only.
func (c *Control) Run(ctx context.Context, ready func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.state.Run(ctx) })
	g.Go(func() error {
		if err := c.publishFirst(ctx); err != nil {
			return err
		}
		c.examineAndRepair(ctx, nil)
		close(c.ready)
		g.Go(func() error { return c.scrub(ctx) })
		ready()
		return c.publisher.Run(ctx)
	})
	return g.Wait()
}

// Ready returns a channel that is closed once State is the state at the end of the journal, under the newest key ring. Before that, State is the state of an
// earlier run, whose key ring may lack a root key or an author.
func (c *Control) Ready() <-chan struct{} { return c.ready }

// publishFirst publishes the records that must precede all others: the first snapshot of a journal or of an epoch, and a newer key ring.
func (c *Control) publishFirst(ctx context.Context) error {
	if err := c.state.WaitForRecord(ctx, c.reachableVersion()); err != nil {
		return err
	}
	joined := false
	if c.cfg.Recover != "" && c.endVersion > 0 {
		epoch := c.state.State().Epoch
		if err := c.recover(ctx); err != nil {
			return err
		}
		joined = c.state.State().Epoch > epoch
	}
	st, err := c.state.State(), error(nil)
	switch {
	case c.cfg.NewEpoch && !joined:
		err = c.beginEpoch(ctx, st)
	case c.endVersion == 0:
		version := max(st.Version, c.highestKnown()) + 1
		info := blocklist.Info{Version: version, Created: time.Now()}
		_, err = c.publishEpoch(ctx, st.Epoch+1, version, c.cfg.Ring, st, func(w io.Writer) error {
			if c.cfg.First == nil {
				return blocklist.Compile(w, info)
			}
			return c.cfg.First(w, info)
		})
	default:
		_, err = c.SetRing(ctx, c.cfg.Ring)
	}
	return err
}

// beginEpoch begins an epoch with a state, and publishes again the records that the journal holds behind lost ones.
func (c *Control) beginEpoch(ctx context.Context, st *journal.State) error {
	behind, err := c.recordsBehindGap(ctx, st.Version)
	if err != nil {
		return err
	}
	version := max(st.Version, c.endVersion, c.highestKnown()) + 1
	_, err = c.publishEpoch(ctx, max(st.Epoch, c.lastEpoch)+1, version, c.cfg.Ring, st, func(w io.Writer) error { return compact(w, st) })
	if err == nil && len(behind) > 0 {
		err = c.state.Wait(ctx, version)
	}
	if err != nil {
		return err
	}
	for _, d := range behind {
		if one := c.publishOwnAgain(ctx, d); one != nil {
			c.recovered = append(c.recovered, *one)
		}
	}
	return nil
}

func (c *Control) highestKnown() uint64 {
	if c.cfg.Above == nil {
		return 0
	}
	return c.cfg.Above()
}

// SetRing publishes a key ring, unless this ring or a newer one is in force.
func (c *Control) SetRing(ctx context.Context, sealed []byte) (Receipt, error) {
	st := c.state.State()
	ring, err := signing.ParseRing(sealed, slices.Concat(c.cfg.Trust, st.Roots()))
	if err != nil || ring.Serial <= st.RingSerial() {
		return Receipt{}, err
	}
	return c.Publish(ctx, Draft{Kind: journal.RecordRing, By: "root", Body: sealed})
}

// State returns the state that is in force at control.
func (c *Control) State() *journal.State { return c.state.State() }

// Follower returns control's own follower of the journal.
func (c *Control) Follower() *journal.Follower { return c.state }

// Beat returns a heartbeat like Follower.Beat.
func (c *Control) Beat(ctx context.Context, after uint64) []byte { return c.state.Beat(ctx, after) }

// Record returns the record of a version of the current epoch. The error wraps stream.ErrNone if there is none, and stream.ErrLost if the record is lost.
func (c *Control) Record(ctx context.Context, version uint64) ([]byte, error) {
	st := c.state.State()
	if version > st.Version || st.Version-version >= st.Sequence {
		return nil, stream.ErrNone
	}
	r, err := c.Stream.At(ctx, st.Sequence-(st.Version-version)) // within an epoch version and sequence both rise by one
	if errors.Is(err, stream.ErrNone) {
		return nil, fmt.Errorf("record of version %d: %w", version, stream.ErrLost)
	}
	if err != nil {
		return nil, err
	}
	if head, _, err := journal.ReadRecord(r.Data); err != nil || head.Version != version {
		return nil, stream.ErrNone
	}
	return r.Data, nil
}

// HashAt returns the hash of the record of a version of the current epoch. If that record is lost, the next record names its hash. The error wraps
// stream.ErrNone if the journal has no such record, and stream.ErrLost if the next record is lost too.
func (c *Control) HashAt(ctx context.Context, version uint64) (string, error) {
	if st := c.state.State(); st.Version == version {
		return st.Hash, nil
	}
	data, err := c.Record(ctx, version)
	if errors.Is(err, stream.ErrLost) {
		return c.hashBefore(ctx, version+1)
	}
	if err != nil {
		return "", err
	}
	return journal.HashOf(data), nil
}

// hashBefore returns the previous record's hash that the record of a version names.
func (c *Control) hashBefore(ctx context.Context, version uint64) (string, error) {
	data, err := c.Record(ctx, version)
	if err != nil {
		return "", err
	}
	r, _, err := journal.ReadRecord(data)
	if err != nil {
		return "", err
	}
	return r.Previous, nil
}

// Newest returns the record of the newest snapshot.
func (c *Control) Newest(ctx context.Context) (journal.SequencedRecord, error) {
	return c.source.Newest(ctx)
}

// Object opens the object of a name. The caller closes it.
func (c *Control) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	return c.Stream.Object(ctx, name)
}

// Each calls each with every record that the journal still holds, oldest first, up to the journal's end at the time of the call.
func (c *Control) Each(ctx context.Context, each func(r *journal.Record, body []byte) error) error {
	end, err := c.Stream.End(ctx)
	if err != nil {
		return err
	}
	return c.Stream.Walk(ctx, 1, end, func(r stream.Record) error {
		head, body, err := journal.ReadRecord(r.Data)
		if err != nil {
			return err
		}
		return each(head, body)
	})
}
