package stream

import "golang.org/x/sys/unix"

// readDiskSpace returns the space on the disk that holds dir, of which free is available to this process.
func readDiskSpace(dir string) (diskSpace, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return diskSpace{}, err
	}
	return diskSpace{s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize)}, nil
}
