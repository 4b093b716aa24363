package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// recover appends the records that a folder of a follower holds and the journal, restored from an older backup, lacks: each is signed by
// control, and bound to the one before. It returns how many those were.
func (c *Control) recover(ctx context.Context, dir string) (recovered int, err error) {
	copied := &disk{dir: dir}
	k, err := copied.load(c.cfg.Trust)
	if k == nil {
		return 0, fmt.Errorf("recover from %s: nothing of a journal is in it: %w", dir, err)
	}
	records := map[uint64][]byte{}
	last := k.state.Version
	for _, e := range k.tail {
		if r, _, err := ReadRecord(e.Data); err == nil {
			records[r.Version], last = e.Data, max(last, r.Version)
		}
	}
	for {
		st := c.state.State()
		data, ok := records[st.Version+1]
		if !ok && st.Version < last {
			return recovered, fmt.Errorf("recover from %s: it holds version %d, but not the record of version %d, after which the journal ends: use another copy, or begin a new epoch (--new-epoch %d)",
				dir, last, st.Version+1, last)
		}
		if !ok {
			return recovered, nil
		}
		checked, err := st.check(data, c.cfg.Trust)
		if err == nil && checked.Snapshot != nil {
			err = c.putCopies(ctx, copied, &checked.Record, last)
		}
		if err == nil {
			_, err = c.log.Append(ctx, st.Sequence, string(checked.Kind), data)
		}
		if err == nil {
			err = c.state.reach(ctx, checked.Version)
		}
		if err != nil {
			return recovered, fmt.Errorf("recover from %s: %w", dir, err)
		}
		recovered++
	}
}

// putCopies puts the objects of a snapshot that the copy holds into the object store. One that it lacks is not needed by those who have the state, unless the snapshot
// brought something of its own: that is in force nowhere without it. last is the copy's last version.
func (c *Control) putCopies(ctx context.Context, copied *disk, r *Record, last uint64) error {
	for _, name := range r.Snapshot.Names() {
		err := c.putCopy(ctx, copied.path(name), name)
		if !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			continue
		}
		if r.Snapshot.Same {
			continue
		}
		o, there := c.Object(ctx, name)
		if there != nil {
			return fmt.Errorf("it holds the record of version %d, but not what that brings, as it had not arrived there: object %s is neither in it nor in the journal (%w): use another copy, or begin a new epoch (--new-epoch %d)",
				r.Version, name, there, last)
		}
		o.Close()
	}
	return nil
}

func (c *Control) putCopy(ctx context.Context, path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return c.put(ctx, f, name)
}
