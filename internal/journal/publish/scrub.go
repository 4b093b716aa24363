package publish

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Damage describes what the journal lost of the records and objects that a follower may still need: those from the newest snapshot on.
type Damage struct {
	Sequences []uint64 // of the first lost records, at most maxLost
	Records   int      // number of lost records
	last      uint64   // sequence of the last lost record
	Objects   []string // objects of the newest snapshot that are lost or altered
	Snapshot  bool     // the journal holds no snapshot
}

// maxLost bounds the sequences that a Damage lists.
const maxLost = 10

func (d *Damage) addLost(sequence uint64) {
	d.last = sequence
	if d.Records++; len(d.Sequences) < maxLost {
		d.Sequences = append(d.Sequences, sequence)
	}
}

func (d *Damage) isNone() bool { return d.Records == 0 && len(d.Objects) == 0 && !d.Snapshot }

func (d *Damage) String() string {
	switch {
	case d.Snapshot:
		return "the journal lost all its snapshots"
	case d.Records == 0:
		return fmt.Sprintf("the journal lost or altered objects of its newest snapshot: %v", d.Objects)
	}
	return fmt.Sprintf("the journal lost %d records, the first at sequence %d", d.Records, d.Sequences[0])
}

// ErrDamaged is wrapped by the error that refuses to publish while records or objects are lost that followers may need.
var ErrDamaged = errors.New("the journal is damaged")

const (
	scrubEvery = time.Hour
	scrubRetry = 10 * time.Second // after damage that was not repaired; doubled up to scrubEvery
	// scrubRate bounds the rate at which a scrub reads in the background, in bytes per second.
	scrubRate = 4 << 20
	// confirmations is how often damage must be found in a row: a cluster's server that is starting may lack records for a moment.
	confirmations = 3
	confirmAfter  = 300 * time.Millisecond
)

// pacer limits the rate of reading to scrubRate. A nil pacer does not limit it.
type pacer struct{ ctx context.Context }

func (p *pacer) wait(n int) error {
	if p == nil {
		return nil
	}
	select {
	case <-time.After(time.Duration(n) * time.Second / scrubRate):
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	}
}

// Write waits as long as len(b) bytes take at scrubRate. It discards them.
func (p *pacer) Write(b []byte) (int, error) { return len(b), p.wait(len(b)) }

// examine reads the chain from the newest snapshot to the journal's end, and that snapshot's objects. An error means that they could not be examined.
func (c *Control) examine(ctx context.Context, pace *pacer) (*Damage, error) {
	d := &Damage{}
	end, err := c.Stream.End(ctx)
	if err != nil || end == 0 {
		return d, err
	}
	newest, err := c.Stream.Last(ctx, string(journal.RecordSnapshot))
	if errors.Is(err, stream.ErrNone) {
		d.Snapshot = true
		return d, nil
	}
	if err != nil {
		return nil, err
	}
	if err := c.checkChain(ctx, newest.Sequence, end, d, pace); err != nil {
		return nil, err
	}
	r, _, err := journal.ReadRecord(newest.Data)
	if err != nil || r.Snapshot == nil {
		return d, nil // checkChain counted the record as lost
	}
	return d, c.checkObjects(ctx, r.Snapshot, d, pace)
}

// checkChain adds to d the records between two sequences that are lost, or not bound to the previous record.
func (c *Control) checkChain(ctx context.Context, from, to uint64, d *Damage, pace *pacer) error {
	next, before := from, (*journal.Record)(nil)
	hash := ""
	err := c.Stream.Walk(ctx, from, to, func(e stream.Record) error {
		for ; next < e.Sequence; next++ {
			d.addLost(next)
			before = nil
		}
		r, _, err := journal.ReadRecord(e.Data)
		switch {
		case err != nil:
			d.addLost(e.Sequence)
		case before != nil && before.Epoch == r.Epoch && r.Previous != hash:
			d.addLost(e.Sequence)
		}
		before, hash = r, journal.HashOf(e.Data)
		next = e.Sequence + 1
		return pace.wait(len(e.Data))
	})
	if err != nil {
		return err
	}
	for ; next <= to; next++ {
		d.addLost(next)
	}
	return nil
}

