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
