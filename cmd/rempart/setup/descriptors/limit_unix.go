//go:build unix

package descriptors

import "golang.org/x/sys/unix"

// Limit returns how many files and sockets this process may open. The Go runtime raised the soft limit to the hard limit at the start.
func Limit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return enough
	}
	return uint64(limit.Cur)
}
