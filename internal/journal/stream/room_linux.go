package stream

import "golang.org/x/sys/unix"

// readDiskSpace returns the size of the disk that holds dir, and the free space that this process may use.
func readDiskSpace(dir string) (diskSpace, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return diskSpace{}, err
	}
	return diskSpace{s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize)}, nil
}
