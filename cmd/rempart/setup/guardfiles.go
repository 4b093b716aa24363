package setup

import (
	"context"

	"rempart/blocklist/feed/guardfile"
)

// GuardFiles makes the loader of the guards, which lists and pushes share, a ReloadableFile.
type GuardFiles struct{ Loader *guardfile.Loader }

// Reload reads the files again if they changed.
func (g GuardFiles) Reload() ReloadResult {
	changed, err := g.Loader.Reload()
	switch {
	case err != nil:
		return ReloadRefused
	case changed:
		return ReloadApplied
	}
	return ReloadUnchanged
}

func (g GuardFiles) refused() bool { return g.Loader.Problem() != "" }

// Setting returns the names of the variables of the files.
func (g GuardFiles) Setting() string { return "REMPART_ESSENTIAL, REMPART_POPULAR, REMPART_RELEASED" }

// Run does nothing until ctx ends: the lists reload changed files of the guards while they run.
func (g GuardFiles) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
