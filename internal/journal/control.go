package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/internal/journal/stream"
)

// ControlConfig says what a control publishes to, and as whom.
type ControlConfig struct {
	Stream   *stream.Stream
	Key      *SecretKey // with the role control in the ring
	Ring     []byte     // sealed: the one to be in force; an older one than the journal's does not matter
	Trust    []PublicKey
	Dir      string                                       // for the state in force and files while they are made
	Above    func() uint64                                // the journal's first version, or a new epoch's, is higher; asked when it is due; may be nil
	NewEpoch bool                                         // begin a new epoch, above Above: after the journal was restored from an older backup
	Recover  string                                       // folder of a follower: what it holds of the journal and the journal lacks is appended first; "" for none
	First    func(w io.Writer, info blocklist.Info) error // compiles the first snapshot of an empty journal; nil: of nothing
	Changed  func(before, after *blocklist.View, e Effect)
	Log      *slog.Logger

	// Refuse returns why no record may be appended now, wrapping ErrOlder, or nil. It is called before each record except the first of an epoch
	// and recovered ones, and must not block. It may be nil.
	Refuse func() error

	ScrubInterval time.Duration // how often the journal is examined for lost records; 0 is scrubEvery
}

// Control is the one who publishes: its stream, a follower of it that holds the state, and a publisher.
type Control struct {
	*Publisher
	Stream     *stream.Stream
	state      *Follower
	cfg        ControlConfig
	endVersion uint64        // the journal's last version at the start
	lastEpoch  uint64        // the journal's epoch at the start
	gap        *gap          // records that were lost before they were in force here, found by the start; nil for none
	ready      chan struct{} // closed when others may publish

	recovered []Recovered // by this start; not changed after ready
}

