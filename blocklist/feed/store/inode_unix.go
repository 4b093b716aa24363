//go:build unix

package store

import (
	"io/fs"
	"syscall"
)

// inode tells a file from one that replaced it, 0 where the system does not say.
func inode(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}
