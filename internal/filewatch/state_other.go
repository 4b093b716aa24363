//go:build !unix

package filewatch

import "os"

// StateOf returns the state of the file that path leads to, links followed.
func StateOf(path string) State {
	info, err := os.Stat(path)
	if err != nil {
		return State{}
	}
	return State{Size: info.Size(), Modified: info.ModTime().UnixNano()}
}
