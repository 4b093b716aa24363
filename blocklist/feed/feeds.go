package feed

import (
	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/format"
	"rempart/internal/units"
)

// Feed holds the settings of one list. A Feed with only a URL, or only a path, is valid.
type Feed struct {
	Name     string // the name that people see, also in logs; never empty in a feeds file
	URL      string // http, https, or axfr for a zone transfer; may hold a secret
	Path     string // the path of a file, instead of a URL
	TSIG     string // the key of a zone transfer: "[algorithm:]key-name:secret"
	Licence  string // only shown to people
	Format   format.Format
	Policy   Policy             // the meaning of a record that redirects to another name or address; "" is PolicyRefuse
	DeepURLs bool               // also list the host of a URL that names a page, unless many sites share the host
	Category blocklist.Category // the category of names for which the list gives none
	Scope    blocklist.Scope    // the scope of every listing; 0: the scope that the format implies
	Weight   int                // the weight of this list in every quorum; 0 means 1
	Quorum   int                // the total weight of the lists that must contain a name before this list blocks it; 0 means 1
	Interval time.Duration      // the time between two fetches; 0: Config.Refresh
	MaxAge   time.Duration      // the time without a successful fetch after which the listings have no effect; 0: unlimited
}

// Policy is the meaning of a list's records that redirect to another name or address.
type Policy string

const (
	PolicyRefuse Policy = "refuse" // not a block: the list gives the name an answer of its own
	PolicyBlock  Policy = "block"  // a block: the target is the publisher's landing page or sinkhole
)

// local replaces a file URL of this machine (RFC 8089) by its path, and returns any other feed unchanged.
func (f Feed) local() Feed {
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || f.Path != "" {
		return f
	}
	f.URL, f.Path = "", filepath.FromSlash(u.Path)
	return f
}

// kindAndName returns whether the feed is a file or a URL, and a name for a feed that has none. An error does not quote the URL, which may
// hold a secret.
func (f Feed) kindAndName() (kind Kind, name string, err error) {
	switch {
	case f.URL == "" && f.Path == "":
		return "", "", errors.New("it names neither a path nor a URL")
	case f.URL != "" && f.Path != "":
		return "", "", errors.New("it names both a path and a URL; remove one of them")
	case f.Path != "":
		return KindFile, f.Path, nil
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return "", "", errors.New("it is neither a path nor a URL")
	}
	if err := f.origin().Check(); err != nil {
		return "", "", err
	}
	return KindURL, redacted(u), nil
}

// origin returns the origin of a feed with a URL.
func (f Feed) origin() fetch.Origin { return fetch.Origin{URL: f.URL, Format: f.Format, TSIG: f.TSIG} }

// The bounds of what a feeds file may ask.
const (
	minInterval = time.Minute
	maxInterval = 7 * 24 * time.Hour
	maxWeight   = 1000
	maxFeeds    = 10_000
	maxFeedFile = 16 << 20
)

// feedFile is the form of a feeds file.
type feedFile struct {
	Feed []feedEntry `toml:"feed"`
}

type feedEntry struct {
	Name     string `toml:"name"`
	URL      string `toml:"url"`
	Path     string `toml:"path"`
	TSIG     string `toml:"tsig"`
	Licence  string `toml:"licence"`
	Format   string `toml:"format"`
	Policy   string `toml:"policy"`
	DeepURLs bool   `toml:"deep_urls"`
	Category string `toml:"category"`
	Scope    string `toml:"scope"`
	Weight   int    `toml:"weight"`
	Quorum   int    `toml:"quorum"`
	Interval string `toml:"interval"`
	MaxAge   string `toml:"max_age"`
}

// feedKeys are the keys of a feed, for messages.
const feedKeys = "name, url, path, tsig, format, policy, category, scope, weight, quorum, interval, max_age, deep_urls, licence"

// ReadFeeds reads a feeds file: TOML, a [[feed]] table each. Paths in it are relative to dir. An error begins with the line, and says what would
// be right in the file's own terms. It holds no URL, which may hold a secret.
func ReadFeeds(r io.Reader, dir string) ([]Feed, error) {
	text, err := format.Text(bounded.NewReader(r, maxFeedFile))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(text)
	if err != nil {
		return nil, err
	}
	var file feedFile
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&file); err != nil {
		return nil, decodeError(err)
	}
	if len(file.Feed) > maxFeeds {
		return nil, fmt.Errorf("more than %d feeds", maxFeeds)
	}
	var feeds []Feed
	names, origins := map[string]bool{}, map[string]string{}
	for i, e := range file.Feed {
		f, err := e.feed(dir)
		switch {
		case err != nil:
		case names[f.Name]:
			err = &keyError{"name", errors.New("another feed has that name")}
		case origins[f.URL+f.Path] != "":
			err = &keyError{"url", fmt.Errorf("it is read from where %q is", origins[f.URL+f.Path])}
		}
		if err != nil {
			called := fmt.Sprintf("feed %d", i+1)
			if e.Name != "" {
				called = fmt.Sprintf("feed %.200q", e.Name)
			}
			return nil, fmt.Errorf("line %d: %s: %w", lineOfKey(data, i, keyOf(err)), called, err)
		}
		names[f.Name], origins[f.URL+f.Path] = true, f.Name
		feeds = append(feeds, f)
	}
	return feeds, nil
}

