package inspect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/setup"
	"rempart/internal/config"
	"rempart/internal/journal"
)

// currentView is a view of the current set, with a function that frees its resources.
type currentView struct {
	view    *blocklist.View
	release func() // must be called when the view is not used any more
}

// currentSet returns the set in the file snapshot. If snapshot is "", it returns the newest set of REMPART_CONTROL, or without REMPART_CONTROL the set of the
// lists in the environment.
func currentSet(cmd *cobra.Command, c *config.Config, snapshot string) (*currentView, error) {
	if snapshot != "" {
		view, err := feed.OpenSnapshot(snapshot)
		return &currentView{view, func() {}}, err
	}
	if c.Control != "" {
		return followOnce(cmd.Context(), c)
	}
	in, err := openInspection(cmd)
	if err != nil {
		return nil, err
	}
	if in.broken != nil {
		return nil, in.broken
	}
	in.warn(cmd, "names are judged")
	if err := in.exitCode(); err != nil {
		return nil, err
	}
	return &currentView{in.lists.Set().View(), func() {}}, nil
}

// followPatience is the time for which a command waits until the newest version of a journal is in force.
const followPatience = 10 * time.Minute

// silentSource is a journal.Source that discards the follower's reports, so that control does not list this command as a server.
type silentSource struct{ journal.Source }

func (silentSource) Report(context.Context, []byte) error { return nil }

// followOnce follows the journal of REMPART_CONTROL, in a temporary folder, until the newest version is in force, and returns that set.
func followOnce(ctx context.Context, c *config.Config) (*currentView, error) {
	roots, err := setup.ParseRootKeys(c.ControlKey)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rempart-set-*")
	if err != nil {
		return nil, err
	}
	removeDir := func() { os.RemoveAll(dir) }
	log := slog.New(slog.DiscardHandler)
	source, err := setup.NewControlSource(c, "digest", setup.EdgeOptions{Log: log, Dial: (&net.Dialer{Timeout: 10 * time.Second}).DialContext})
	if err != nil {
		removeDir()
		return nil, err
	}
	f, err := journal.NewFollower(journal.FollowerConfig{
		Dir: filepath.Join(dir, "edge"), Source: silentSource{source}, Trust: roots, Node: journal.Node{ID: "digest", Country: c.Country, Operator: c.Operator}, Log: log,
	})
	if err == nil {
		err = f.Start()
	}
	if err != nil {
		source.Close()
		removeDir()
		return nil, err
	}
	runCtx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(runCtx) // awaitNewest reads errors from f.Health
	}()
	end := func() {
		cancel()
		<-done
		source.Close()
		removeDir()
	}
	if err := awaitNewest(ctx, f); err != nil {
		end()
		return nil, err
	}
	return &currentView{f.Set().View(), end}, nil
}

// awaitNewest waits until the newest version that control announced is in force.
func awaitNewest(ctx context.Context, f *journal.Follower) error {
	ctx, cancel := context.WithTimeout(ctx, followPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		h := f.Health()
		if h.Newest > 0 && h.Version >= h.Newest {
			return nil
		}
		if h.Problem != "" && h.Version == 0 && time.Since(began) > setup.ControlPatience {
			return fmt.Errorf("REMPART_CONTROL: %s", h.Problem)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(errors.New("REMPART_CONTROL: the newest set was not received in time"), ctx.Err())
		}
	}
}
