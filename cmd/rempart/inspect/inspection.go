package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/setup"
	"rempart/internal/journal"
)

// readsOnly is what help texts say of commands that inspect.
const readsOnly = `It changes nothing. It examines the lists that the environment names; if it names none, those of the server that runs on this machine; if none
runs, those of the settings in ` + systemSettings + `. It reads the copies of lists in the data folder of the server: run it as a user who may read that folder.`

// inspection is what a command that changes nothing works on: the lists as the server has them, and the set it
// would make of them now.
type inspection struct {
	*service
	reading *cli.Progress
	lists   *feed.Lists
	status  feed.Status
	partial bool  // a list could not be fetched
	broken  error // why lists is nil: the settings have a mistake that the running server has not read
}

// openInspection finds out which server is meant, and reads its lists. Where the settings have a mistake by now and a server still runs, that is asked for what it knows, and
// there are no lists.
func openInspection(cmd *cobra.Command) (*inspection, error) {
	in, err := prepareInspection(cmd, false)
	if err != nil && in != nil && in.client != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "rempart: %v; the answer is from the running server, which still uses its earlier settings\n", err)
		in.broken = err
		return in, in.askStatus(cmd)
	}
	if err != nil {
		return nil, err
	}
	return in, in.start(cmd)
}

// askStatus takes the lists' status from the running server: it knows how fetching went.
func (in *inspection) askStatus(cmd *cobra.Command) error {
	st, err := in.client.Status(cmd.Context())
	if err == nil {
		err = json.Unmarshal(st.Feeds, &in.status)
	}
	for _, l := range in.status.Lists {
		in.partial = in.partial || isMissing(l)
	}
	return err
}

// prepareInspection finds out which server is meant, and does not read its lists yet. given says that the command does without one.
func prepareInspection(cmd *cobra.Command, given bool, paths ...*string) (*inspection, error) {
	of, err := findServiceUnless(cmd.Context(), given, paths...)
	if err != nil {
		return nil, err
	}
	in := &inspection{service: of, reading: cli.NewProgress(cmd.ErrOrStderr())}
	in.lists, err = setup.NewLists(of.config, setup.ListsOptions{Log: slog.New(slog.DiscardHandler), Progress: in.reading.ListProgress(), ReadOnly: true})
	return in, err
}

// start reads the lists.
func (in *inspection) start(cmd *cobra.Command) error {
	err := in.lists.Start(cmd.Context())
	in.reading.End()
	in.status = in.lists.Status()
	if err == nil && in.client != nil {
		return in.askStatus(cmd)
	}
	for _, l := range in.status.Lists {
		in.partial = in.partial || isMissing(l)
	}
	return err
}

// isMissing reports whether a list cannot be had.
func isMissing(l feed.ListStatus) bool { return l.Result == feed.Failed || l.Result == feed.Waiting }

// view is what a server of this configuration has in force, or would.
func (in *inspection) view() (*blocklist.View, error) {
	c := in.config
	var roots []journal.PublicKey
	var err error
	switch {
	case c.Control != "":
		roots, err = setup.ParseRootKeys(c.ControlKey)
	case len(c.PushListen) > 0:
		var keys *journal.Keys
		if keys, err = journal.ExistingKeys(setup.KeysFolder(c)); err == nil {
			_, _, roots, err = keys.Ring()
		}
	default:
		return in.lists.Set().View(), nil
	}
	if err != nil {
		return nil, err
	}
	view, err := journal.Kept(journal.FollowerConfig{
		Dir: setup.EdgeFolder(c), Trust: roots, Node: journal.Node{ID: setup.StoredNodeName(c), Country: c.Country, Operator: c.Operator}, Refresh: setup.WithLocalAllows(in.lists.Set(), c.Allow),
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no set has arrived from control yet: a server stores it in %s", setup.EdgeFolder(c))
	}
	return view, err
}

// warn says which lists cannot be had, and what is done without them.
func (in *inspection) warn(cmd *cobra.Command, consequence string) {
	for _, l := range in.status.Lists {
		if isMissing(l) {
			fmt.Fprintf(cmd.ErrOrStderr(), "rempart: %s could not be read, and %s without it: %s\n", l.Name, consequence, missingReason(l))
		}
	}
	in.warnNone(cmd, consequence+" with the built-in names only")
}

// warnNone says that no list is configured, if none is.
func (in *inspection) warnNone(cmd *cobra.Command, consequence string) {
	if in.client == nil && len(in.config.Lists) == 0 && in.config.Feeds == "" && in.config.Control == "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "rempart: neither REMPART_LISTS nor REMPART_FEEDS is set here: %s\n", consequence)
	}
}

func missingReason(l feed.ListStatus) string {
	if l.Err == "" {
		return "the server has not fetched it yet"
	}
	return l.Err
}

// exitCode is how a command that needs every list ends.
func (in *inspection) exitCode() error {
	if in.partial {
		return cli.Failure
	}
	return nil
}

// day is a time as a date, "" for none.
func day(unix int64) string {
	if unix == 0 {
		return ""
	}
	return time.Unix(unix, 0).UTC().Format(time.DateOnly)
}
