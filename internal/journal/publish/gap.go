package publish

import (
	"context"
	"errors"
	"fmt"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// gap is a range of lost records that control cannot pass: they were not in force here, and no later snapshot replaces them.
type gap struct {
	first uint64 // version of the first lost record
	last  uint64 // version of the last lost record
	end   uint64 // the journal's last sequence

	noState bool // control has no complete state, and no snapshot to start from
}

// reachableVersion returns the last version that control can reach from its own state.
func (c *Control) reachableVersion() uint64 {
	switch {
	case c.gap == nil:
		return c.endVersion
	case c.gap.noState:
		return 0
	}
	return c.gap.first - 1
}

// endIsLost reports whether the journal lost its last records while they are in force here. Otherwise a journal that ends before the state in force was
// restored from an older backup. end is the last record that exists, at sequence at.
func (c *Control) endIsLost(ctx context.Context, st *journal.State, end journal.Record, at uint64) (bool, error) {
	last, err := c.Stream.End(ctx)
	if err != nil {
		return false, err
	}
	return end.Epoch == st.Epoch && last > at && st.Sequence == last, nil
}

// checkReachable checks whether control can reach the journal's end from its own state. If lost records prevent it, the settings Recover or NewEpoch are
// required.
func (c *Control) checkReachable(ctx context.Context) error {
	g, err := c.findGap(ctx)
	if err != nil || g == nil {
		return err
	}
	if c.cfg.Recover != "" {
		adopted, err := c.adopt(ctx, g)
		if err != nil {
			return err
		}
		if adopted {
			if g, err = c.findGap(ctx); err != nil || g == nil {
				return err
			}
		}
	}
	c.gap, c.lostEnd = g, g.end
	switch {
	case c.cfg.NewEpoch:
		return nil
	case c.cfg.Recover != "":
		return fmt.Errorf("%w: the record of version %d is lost, and the copy %s does not hold it: use the copy of a server that has version %d or later in force, or start with both --recover and --new-epoch",
			ErrDamaged, g.last, c.cfg.Recover, g.last)
	}
	return fmt.Errorf("%w: the record of version %d is lost, and version %d is in force here. Start control once with --recover and a copy of the folder edge of a server that has version %d or later in force; "+
		"where there is none, with --new-epoch and the highest version of any server: the changes of the lost records are then not in force",
		ErrDamaged, g.first, c.state.State().Version, g.last)
}

// findGap returns the lost records between the state in force here, or the newest snapshot, and the journal's end; nil for none.
func (c *Control) findGap(ctx context.Context) (*gap, error) {
	st := c.state.State()
	end, err := c.Stream.End(ctx)
	if err != nil || end == 0 {
		return nil, err
	}
	last, err := c.Stream.Last(ctx, "")
	if err != nil {
		if errors.Is(err, stream.ErrNone) {
			err = nil
		}
		return nil, err
	}
	r, _, err := journal.ReadRecord(last.Data)
	if err != nil {
		return nil, err
	}
	c.lastEpoch = r.Epoch
	version := func(sequence uint64) uint64 { return r.Version + sequence - last.Sequence } // within an epoch version and sequence both rise by one
	from := uint64(1)
	if st.Version > 0 && st.Epoch == r.Epoch && st.Version < r.Version {
		from = last.Sequence - (r.Version - st.Version) + 1
	} else if st.Version > 0 && st.Epoch == r.Epoch {
		from = last.Sequence + 1 + st.Version - r.Version
		if st.Version >= version(end) {
			return nil, nil
		}
	}
	newest, err := c.Stream.Last(ctx, string(journal.RecordSnapshot))
	if err == nil {
		from = max(from, newest.Sequence)
	} else if !errors.Is(err, stream.ErrNone) {
		return nil, err
	}
	d := &Damage{}
	if err := c.checkChain(ctx, from, end, d, nil); err != nil {
		return nil, err
	}
	if d.Records == 0 && (st.Version == 0 || st.Verify() != nil) {
		if err := c.checkNewestObjects(ctx, newest, d); err != nil {
			return nil, err
		}
	}
	if d.Records == 0 {
		return nil, nil
	}
	g := &gap{first: version(d.Sequences[0]), last: version(d.last), end: end, noState: len(d.Objects) > 0 || d.Sequences[0] == from && st.Version == 0}
	c.endVersion = max(c.endVersion, version(end))
	return g, nil
}

// checkNewestObjects adds the newest snapshot to the lost records if its objects are lost: without a complete state in force, control has no state to start
// from.
func (c *Control) checkNewestObjects(ctx context.Context, newest stream.Record, d *Damage) error {
	r, _, err := journal.ReadRecord(newest.Data)
	if err != nil || r.Snapshot == nil {
		return err
	}
	if err := c.checkObjects(ctx, r.Snapshot, d, nil); err != nil {
		return err
	}
	if len(d.Objects) > 0 {
		d.addLost(newest.Sequence)
	}
	return nil
}

// adopt replaces control's state by a copy's state, if the copy has all lost records in force and belongs to the journal's epoch.
func (c *Control) adopt(ctx context.Context, g *gap) (bool, error) {
	if g.noState {
		c.cfg.Log.Error("control's own state is damaged or missing, and so is the journal's newest snapshot", "version", g.first)
	}
	copied, err := c.readCopy()
	if err != nil {
		return false, err
	}
	if copied.Last.Epoch != c.lastEpoch || copied.Last.Version < g.last || copied.Incomplete {
		return false, nil
	}
	forked, err := c.copyContradictsJournal(ctx, copied, g)
	if err != nil || forked {
		return false, err
	}
	return true, c.state.Adopt(copied, func(version uint64) uint64 { return g.end - (c.endVersion - version) })
}

// copyContradictsJournal reports whether the journal holds another record of the copy's last version, or a next record that does not follow that version.
func (c *Control) copyContradictsJournal(ctx context.Context, copied *journal.FolderCopy, g *gap) (forked bool, err error) {
	at := g.end - (c.endVersion - copied.Last.Version)
	if copied.Last.Version > c.endVersion {
		return true, nil // the copy is ahead of the journal
	}
	err = c.Stream.Walk(ctx, at, min(at+1, g.end), func(e stream.Record) error {
		r, _, err := journal.ReadRecord(e.Data)
		if err != nil {
			return err
		}
		if e.Sequence == at {
			forked = forked || journal.HashOf(e.Data) != copied.Last.Hash
		} else {
			forked = forked || r.Previous != copied.Last.Hash
		}
		return nil
	})
	return forked, err
}

// recordsBehindGap returns the records after a version that the journal still holds behind lost ones, oldest first; nil if no records were lost.
func (c *Control) recordsBehindGap(ctx context.Context, version uint64) (all []ownRecord, err error) {
	if c.gap == nil {
		return nil, nil
	}
	err = c.Stream.Walk(ctx, 1, c.gap.end, func(e stream.Record) error {
		r, body, err := journal.ReadRecord(e.Data)
		if err == nil && r.Epoch == c.lastEpoch && r.Version > version {
			all = append(all, ownRecord{r, body})
		}
		return err
	})
	return all, err
}
