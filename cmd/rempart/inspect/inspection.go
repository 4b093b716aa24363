package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/running"
	"rempart/cmd/rempart/setup"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// readsOnly is the part of help texts about commands that only read.
const readsOnly = `It changes nothing. It examines the lists that the environment names; if it names none, those of the server that runs on this machine; if none
runs, those of the settings in ` + running.SettingsFile + `. It reads the copies of lists in the data folder of the server: run it as a user who may read that folder.`

// inspection holds what a command that changes nothing needs: the server's lists, and the set that the server would compile from them now.
type inspection struct {
	*running.Service
	reading *cli.Progress
	lists   *feed.Lists
	status  feed.Status
	partial bool  // a list could not be fetched
	broken  error // why lists is nil: the settings have a mistake, and the running server has not read them yet
}

// openInspection finds the server and reads its lists. If the settings have a mistake by now and a server still runs, it asks the server for the status of its
// lists, and the inspection has no lists.
func openInspection(cmd *cobra.Command) (*inspection, error) {
	in, err := prepareInspection(cmd, false)
	if err != nil && in != nil && in.Client != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "rempart: %v; the answer is from the running server, which still uses its earlier settings\n", err)
		in.broken = err
		return in, in.askStatus(cmd)
	}
	if err != nil {
		return nil, err
	}
	return in, in.start(cmd)
}

// askStatus reads the status of the lists from the running server, which knows the results of fetching.
func (in *inspection) askStatus(cmd *cobra.Command) error {
	st, err := in.Client.Status(cmd.Context())
	if err != nil {
		return err
	}
	if err := json.Unmarshal(st.Feeds, &in.status); err != nil {
		return err
	}
	in.partial = in.partial || slices.ContainsFunc(in.status.Lists, isMissing)
	return nil
}

// prepareInspection finds the server, but does not read its lists yet. given means that the command needs no server.
func prepareInspection(cmd *cobra.Command, given bool, paths ...*string) (*inspection, error) {
	of, err := running.FindUnless(cmd.Context(), given, paths...)
	if err != nil {
		return nil, err
	}
	in := &inspection{Service: of, reading: cli.NewProgress(cmd.ErrOrStderr())}
	in.lists, err = setup.NewLists(of.Config, setup.ListsOptions{Log: slog.New(slog.DiscardHandler), Progress: in.reading.ListProgress(), ReadOnly: true})
	return in, err
}

// start reads the lists.
func (in *inspection) start(cmd *cobra.Command) error {
	err := in.lists.Start(cmd.Context())
	in.reading.End()
	in.status = in.lists.Status()
	if err == nil && in.Client != nil {
		return in.askStatus(cmd)
	}
	in.partial = in.partial || slices.ContainsFunc(in.status.Lists, isMissing)
	return err
}

// isMissing reports whether a list could not be fetched or read.
func isMissing(l feed.ListStatus) bool { return l.Result == feed.Failed || l.Result == feed.Waiting }

// view returns the set that is in force with these settings, or that would be.
func (in *inspection) view() (*blocklist.View, error) {
	c := in.Config
	var roots []signing.PublicKey
	var err error
	switch {
	case c.Control != "":
		roots, err = setup.ParseRootKeys(c.ControlKey)
	case len(c.PushListen) > 0:
		var keys *signing.Keys
		if keys, err = signing.OpenExistingKeys(c.KeysFolder()); err == nil {
			var ring *signing.StoredRing
			if ring, err = keys.Ring(); err == nil {
				roots = ring.RootKeys
			}
		}
	default:
		return in.lists.Set().View(), nil
	}
	if err != nil {
		return nil, err
	}
	view, err := journal.LoadPersisted(journal.FollowerConfig{
		Dir: setup.EdgeFolder(c), Trust: roots, Node: journal.Node{ID: setup.StoredNodeName(c), Country: c.Country, Operator: c.Operator}, Refresh: setup.WithLocalAllows(in.lists.Set(), c.Allow),
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no set has arrived from control yet: a server stores it in %s", setup.EdgeFolder(c))
	}
	return view, err
}

// warn writes which lists are missing, and the consequence.
func (in *inspection) warn(cmd *cobra.Command, consequence string) {
	for _, l := range in.status.Lists {
		if isMissing(l) {
			fmt.Fprintf(cmd.ErrOrStderr(), "rempart: %s could not be read, and %s without it: %s\n", l.Name, consequence, missingReason(l))
		}
	}
	in.warnNone(cmd, consequence+" with the built-in names only")
}

// warnNone writes a warning if no list is configured.
func (in *inspection) warnNone(cmd *cobra.Command, consequence string) {
	if in.Client == nil && len(in.Config.Lists) == 0 && in.Config.Feeds == "" && in.Config.Control == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "rempart: neither REMPART_LISTS nor REMPART_FEEDS is set here: %s\n", consequence)
	}
}

func missingReason(l feed.ListStatus) string {
	if l.Err == "" {
		return "the server has not fetched it yet"
	}
	return l.Err
}

// exitCode returns the exit code of a command that needs every list.
func (in *inspection) exitCode() error {
	if in.partial {
		return cli.Failure
	}
	return nil
}

// day returns the date of a time in Unix seconds; "" for 0.
func day(unix int64) string {
	if unix == 0 {
		return ""
	}
	return time.Unix(unix, 0).UTC().Format(time.DateOnly)
}
