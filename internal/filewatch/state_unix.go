//go:build unix

package filewatch

import "golang.org/x/sys/unix"

// StateOf returns the state of the file that path leads to, links followed.
func StateOf(path string) State {
	var st unix.Stat_t
	for {
		err := unix.Stat(path, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return State{}
		}
		return State{
			Device: uint64(st.Dev), Inode: uint64(st.Ino), Size: st.Size,
			Modified: st.Mtim.Nano(), MetadataChanged: st.Ctim.Nano(),
		}
	}
}
