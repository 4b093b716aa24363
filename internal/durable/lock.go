package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked is wrapped by Lock's error if another process holds the folder.
var ErrLocked = errors.New("in use by another process")

// Lock takes dir for this process alone until unlock is called or the process ends in any way. The lock is held on the file "lock" in dir, which stays:
// removing it would let two processes hold locks of the same name. Systems without flock take no lock.
func Lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		f, err = os.Open(path) // if an earlier run made the file, a lock needs no write permission
	}
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	taken, err := lockFile(f)
	switch {
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	case !taken:
		f.Close()
		return nil, fmt.Errorf("folder %s is %w: stop that one, or give this one a folder of its own", dir, ErrLocked)
	}
	return func() { f.Close() }, nil
}
