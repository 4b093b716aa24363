package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"syscall"

	"rempart/blocklist"
)

// Start puts in force what is on disk, without the source. A folder that cannot be written is no error, except for control: records are kept in memory until it
// can. An error means that the folder is misconfigured.
func (f *Follower) Start() error {
	var err error
	if f.disk, err = openDisk(f.cfg.Dir); err != nil && (f.cfg.Node.Control || errors.Is(err, syscall.ENOTDIR)) {
		return fmt.Errorf("folder %s: %w", f.cfg.Dir, err)
	} else if err != nil {
		f.unwritable(err)
	}
	k, err := f.disk.load(f.cfg.Trust)
	if err != nil {
		f.log.Error("what was in force could not be read whole", "err", err)
	}
	if k == nil {
		return nil // Run begins with the newest snapshot
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st, good, err := f.replay(k)
	if err != nil {
		f.log.Error("what was in force cannot be put in force again", "err", err)
		return nil
	}
	if err := f.disk.resume(k.state.Version, good); err != nil && f.cfg.Node.Control {
		return fmt.Errorf("folder %s: %w", f.cfg.Dir, err)
	} else if err != nil {
		f.unwritable(err)
	}
	f.verify.Go(func() { // it takes as long as it is large; damage hides a listing at most
		defer runtime.KeepAlive(k.state.base) // or its mapping may go while it is read
		if err := k.state.base.Snapshot().Verify(); err != nil {
			f.log.Error("the snapshot on disk is damaged; it is fetched again", "err", err)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.damaged = k.snapshot
			f.wake()
		}
	})
	f.disk.base = k.snapshot
	return f.putInForce(st, Effect{All: true, Lacking: f.lacks()})
}

// unwritable logs that nothing can be written to the folder.
func (f *Follower) unwritable(err error) {
	if f.unwritten == "" {
		f.log.Error("the folder cannot be written: what is on disk is in force, and changes would be missing after a restart without control; it is tried again",
			"folder", f.cfg.Dir, "err", err)
	}
	f.unwritten = err.Error()
}

// replay is what was kept, with the records after it, as far as they are whole: that many octets of them.
func (f *Follower) replay(k *kept) (st *State, good int64, err error) {
	if st, err = k.state.settle(f.cfg.Node); err != nil {
		return nil, 0, err
	}
	for _, e := range k.tail {
		if st.Hash == HashOf(e.Data) { // written twice
			good += int64(frameHead + len(e.Data))
			continue
		}
		c, err := st.check(e.Data, f.cfg.Trust)
		if err == nil {
			var n *State
			if n, _, err = f.next(st, c, e); err == nil {
				st = n
			}
		}
		if err != nil {
			f.log.Warn("a record on disk is not whole; it is asked for again", "after", st.Version, "err", err)
			break
		}
		good += int64(frameHead + len(e.Data))
	}
	return st, good, nil
}

// Kept is what a follower of that configuration last had in force, read from its folder while another process may be using that. It asks no source. Its error wraps
// fs.ErrNotExist where there is nothing yet.
func Kept(cfg FollowerConfig) (*blocklist.View, error) {
	f := &Follower{cfg: cfg, log: slog.New(slog.DiscardHandler)}
	k, err := (&disk{dir: cfg.Dir}).load(cfg.Trust)
	if k == nil {
		if err == nil {
			err = fs.ErrNotExist
		}
		return nil, fmt.Errorf("folder %s: %w", cfg.Dir, err)
	}
	st, _, err := f.replay(k)
	if err != nil {
		return nil, err
	}
	return f.here(st)
}