// NewControl checks keys and makes the parts.
func NewControl(cfg ControlConfig) (*Control, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ring, err := openRing(cfg.Ring, cfg.Trust)
	if err != nil {
		return nil, err
	}
	if k, ok := ring.keys[cfg.Key.ID()]; !ok || !k.hasRole(RoleControl, time.Now().Unix()) {
		return nil, fmt.Errorf("key %s has not the role %s now in key ring %d: have a root sign a ring in which it has (rempart keys)", cfg.Key.ID(), RoleControl, ring.Serial)
	}
	c := &Control{Stream: cfg.Stream, cfg: cfg, ready: make(chan struct{})}
	c.state, err = NewFollower(FollowerConfig{
		Dir: cfg.Dir, Source: fromWriter(cfg.Stream, "control"), Trust: cfg.Trust, Node: Node{ID: "control", Control: true}, Log: cfg.Log,
		Changed: func(before, after *blocklist.View, e Effect) {
			c.NoteEffect(e)
			if cfg.Changed != nil {
				cfg.Changed(before, after, e)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	c.Publisher = NewPublisher(cfg.Stream, c.state, cfg.Key, cfg.Dir)
	c.Publisher.refuse, c.Publisher.damaged = cfg.Refuse, c.Damaged
	return c, nil
}

// ErrOlder says that the journal ends before what is in force.
var ErrOlder = errors.New("the journal is older than what is in force: was it restored from an older backup?")

// Start puts what is on disk in force and looks where the journal ends.
func (c *Control) Start(ctx context.Context) error {
	if err := c.state.Start(); err != nil {
		return err
	}
	last, err := c.Stream.Last(ctx, "")
	if err != nil && !errors.Is(err, stream.ErrNone) {
		return err
	}
	st := c.state.State()
	var end Record
	if err == nil {
		r, _, err := ReadRecord(last.Data)
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

// Run publishes and follows until ctx ends. ready is called when others may publish.
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
		return c.Publisher.Run(ctx)
	})
	return g.Wait()
}

// Begun returns a channel that is closed once the state is that of the whole journal and of the newest key ring. Before, State is that of an earlier run, whose
// key ring may not know a root key or an author yet. Run must be called once only.
func (c *Control) Ready() <-chan struct{} { return c.ready }

// begin publishes what must come first: a journal's first snapshot, a newer key ring.
func (c *Control) publishFirst(ctx context.Context) error {
	if err := c.state.waitForRecord(ctx, c.reachableVersion()); err != nil {
		return err
	}
	joined := false
	if c.cfg.Recover != "" && c.endVersion > 0 {
		epoch := c.state.State().Epoch
		if err := c.recover(ctx, c.cfg.Recover); err != nil {
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
		_, err = c.BeginEpoch(ctx, st.Epoch+1, version, c.cfg.Ring, st, func(w io.Writer) error {
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

// beginAnew begins an epoch with a state. What the journal holds behind lost records is published again in it.
func (c *Control) beginEpoch(ctx context.Context, st *State) error {
	behind, err := c.recordsBehindGap(ctx, st.Version)
	if err != nil {
		return err
	}
	version := max(st.Version, c.endVersion, c.highestKnown()) + 1
	_, err = c.BeginEpoch(ctx, max(st.Epoch, c.lastEpoch)+1, version, c.cfg.Ring, st, func(w io.Writer) error { return compact(w, st) })
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

// SetRing publishes a key ring, unless it or a newer one is in force.
func (c *Control) SetRing(ctx context.Context, sealed []byte) (Receipt, error) {
	st := c.state.State()
	ring, err := openRing(sealed, append(c.cfg.Trust, st.ring.roots...))
	if err != nil || ring.Serial <= st.ring.Serial {
		return Receipt{}, err
	}
	return c.Publish(ctx, Draft{Kind: RecordRing, By: "root", Body: sealed})
}

// State is where the journal stands, as far as it is in force here.
func (c *Control) State() *State { return c.state.State() }

// Follower follows the journal for control itself.
func (c *Control) Follower() *Follower { return c.state }

// Beat, Record, Newest and Object are the journal's, for those who read it from here.
func (c *Control) Beat(ctx context.Context, after uint64) []byte { return c.state.Beat(ctx, after) }

// Record is the record that made a version of this epoch.
func (c *Control) Record(ctx context.Context, version uint64) ([]byte, error) {
	st := c.state.State()
	if version > st.Version || st.Version-version >= st.Sequence {
		return nil, stream.ErrNone
	}
	r, err := c.Stream.At(ctx, st.Sequence-(st.Version-version)) // within an epoch both rise by one
	if errors.Is(err, stream.ErrNone) {
		return nil, fmt.Errorf("record of version %d: %w", version, stream.ErrLost)
	}
	if err != nil {
		return nil, err
	}
	if head, _, err := ReadRecord(r.Data); err != nil || head.Version != version {
		return nil, stream.ErrNone
	}
	return r.Data, nil
}

// HashAt returns the hash of the record that made a version of this epoch. Its error is stream.ErrNone where the journal has no such record, and ErrLost where it is lost
// and so is the next one, which names its hash.
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
	return HashOf(data), nil
}

// hashBefore returns the hash that the record of a version names as that of the record before it.
func (c *Control) hashBefore(ctx context.Context, version uint64) (string, error) {
	data, err := c.Record(ctx, version)
	if err != nil {
		return "", err
	}
	r, _, err := ReadRecord(data)
	if err != nil {
		return "", err
	}
	return r.Previous, nil
}

// Newest is the record of the newest snapshot.
func (c *Control) Newest(ctx context.Context) (SequencedRecord, error) {
	return c.state.cfg.Source.Newest(ctx)
}

// Object is one by its name.
func (c *Control) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	return c.Stream.Object(ctx, name)
}

// Each hands every record that the journal still holds to each, oldest first, until the journal's end as it is now.
func (c *Control) Each(ctx context.Context, each func(r *Record, body []byte) error) error {
	end, err := c.Stream.End(ctx)
	if err != nil {
		return err
	}
	return c.Stream.Walk(ctx, 1, end, func(r stream.Record) error {
		head, body, err := ReadRecord(r.Data)
		if err != nil {
			return err
		}
		return each(head, body)
	})
}
