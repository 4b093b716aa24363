package feed

import (
	"fmt"
	"runtime"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/guard"
	"rempart/internal/durable"
)

// Kept opens the set as a server left it, or keeps it, in the data folder: the snapshot, under its overlay if there is one. It does not
// depend on what is configured. Call it after Start, of read-only Lists.
func (l *Lists) Kept() (*blocklist.View, error) { return l.openSet() }

// OpenSnapshot maps the snapshot at path, and reads it whole to check it. The mapping goes with the last holder of the view.
func OpenSnapshot(path string) (*blocklist.View, error) {
	m, err := durable.Map(path)
	if err != nil {
		return nil, err
	}
	view, err := blocklist.OpenView(m.Data(), m.Close)
	if err == nil {
		err = view.Snapshot().Verify()
		runtime.KeepAlive(view)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return view, nil
}

// Judge is what the guards say of a listing now, and whether a person released it. It reads what the guards go by if that
// is not at hand, which takes some tens of milliseconds. The listing is borrowed for the call.
func (l *Lists) Judge(listing blocklist.Listing) (f guard.Finding, released bool, err error) {
	all, err := l.guarding.get()
	if err != nil {
		return f, false, err
	}
	f = all.Check(listing)
	return f, f.Outcome == guard.Hold && all.released(listing), nil
}

// EachPopular calls each for the names of the popularity list that the guards go by; see guard.EachPopular.
func (l *Lists) EachPopular(each func(rank int, name []byte) error) error {
	path := l.guarding.cfg.Popular
	if path == "" {
		return guard.EachPopular(nil, each)
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return fmt.Errorf("popularity list: %w", err)
	}
	defer f.Close()
	return guard.EachPopular(bounded.NewReader(f, fetch.MaxBody), each)
}
