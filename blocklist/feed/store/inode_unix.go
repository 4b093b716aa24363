//go:build unix

package store

import (
	"io/fs"
	"syscall"
)

// inode returns the number of a file, which a file that replaces it does not have; 0 if the system has none.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
