//go:build unix

package setup

import "golang.org/x/sys/unix"

// DescriptorLimit returns how many files and sockets this process may open. The Go runtime raised the soft limit to the hard limit at the start.
func DescriptorLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return enoughDescriptors
	}
	return uint64(limit.Cur)
}
