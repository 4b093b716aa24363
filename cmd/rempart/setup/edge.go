package setup

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/reload"
	"rempart/internal/config"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// Edge follows a control, and gets the set from its journal and not from lists.
type Edge struct {
	*journal.Follower
	Files reload.Files // which Run loads again when they change
	Close func()       // closes the source; called after Run has returned
}

// Run follows control, and reads files again when they change, until ctx ends.
func (e *Edge) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.Files.Run(ctx) })
	g.Go(func() error { return e.Follower.Run(ctx) })
	return g.Wait()
}

// EdgeOptions are the parts of a server that its edge uses.
type EdgeOptions struct {
	Log    *slog.Logger
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Local  *feed.Lists // holds the names that are never blocked here
	Totals func() (queries, blocked uint64)
}

// FollowControl returns an edge that follows REMPART_CONTROL.
func FollowControl(c *config.Config, opt EdgeOptions) (*Edge, error) {
	node := NodeName(c, opt.Log)
	roots, err := ParseRootKeys(c.ControlKey)
	if err != nil {
		return nil, err
	}
	source, err := NewControlSource(c, node, opt)
	if err != nil {
		return nil, err
	}
	e, err := FollowSource(c, source, source.Close, node, roots, opt)
	if err != nil {
		return nil, err
	}
	e.Files = source.files
	return e, nil
}

// CheckCountry returns an error if REMPART_COUNTRY is not the code of a country, because then no change for a country would apply to this server.
func CheckCountry(c *config.Config) error {
	if c.Country != "" && !journal.IsCountry(c.Country) {
		return config.Bad("COUNTRY", c.Country, "not a country code of ISO 3166-1: write two capital letters, like FR")
	}
	return nil
}

// FollowSource returns an edge that follows any source. end closes the source.
func FollowSource(c *config.Config, source journal.Source, end func(), node string, roots []signing.PublicKey, opt EdgeOptions) (*Edge, error) {
	f, err := journal.NewFollower(journal.FollowerConfig{
		Dir: EdgeFolder(c), Source: source, Trust: roots,
		Node:   journal.Node{ID: node, Country: c.Country, Operator: c.Operator},
		Totals: opt.Totals, Refresh: WithLocalAllows(opt.Local.Set(), c.Allow), Log: opt.Log,
	})
	if err != nil {
		end()
		return nil, err
	}
	return &Edge{Follower: f, Close: end}, nil
}

// EdgeFolder returns the folder in which an edge stores the records and snapshots from control.
func EdgeFolder(c *config.Config) string { return filepath.Join(c.DataDir, "edge") }

// WithLocalAllows returns a function that adds the names that are never blocked on this machine to a view.
func WithLocalAllows(local *blocklist.Set, list string) func(*blocklist.View) (*blocklist.View, error) {
	return func(view *blocklist.View) (*blocklist.View, error) {
		var changes []blocklist.Change
		here := local.View().Input().Only(func(source string) bool { return source == list })
		err := here.Each(func(c blocklist.Change) bool {
			c.Listing.Name = bytes.Clone(c.Listing.Name)
			changes = append(changes, c)
			return true
		})
		if err != nil || len(changes) == 0 {
			return view, err
		}
		return view.With(view.Info(), changes)
	}
}

// ControlPatience is the time for which a start waits for control if no set is in force.
const ControlPatience = 5 * time.Second

// AwaitSet waits up to ControlPatience for a set from control, if none is in force.
func (e *Edge) AwaitSet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ControlPatience)
	defer cancel()
	_ = e.Wait(ctx, 1) // after an error, answers are not filtered, and /readyz reports this
}

// NotReady returns the reason why the set is not reliable, for /readyz; "" if it is reliable.
func (e *Edge) NotReady(stale time.Duration) string {
	h := e.Health()
	if e.Set().View().Version() == 0 {
		why := "no set is in force, so answers are not filtered: none has arrived from REMPART_CONTROL yet"
		if h.Problem != "" {
			why += ": " + h.Problem
		}
		return why
	}
	if h.Lost > 0 {
		return fmt.Sprintf("version %d was in force here before the restart, and version %d is in force now: files in the folder edge were lost or damaged, and the missing records have not arrived from control yet", h.Lost, h.Status.Version)
	}
	if stale > 0 && h.Heartbeat > stale {
		return fmt.Sprintf("control sent nothing for %s (REMPART_CONTROL_STALE is %s); version %d stays in force", report.Age(h.Heartbeat), stale, h.Status.Version)
	}
	return ""
}
