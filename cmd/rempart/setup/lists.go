package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/guard"
	"rempart/internal/config"
	"rempart/internal/durable"
	"rempart/resolver/upstream/transport"
)

// ListsOptions are the parts of a server that its lists use. A command that changes nothing sets ReadOnly.
type ListsOptions struct {
	Log      *slog.Logger
	Dial     func(ctx context.Context, network, addr string) (net.Conn, error) // connects to publishers
	Progress func(feed.Progress)
	Changed  func() // called after another set came into force
	ReadOnly bool
}

// NewLists returns the configured lists and feeds, with their guards.
func NewLists(c *config.Config, opt ListsOptions) (*feed.Lists, error) {
	if c.Control != "" { // control publishes all other lists
		l, err := feed.New(feed.Config{
			Allow: c.Allow, Dir: filepath.Join(c.DataDir, "local"), Refresh: c.Refresh, Progress: opt.Progress, Changed: opt.Changed, LowMemory: new(memorySaver).enter,
			Log: opt.Log.With("set", "never blocked here"), ReadOnly: opt.ReadOnly,
		})
		if err != nil {
			return nil, listsError(c, err)
		}
		return l, nil
	}
	listings, err := builtInListings()
	if err != nil {
		return nil, err
	}
	feeds, err := ReadFeeds(c.Feeds)
	if err != nil {
		return nil, err
	}
	if err := namedTwice(c.Lists, feeds); err != nil {
		return nil, err
	}
	guards, err := guardfile.New(guardConfig(c, feeds), opt.Log)
	if err != nil {
		return nil, listsError(c, err)
	}
	l, err := feed.New(feed.Config{
		Lists: c.Lists, Feeds: feeds, Allow: c.Allow, BuiltIn: listings, Dir: c.DataDir, Refresh: c.Refresh,
		Guards: guards, Progress: opt.Progress, Changed: opt.Changed, Dial: opt.Dial, Proxy: config.Proxy(),
		LowMemory: new(memorySaver).enter, Log: opt.Log, ReadOnly: opt.ReadOnly,
	})
	if err != nil {
		return nil, listsError(c, err)
	}
	return l, nil
}

// ReadFeeds reads the feeds file, if there is one.
func ReadFeeds(path string) ([]feed.Feed, error) {
	if path == "" {
		return nil, nil
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, fmt.Errorf("REMPART_FEEDS: %w", err)
	}
	defer f.Close()
	feeds, err := feed.ReadFeeds(f, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("REMPART_FEEDS: %s: %w", path, err)
	}
	return feeds, nil
}

// namedTwice returns an error for a list that is also a feed. The error does not quote a URL, which may hold a secret.
func namedTwice(lists []string, feeds []feed.Feed) error {
	for i, source := range lists {
		for _, f := range feeds {
			if source == f.URL || f.Path != "" && AbsolutePath(source) == AbsolutePath(f.Path) {
				return fmt.Errorf("REMPART_LISTS: list %d is the feed %q of REMPART_FEEDS as well: remove it from one of them", i+1, f.Name)
			}
		}
	}
	return nil
}

// AbsolutePath returns path as an absolute path, to compare it with others.
func AbsolutePath(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// listsError adds to err the variable whose value causes it.
func listsError(c *config.Config, err error) error {
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		for variable, path := range map[string]string{
			"ESSENTIAL": c.Essential, "POPULAR": c.Popular, "RELEASED": c.Released,
		} {
			if path != "" && path == file.Path {
				return fmt.Errorf("%s%s: %w", config.Prefix, variable, err)
			}
		}
	}
	for part, variable := range map[error]string{
		feed.ErrList: "LISTS", feed.ErrFeed: "FEEDS", guardfile.ErrReleased: "RELEASED", guard.ErrEssential: "ESSENTIAL", guard.ErrPopular: "POPULAR",
	} {
		if errors.Is(err, part) {
			return fmt.Errorf("%s%s: %w", config.Prefix, variable, err)
		}
	}
	return err
}

// guardConfig returns the files of the guards and the names of this service.
func guardConfig(c *config.Config, feeds []feed.Feed) guardfile.Config {
	names, addrs := own(c, feeds)
	return guardfile.Config{
		Essential: c.Essential, Popular: c.Popular, Bound: c.PopularBound, Released: c.Released, Own: names, OwnAddresses: addrs,
	}
}

// own returns the names and public addresses of this service, its publishers and its upstreams, which no list may block. They are sorted, because the contents
// of lists are compiled again when they change.
func own(c *config.Config, feeds []feed.Feed) (names []string, addrs []netip.Addr) {
	add := func(host string) {
		if addr, err := netip.ParseAddr(host); err == nil {
			addrs = append(addrs, addr)
		} else if name, err := format.Name(host); err == nil { // no list can hold a host that is not a name
			names = append(names, blocklist.NameText(name))
		}
	}
	urls := slices.Clone(c.Lists)
	for _, f := range feeds {
		urls = append(urls, f.URL)
	}
	if strings.HasPrefix(c.Contact, "https://") {
		urls = append(urls, c.Contact)
	}
	for _, text := range urls {
		if u, err := url.Parse(text); err == nil && strings.Contains(text, "://") {
			add(u.Hostname())
		}
	}
	for _, e := range allEndpoints(c) {
		add(e.Name)
		add(e.Host)
		addrs = append(addrs, e.Addr.Addr())
	}
	addrs = append(addrs, c.PageIPv4.Addr, c.PageIPv6.Addr)
	for _, a := range c.Listen {
		addrs = append(addrs, a.Addr())
	}
	slices.Sort(names)
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !public(a) }) // no list can hold the other addresses
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(names), slices.Compact(addrs)
}

func public(a netip.Addr) bool { return a.IsGlobalUnicast() && !a.IsPrivate() }

// allEndpoints returns the upstreams, including those of zones, as far as they can be parsed.
func allEndpoints(c *config.Config) []transport.Endpoint {
	list, err := parseEndpoints("UPSTREAMS", c.Upstreams)
	if len(c.Upstreams) == 0 {
		list, err = systemEndpoints(c, "UPSTREAMS", resolvConf, stubResolvConf)
	}
	if err != nil {
		list = nil // a server reports the error; other commands do not use upstreams
	}
	for _, z := range c.Forward {
		if e, err := transport.ParseEndpoint(z.Upstream); err == nil {
			list = append(list, e)
		}
	}
	return list
}
