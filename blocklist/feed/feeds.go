package feed

import (
	"errors"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/fetch"
	"rempart/blocklist/feed/format"
)

// Feed is a list and what is asked of it. Its zero value, with a URL or a path, is good.
type Feed struct {
	Name     string // what people and logs call it; of a feeds file, never empty
	URL      string // http, https, or axfr for a zone transfer; may hold a secret
	Path     string // of a file, instead of a URL
	TSIG     string // of a zone transfer: "[algorithm:]key-name:secret"
	Licence  string // shown, no more
	Format   format.Format
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

// local returns the feed with the path that its URL is, if it is a file URL (RFC 8089) of this machine. It leaves others as they are.
func (f Feed) local() Feed {
	u, err := url.Parse(f.URL)
	if err != nil || u.Scheme != "file" || u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || f.Path != "" {
		return f
	}
	f.URL, f.Path = "", filepath.FromSlash(u.Path)
	return f
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
	if err := f.from().Check(); err != nil {
		return "", "", err
	}
	return KindURL, redacted(u), nil
}

// from is where a feed with a URL is fetched from.
func (f Feed) from() fetch.Origin { return fetch.Origin{URL: f.URL, Format: f.Format, TSIG: f.TSIG} }
