package feed

import (
	"rempart/blocklist"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/guard"
	"rempart/internal/setfile"
)

// Kept opens the set as a server left it, or keeps it, in the data folder: the snapshot, under its overlay if there is one. It does not
// depend on what is configured. Call it after Start, of read-only Lists.
func (l *Lists) Kept() (*blocklist.View, error) { return l.openSet() }

// OpenSnapshot maps the snapshot at path and verifies it. The mapping is released after the last holder of the view released it.
func OpenSnapshot(path string) (*blocklist.View, error) {
	f, err := setfile.OpenVerified(path)
	if err != nil {
		return nil, err
	}
	return f.View, nil
}

// Judge returns what the guards find about a listing, and whether a person released it. Loading the guards, if they are not in memory, takes
// some tens of milliseconds. The listing is borrowed for the call.
func (l *Lists) Judge(listing blocklist.Listing) (f guard.Finding, released bool, err error) {
	guards, err := l.guards.Acquire()
	if err != nil {
		return f, false, err
	}
	f = guards.Check(listing)
	return f, f.Outcome == guard.Hold && guards.IsReleased(listing), nil
}

// Guards returns the loader of the guards that lists pass.
func (l *Lists) Guards() *guardfile.Loader { return l.guards }