// decodeError puts an error of the TOML decoder, which names Go's types, in the file's terms.
func decodeError(err error) error {
	strict, syntax := (*toml.StrictMissingError)(nil), (*toml.DecodeError)(nil)
	switch {
	case errors.As(err, &strict):
		row, _ := strict.Errors[0].Position()
		key := strict.Errors[0].Key()
		if len(key) == 0 || key[0] != "feed" {
			return fmt.Errorf("line %d: %q belongs to no feed: begin each feed with [[feed]]", row, strings.Join(key, "."))
		}
		return fmt.Errorf("line %d: there is no key %q (the keys are %s)", row, strings.Join(key[1:], "."), feedKeys)
	case errors.As(err, &syntax):
		row, column := syntax.Position()
		if key := syntax.Key(); len(key) > 0 {
			return fmt.Errorf("line %d: %s", row, wrongType(key))
		}
		return fmt.Errorf("line %d, column %d: %s", row, column, strings.TrimPrefix(syntax.Error(), "toml: "))
	}
	return err
}

// wrongType says what the value of a key must be.
func wrongType(key []string) string {
	if len(key) == 1 {
		return "feeds are tables: begin each with [[feed]]"
	}
	switch name := strings.Join(key[1:], "."); name {
	case "weight", "quorum":
		return name + " is a whole number without quotes, like 3"
	case "deep_urls":
		return name + " is true or false, without quotes"
	default:
		return name + " is a text in quotes"
	}
}

// keyError is the error of the value of a key.
type keyError struct {
	key string
	err error
}

func (e *keyError) Error() string { return e.key + ": " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// keyOf returns the key that an error is about, "" for the whole feed.
func keyOf(err error) string {
	if e := (*keyError)(nil); errors.As(err, &e) {
		return e.key
	}
	return ""
}

// lineOfKey returns the line of a key of the feed with that index in a sound file, or of its [[feed]] if it does not have that key.
func lineOfKey(data []byte, feed int, key string) int {
	p := &unstable.Parser{}
	p.Reset(data)
	found := 0 // offset
	for i := -1; i <= feed && p.NextExpression(); {
		e := p.Expression()
		keys := e.Key()
		if !keys.Next() {
			continue
		}
		at := int(p.Range(keys.Node().Data).Offset)
		switch e.Kind {
		case unstable.ArrayTable, unstable.Table:
			if i++; i == feed {
				found = at
			}
		case unstable.KeyValue:
			if i == feed && string(keys.Node().Data) == key {
				found = at
			}
		}
	}
	return 1 + bytes.Count(data[:found], []byte("\n"))
}

// feed checks an entry.
func (e feedEntry) feed(dir string) (Feed, error) {
	f := Feed{
		Name: e.Name, URL: e.URL, Path: e.Path, TSIG: e.TSIG, Licence: e.Licence, DeepURLs: e.DeepURLs,
		Weight: e.Weight, Quorum: e.Quorum, Policy: Policy(e.Policy),
	}
	if f.Name == "" || len(f.Name) > 200 || strings.ContainsFunc(f.Name, func(c rune) bool { return c < ' ' }) {
		return f, errors.New("give it a name, of 200 bytes at most")
	}
	f = f.local()
	if f.Path != "" && !filepath.IsAbs(f.Path) {
		f.Path = filepath.Join(dir, f.Path)
	}
	for _, check := range []struct {
		key string
		of  func() error
	}{
		{"format", func() (err error) { f.Format, err = format.ParseFormat(e.Format); return err }},
		{"policy", f.Policy.check},
		{"category", func() (err error) { f.Category, err = category(e.Category); return err }},
		{"scope", func() (err error) { f.Scope, err = scope(e.Scope); return err }},
		{"weight", func() error { return number1000(e.Weight) }},
		{"quorum", func() error { return number1000(e.Quorum) }},
		{"interval", func() (err error) { f.Interval, err = duration(e.Interval, minInterval, maxInterval); return err }},
		{"max_age", func() (err error) { f.MaxAge, err = duration(e.MaxAge, minInterval, 10*365*24*time.Hour); return err }},
	} {
		if err := check.of(); err != nil {
			return f, &keyError{check.key, err}
		}
	}
	_, _, err := f.kindAndName()
	if err != nil && f.URL != "" {
		err = &keyError{"url", err}
	}
	return f, err
}

func (p Policy) check() error {
	switch p {
	case "", PolicyRefuse, PolicyBlock:
		return nil
	}
	return fmt.Errorf("there is no policy %q: it is %q, which blocks names whose records lead to another name or address, or %q, the default", string(p), string(PolicyBlock), string(PolicyRefuse))
}

func category(text string) (blocklist.Category, error) {
	c, ok := blocklist.ParseCategory(text)
	if !ok && text != "" {
		return c, fmt.Errorf("there is no category %q: it is one of %s", text, strings.Join(blocklist.CategoryNames(), ", "))
	}
	return c, nil
}

func scope(text string) (blocklist.Scope, error) {
	s, ok := blocklist.ParseScope(text)
	if !ok && text != "" {
		return s, fmt.Errorf("there is no scope %q: it is exact, below or subtree", text)
	}
	return s, nil
}

// number1000 checks a weight or a quorum.
func number1000(n int) error {
	if n < 0 || n > maxWeight {
		return fmt.Errorf("%d is not from 1 to %d", n, maxWeight)
	}
	return nil
}

// duration reads a duration between two bounds; "" is 0.
func duration(text string, least, most time.Duration) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := units.ParseDuration(text)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%q is no duration from %s to %dd: write it like 90m, 12h, 7d or 2w", text, least, most/(24*time.Hour))
	}
	return d, nil
}
