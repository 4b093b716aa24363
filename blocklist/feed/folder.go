package feed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"rempart/internal/durable"
)

// folderState says whether the data folder can be written.
type folderState struct {
	err     error     // why it cannot be written; nil if it can
	retryAt time.Time // when to look again
}

// takeFolder locks the data folder and reads the version's counter. A folder that cannot be written does not stop DNS: the valid files in it are
// used, and the folder is tried again later. An error means that the folder is misconfigured or in use by another process.
func (l *Lists) takeFolder() error {
	if err := l.prepare(); errors.Is(err, syscall.ENOTDIR) || errors.Is(err, durable.ErrLocked) {
		return err
	} else if err != nil {
		l.folderState = folderState{err: err, retryAt: time.Now().Add(l.timing.writeAgain)}
		l.log.Error("the data folder cannot be written: what it holds already is used, and anything newer is lost at a restart; the folder is tried again later",
			"folder", l.cfg.Dir, "err", err)
	}
	var err error
	if l.publisher.counter, err = durable.OpenCounter(filepath.Join(l.cfg.Dir, versionFile), l.publisher.versionOnDisk); err != nil {
		l.log.Warn("the number of the last version was lost", "err", err)
	}
	if l.folderState.err != nil && !errors.Is(l.folderState.err, syscall.ENOSPC) {
		return nil
	}
	for _, err := range []error{durable.Clean(l.cfg.Dir), durable.Clean(l.store.Dir), l.store.Clean(keysOf(l.lists))} {
		if err != nil {
			l.log.Warn("files of an earlier run that are not needed could not be removed", "err", err)
		}
	}
	return nil
}

// prepare creates and locks the folder, and checks that it can be written. A folder that cannot be written is locked if possible.
func (l *Lists) prepare() error {
	err := os.MkdirAll(l.store.Dir, 0o750)
	if err == nil {
		err = errors.Join(writable(l.cfg.Dir), writable(l.store.Dir))
	}
	if err != nil {
		err = fmt.Errorf("%w: make it a folder that this user may write to and that has room, or configure another", err)
	}
	if l.unlock != nil || errors.Is(err, syscall.ENOTDIR) {
		return err
	}
	unlock, lockErr := durable.Lock(l.cfg.Dir)
	if errors.Is(lockErr, durable.ErrLocked) {
		return lockErr
	}
	if lockErr == nil {
		l.unlock = unlock
	}
	if err == nil {
		err = lockErr
	}
	return err
}

// writable writes and removes a file, and returns why that failed: a full disk creates files and holds nothing.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".try.*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, tryBytes))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// tryBytes is how much writable writes: a block of most file systems, some of which keep a few bytes without one.
const tryBytes = 4096

// retryFolder looks again at a folder that could not be written.
func (l *Lists) retryFolder(now time.Time) {
	if l.folderState.err == nil || now.Before(l.folderState.retryAt) {
		return
	}
	if l.folderState.err = l.prepare(); l.folderState.err != nil {
		l.folderState.retryAt = now.Add(l.timing.writeAgain)
		return
	}
	l.publisher.retryAt = time.Time{}
	l.log.Info("the data folder can be written again", "folder", l.cfg.Dir)
}
