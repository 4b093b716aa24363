package reload

import (
	"context"

	"rempart/blocklist/feed/guardfile"
)

// GuardFiles makes the loader of the guards, which lists and pushes share, a File.
type GuardFiles struct{ Loader *guardfile.Loader }

// Reload reads the files again if they changed.
func (g GuardFiles) Reload() Result {
	changed, err := g.Loader.Reload()
	switch {
	case err != nil:
		return Refused
	case changed:
		return Applied
	}
	return Unchanged
}

// Problem returns the reason why the newest content of a file cannot be used, "" if it is in use.
func (g GuardFiles) Problem() string { return g.Loader.Problem() }

// Setting returns the names of the variables of the files.
func (g GuardFiles) Setting() string { return "REMPART_ESSENTIAL, REMPART_POPULAR, REMPART_RELEASED" }

// Run does nothing until ctx ends: the lists reload changed files of the guards while they run.
func (g GuardFiles) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
