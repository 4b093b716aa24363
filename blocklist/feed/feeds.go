package feed

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"rempart/blocklist"
	"rempart/internal/units"
)

// Feed is a list and what is asked of it. Its zero value, with a URL or a path, is good.
type Feed struct {
	Name     string // what people and logs call it; of a feeds file, never empty
	URL      string // http, https, or axfr for a zone transfer; may hold a secret
	Path     string // of a file, instead of a URL
	TSIG     string // of a zone transfer: "[algorithm:]key-name:secret"
	Licence  string // shown, no more
	Format   Format
	Policy   Policy             // what a record that leads to another name or address means; "" is PolicyRefuse
	DeepURLs bool               // the host of a URL that names a page is listed too, unless it is shared
	Category blocklist.Category // of what the list gives no category
	Scope    blocklist.Scope    // of every name, whatever the list's form says; 0: as its form says
	Weight   int                // how much its word counts for those who want others to agree; 0 is 1
	Quorum   int                // how much the lists of a name must weigh together for this one's word to count; 0 is 1
	Interval time.Duration      // how often it is asked again; 0: Config.Refresh
	MaxAge   time.Duration      // after which, unless it could be fetched again, nothing it lists counts; 0: never
}

// Policy is what a list's records that lead to another name or address mean.
type Policy string

const (
	PolicyRefuse Policy = "refuse" // an answer of its own: the name is not blocked
	PolicyBlock  Policy = "block"  // a block: the target is the publisher's landing page or sinkhole
)

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

// ReadFeeds reads a feeds file: TOML, a [[feed]] table each. Paths in it are relative to dir. An error names the line, or the
// feed, and what would be right.
func ReadFeeds(r io.Reader, dir string) ([]Feed, error) {
	var file feedFile
	err := toml.NewDecoder(&bounded{r: r, left: maxFeedFile}).DisallowUnknownFields().Decode(&file)
	strict, syntax := (*toml.StrictMissingError)(nil), (*toml.DecodeError)(nil)
	switch {
	case errors.As(err, &strict):
		row, _ := strict.Errors[0].Position()
		return nil, fmt.Errorf("line %d: there is no key %q (the keys are name, url, path, tsig, format, policy, category, scope, weight, quorum, interval, max_age, deep_urls, licence)",
			row, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &syntax):
		row, column := syntax.Position()
		return nil, fmt.Errorf("line %d, column %d: %s", row, column, strings.TrimPrefix(syntax.Error(), "toml: "))
	case err != nil:
		return nil, err
	case len(file.Feed) > maxFeeds:
		return nil, fmt.Errorf("more than %d feeds", maxFeeds)
	}
	var feeds []Feed
	names, origins := map[string]bool{}, map[string]string{}
	for i, e := range file.Feed {
		f, err := e.feed(dir)
		switch {
		case err != nil && e.Name == "":
			return nil, fmt.Errorf("feed %d: %w", i+1, err)
		case err != nil:
			return nil, fmt.Errorf("feed %q: %w", e.Name, err)
		case names[f.Name]:
			return nil, fmt.Errorf("feed %q: another feed has that name", f.Name)
		case origins[f.URL+f.Path] != "":
			return nil, fmt.Errorf("feed %q: it is read from where %q is", f.Name, origins[f.URL+f.Path])
		}
		names[f.Name], origins[f.URL+f.Path] = true, f.Name
		feeds = append(feeds, f)
	}
	return feeds, nil
}

// feed checks an entry.
func (e feedEntry) feed(dir string) (Feed, error) {
	f := Feed{
		Name: e.Name, URL: e.URL, Path: e.Path, TSIG: e.TSIG, Licence: e.Licence, DeepURLs: e.DeepURLs,
		Weight: e.Weight, Quorum: e.Quorum,
	}
	if f.Name == "" || len(f.Name) > 200 || strings.ContainsFunc(f.Name, func(c rune) bool { return c < ' ' }) {
		return f, errors.New("give it a name, of 200 octets at most")
	}
	if f.Path != "" && !filepath.IsAbs(f.Path) {
		f.Path = filepath.Join(dir, f.Path)
	}
	var err error
	if f.Format, err = ParseFormat(e.Format); err != nil {
		return f, err
	}
	switch f.Policy = Policy(e.Policy); f.Policy {
	case "", PolicyRefuse, PolicyBlock:
	default:
		return f, fmt.Errorf("there is no policy %q: it is %q, which takes records that lead to another name or address for blocks, or %q, the default", e.Policy, PolicyBlock, PolicyRefuse)
	}
	ok := true
	if e.Category != "" {
		if f.Category, ok = blocklist.ParseCategory(e.Category); !ok {
			return f, fmt.Errorf("there is no category %q: it is one of malicious, malware, phishing, scam, botnet, stalkerware", e.Category)
		}
	}
	if e.Scope != "" {
		if f.Scope, ok = blocklist.ParseScope(e.Scope); !ok {
			return f, fmt.Errorf("there is no scope %q: it is exact, below or subtree", e.Scope)
		}
	}
	if f.Weight < 0 || f.Weight > maxWeight || f.Quorum < 0 || f.Quorum > maxWeight {
		return f, fmt.Errorf("weight and quorum are from 1 to %d", maxWeight)
	}
	if f.Interval, err = duration(e.Interval, minInterval, maxInterval); err != nil {
		return f, fmt.Errorf("interval: %w", err)
	}
	if f.MaxAge, err = duration(e.MaxAge, minInterval, 10*365*24*time.Hour); err != nil {
		return f, fmt.Errorf("max_age: %w", err)
	}
	_, _, err = f.origin()
	return f, err
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

// origin says where the feed comes from, and what to call it where it has no name. An error does not quote a URL, which may hold a secret.
func (f Feed) origin() (kind Kind, name string, err error) {
	switch {
	case f.URL == "" && f.Path == "":
		return "", "", errors.New("it names neither a path nor a URL")
	case f.URL != "" && f.Path != "":
		return "", "", errors.New("it names both a path and a URL: which one?")
	case f.Path != "":
		return KindFile, f.Path, nil
	}
	u, err := url.Parse(f.URL)
	if err != nil {
		return "", "", errors.New("it is neither a path nor a URL")
	}
	if err := f.from().check(); err != nil {
		return "", "", err
	}
	return KindURL, redacted(u), nil
}

// from is where a feed with a URL is fetched from.
func (f Feed) from() Origin { return Origin{URL: f.URL, Format: f.Format, TSIG: f.TSIG} }
