//go:build unix

package main

import "golang.org/x/sys/unix"

// descriptorLimit returns how many files and sockets this process may open. Go raised the soft limit to the hard one at the start.
func descriptorLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return enoughDescriptors
	}
	return uint64(limit.Cur)
}
