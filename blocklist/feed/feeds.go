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

// Feed is a list with its settings. A Feed with a URL or a path and no other settings is valid.
type Feed struct {
	Name     string // its name for people and logs; never empty in a feeds file
	URL      string // http, https, or axfr for a zone transfer; may hold a secret
	Path     string // of a file, instead of a URL
	TSIG     string // of a zone transfer: "[algorithm:]key-name:secret"
	Licence  string // shown, no more
	Format   format.Format
	Policy   Policy             // the meaning of a record that redirects to another name or address; "" is PolicyRefuse
	DeepURLs bool               // the host of a URL that names a page is listed too, unless it is shared
	Category blocklist.Category // of names to which the list gives no category
	Scope    blocklist.Scope    // of every name; 0: as the list's format implies
	Weight   int                // its weight in the quorum of other lists; 0 is 1
	Quorum   int                // the total weight of the lists of a name from which a block of this list is in effect; 0 is 1
	Interval time.Duration      // between two fetches; 0: Config.Refresh
	MaxAge   time.Duration      // without a successful fetch, after which its listings are not in effect; 0: unlimited
}

// Policy is the meaning of a list's records that redirect to another name or address.
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

// origin returns the kind of the feed's origin, and a name for it if it has none. An error does not quote a URL, which may hold a secret.
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

// from returns the origin of a feed with a URL.
func (f Feed) from() fetch.Origin { return fetch.Origin{URL: f.URL, Format: f.Format, TSIG: f.TSIG} }
