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

// currentView is the present set of a snapshot, of a control's journal, or of lists.
type currentView struct {
	view    *blocklist.View
	release func() // called when the view is not used any more
}

// currentSet returns the set in the file snapshot, or else the set that the environment names.
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

// followPatience is how long a command waits for a journal.
const followPatience = 10 * time.Minute

// silentSource is a source to which a follower does not report, so that control does not list it as a server.
type silentSource struct{ journal.Source }

func (silentSource) Report(context.Context, []byte) error { return nil }

// followOnce follows REMPART_CONTROL until its newest version is in force, in a temporary folder.
func followOnce(ctx context.Context, c *config.Config) (*currentView, error) {
	roots, err := setup.ParseRootKeys(c.ControlKey)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rempart-set-*")
	if err != nil {
		return nil, err
	}
	forget := func() { os.RemoveAll(dir) }
	log := slog.New(slog.DiscardHandler)
	source, err := setup.NewControlSource(c, "digest", setup.EdgeOptions{Log: log, Dial: (&net.Dialer{Timeout: 10 * time.Second}).DialContext})
	if err != nil {
		forget()
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
		forget()
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(running) // errors are shown by the follower's health
	}()
	end := func() {
		cancel()
		<-done
		source.Close()
		forget()
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
			return errors.Join(errors.New("REMPART_CONTROL: the set did not arrive in time"), ctx.Err())
		}
	}
}
