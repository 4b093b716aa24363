//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package durable

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nonblock makes opening a pipe not wait. For regular files it changes nothing.
const nonblock = unix.O_NONBLOCK

func mapFile(f *os.File, size int) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
}

// unmapFile cannot fail for the result of mapFile.
func unmapFile(data []byte) { _ = unix.Munmap(data) }

// evict is a hint: if the system ignores it, that costs memory only.
func evict(data []byte) { _ = unix.Madvise(data, unix.MADV_DONTNEED) }

// lockFile takes the exclusive lock of an open file; the system releases it when the process ends.
func lockFile(f *os.File) (taken bool, err error) {
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// syncDir makes a rename in dir survive a crash. File systems that cannot sync a folder return EINVAL or ENOTSUP, and then nothing more can be done.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return err
	}
	return nil
}
