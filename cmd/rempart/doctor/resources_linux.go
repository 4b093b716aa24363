package doctor

import "golang.org/x/sys/unix"

// clockIsSynchronised reports whether a program keeps the clock right (adjtimex(2)).
func clockIsSynchronised() (bool, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, err
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

// freeSpace returns the bytes that the server can still write in a folder.
func freeSpace(dir string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil // the type of Bsize depends on the processor
}
