package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/store"
)

// Kind is the kind of origin of a list.
type Kind string

const (
	KindFile  Kind = "file"
	KindURL   Kind = "url"
	KindAllow Kind = "allow" // a file, of names that are never blocked
)

// list is the state of one configured list. Only the writer uses it.
type list struct {
	source string // as configured; may hold a password or a token
	name   string // the same without secrets, or the name in the feeds file; unique: for people and logs
	key    string // the key of its files in the store
	kind   Kind
	feed   Feed // its settings

	copy      *store.Record // the record of the last good copy; nil if there is none
	published *store.Record // the record of the copy in the published set; nil if the list is not in it
	inMemory  *loadedList   // if nothing may be written: the parsed list, instead of a copy
	postponed *loadedList   // the list of record copy, if it is not written yet

	result   Result
	err      error
	failures int // consecutive
	parses   int // since New
	fetching bool
	removed  bool      // no longer configured: its listings are withdrawn with the next set
	next     time.Time // the time of the next attempt; see due
	// notBefore is the earliest time at which its server accepts a request (Retry-After).
	notBefore time.Time
}

// These are wrapped by the error of New if a part of its Config cannot be used.
var (
	ErrList = errors.New("list") // of Config.Lists
	ErrFeed = errors.New("feed") // of Config.Feeds
)

// configured returns the lists of a configuration without duplicates.
func configured(cfg Config) ([]*list, error) {
	var lists []*list
	add := func(source, name string, kind Kind, f Feed) {
		sum := sha256.Sum256([]byte(string(kind) + "\x00" + source))
		key := hex.EncodeToString(sum[:8])
		if slices.ContainsFunc(lists, func(o *list) bool { return o.key == key }) {
			return
		}
		unique := name
		for i := 2; slices.ContainsFunc(lists, func(o *list) bool { return o.name == unique }); i++ {
			unique = fmt.Sprintf("%s (%d)", name, i)
		}
		lists = append(lists, &list{source: source, name: unique, key: key, kind: kind, feed: f, result: Waiting})
	}
	if cfg.Allow != "" {
		add(cfg.Allow, cfg.Allow, KindAllow, Feed{})
	}
	for i, source := range cfg.Lists {
		f := Feed{Path: source}
		if strings.Contains(source, "://") {
			f = Feed{URL: source}.local()
			source = f.URL + f.Path
		}
		kind, name, err := f.kindAndName()
		if err != nil {
			return nil, fmt.Errorf("%w %d: %w", ErrList, i+1, err)
		}
		add(source, name, kind, f)
	}
	for _, f := range cfg.Feeds {
		f = f.local()
		kind, _, err := f.kindAndName()
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", ErrFeed, f.Name, err)
		}
		add(f.URL+f.Path, f.Name, kind, f)
	}
	return lists, nil
}

// keysOf returns the keys of lists.
func keysOf(lists []*list) (keys []string) {
	for _, li := range lists {
		keys = append(keys, li.key)
	}
	return keys
}

// warnOfQuorums logs each list whose blocks can never apply, because the quorum is more than the weights of all lists together.
func (l *Lists) warnOfQuorums() {
	weight := 0
	for _, li := range l.lists {
		if li.kind != KindAllow {
			weight += max(1, li.feed.Weight)
		}
	}
	for _, li := range l.lists {
		if li.feed.Quorum > weight {
			l.log.Warn("no block of this list can apply: its quorum is more than all lists weigh together; lower its quorum, raise weights or add lists",
				"list", li.name, "quorum", li.feed.Quorum, "all_weigh", weight)
		}
	}
}

// sink returns the sink for the content of the list, whose listings sink receives: those of an allow list are allows.
func (li *list) sink(sink format.Sink) format.Sink {
	if li.kind == KindAllow {
		return format.Allowing(sink)
	}
	return sink
}

// redacted returns a URL without its parts that may be a secret: user, password, query and fragment.
func redacted(u *url.URL) string {
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	text := shown.String()
	if u.RawQuery != "" || u.User != nil {
		text += "?…"
	}
	return text
}

// activeCopy returns the copy whose listings are in effect: nil if the list is older than its maximum age.
func (li *list) activeCopy(now time.Time) *store.Record {
	if li.copy == nil || li.removed || li.tooOld(now) {
		return nil
	}
	return li.copy
}

func (li *list) tooOld(now time.Time) bool {
	return li.feed.MaxAge > 0 && li.copy != nil && now.Sub(li.copy.Fetched) >= li.feed.MaxAge
}

// setSource returns the list as a source of the set.
func (li *list) setSource(rec *store.Record) blocklist.Source {
	return blocklist.Source{Name: li.name, Fetched: rec.Fetched, Weight: li.feed.Weight, Quorum: li.feed.Quorum}
}