// checkObjects adds to d the objects of a snapshot that are lost or altered.
func (c *Control) checkObjects(ctx context.Context, s *journal.Snapshot, d *Damage, pace *pacer) error {
	want := map[string]journal.Object{s.Object.SHA256 + journal.SnapshotSuffix: s.Object}
	if s.Overlay != nil {
		want[s.Overlay.SHA256+journal.OverlaySuffix] = *s.Overlay
	}
	for _, name := range s.Names() {
		err := c.checkObject(ctx, name, want[name], pace)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, stream.ErrClosed) {
			return err
		}
		if err != nil {
			d.Objects = append(d.Objects, name)
		}
	}
	return nil
}

func (c *Control) checkObject(ctx context.Context, name string, want journal.Object, pace *pacer) error {
	o, err := c.Stream.Object(ctx, name)
	if err != nil {
		return err
	}
	defer o.Close()
	h := sha256.New()
	to := io.Writer(h)
	if pace != nil {
		to = io.MultiWriter(h, pace)
	}
	n, err := io.Copy(to, o)
	if err == nil && want.SHA256 != "" && (n != want.Size || hex.EncodeToString(h.Sum(nil)) != want.SHA256) {
		err = signing.ErrSeal
	}
	return err
}

// confirmDamage examines the journal, and returns damage only if it is found several times in a row; otherwise nil.
func (c *Control) confirmDamage(ctx context.Context, pace *pacer) (*Damage, error) {
	for i := 1; ; i++ {
		d, err := c.examine(ctx, pace)
		if err != nil || d.isNone() {
			return nil, err
		}
		if i == confirmations {
			return d, nil
		}
		select {
		case <-time.After(confirmAfter):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// scrub examines and repairs the journal at intervals until ctx ends.
func (c *Control) scrub(ctx context.Context) error {
	wait := c.scrubEvery()
	if c.damage.Load() != nil {
		wait = min(wait, scrubRetry)
	}
	for {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		c.examineAndRepair(ctx, &pacer{ctx})
		if wait = min(2*wait, c.scrubEvery()); c.damage.Load() == nil {
			wait = c.scrubEvery()
		}
	}
}

func (c *Control) scrubEvery() time.Duration {
	if c.cfg.ScrubInterval > 0 {
		return c.cfg.ScrubInterval
	}
	return scrubEvery
}

// examineAndRepair examines the journal once. It repairs damage by a new snapshot in the same epoch: followers that are behind it fetch it, and new ones start
// from it. Until then nothing is published.
func (c *Control) examineAndRepair(ctx context.Context, pace *pacer) {
	d, err := c.confirmDamage(ctx, pace)
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Warn("examining the journal for lost records failed; trying again", "err", err)
		}
		return
	}
	if d == nil {
		c.damage.Store(nil)
		return
	}
	logged := c.damage.Swap(d) != nil
	r, err := c.repair(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if !logged {
			c.cfg.Log.Error("the journal is damaged, and nothing is published until it is repaired", "damage", d, "err", err, "advice", damageAdvice)
		}
		return
	}
	c.repairs.Add(1)
	c.damage.Store(nil)
	c.cfg.Log.Error("the journal is damaged; a new snapshot replaces the lost records and objects, and every server can continue from it. Check the disk, and the history of that time", "damage", d, "version", r.Version)
}

// damageAdvice says what the operator can do about damage that control cannot repair.
const damageAdvice = "if this lasts, start control once with --recover and a copy of the folder edge of an up-to-date server, or, where there is none, with --new-epoch and the highest version of any server"

// repair publishes the state as a new snapshot, if that state is complete.
func (c *Control) repair(ctx context.Context) (Receipt, error) {
	st := c.state.State()
	end, err := c.Stream.End(ctx)
	switch {
	case err != nil:
		return Receipt{}, err
	case st.Sequence != end || c.state.InForce() < st.Version:
		return Receipt{}, fmt.Errorf("control has version %d in force, which is not the last published one", c.state.InForce())
	}
	if err := st.Verify(); err != nil {
		return Receipt{}, fmt.Errorf("control's own state is damaged too: %w", err)
	}
	return c.PublishSnapshot(ctx, SnapshotDraft{Same: true, repairs: true, Compile: compact})
}

// Damaged returns an error that wraps ErrDamaged while nothing may be published, or nil. It does not block.
func (p *publisher) Damaged() error {
	d := p.damage.Load()
	if d == nil {
		return nil
	}
	return fmt.Errorf("nothing is published: %s, and a server that needs them would not receive what is published now. Control repairs it by itself if its own state is whole; %s (%w)",
		d, damageAdvice, ErrDamaged)
}

// Repairs returns the number of repairs of the journal since the start.
func (c *Control) Repairs() uint64 { return c.repairs.Load() }
