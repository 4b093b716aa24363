package feed

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Origin says where a list is fetched from, and in what way.
type Origin struct {
	URL    string // http, https, or "axfr://host[:port]/zone"; may hold a password or a token
	Format Format // misp and taxii have ways of their own over HTTP
	TSIG   string // of axfr: "[algorithm:]name:secret", the secret in base64, as dig -y takes it; "" for none
}

// way is how a list is had.
type way uint8

const (
	overHTTP  way = iota // one answer is the list
	overMISP             // a manifest, and an event a file
	overTAXII            // a collection, page by page
	overAXFR             // a zone transfer
)

// way parses the origin's URL and tells how to use it. Errors hold no part of it.
func (o Origin) way() (way, *url.URL, error) {
	format, err := ParseFormat(string(o.Format))
	if err != nil {
		return 0, nil, err
	}
	u, err := url.Parse(o.URL)
	switch {
	case err == nil && u.Scheme == "file":
		return 0, nil, errors.New("a file URL is written like file:///etc/rempart/list.txt; a path does as well")
	case err != nil || u.Hostname() == "": // err quotes the URL
		return 0, nil, errors.New("it is no URL with a host")
	case u.Scheme == "axfr":
		return overAXFR, u, nil
	case u.Scheme != "http" && u.Scheme != "https":
		return 0, nil, errors.New("its URL is neither http, https nor axfr")
	case format == FormatTAXII:
		return overTAXII, u, nil
	case format == FormatMISP && (u.Path == "" || strings.HasSuffix(u.Path, "/") || path.Base(u.Path) == manifestFile):
		return overMISP, u, nil
	}
	return overHTTP, u, nil
}

// check reports what cannot work, whatever the server. Errors hold no secret.
func (o Origin) check() error {
	w, u, err := o.way()
	if err != nil {
		return err
	}
	if o.TSIG != "" && w != overAXFR {
		return errors.New("a TSIG key is for zone transfers (axfr://) only")
	}
	switch w {
	case overAXFR:
		if f, _ := ParseFormat(string(o.Format)); f != FormatRPZ && f != FormatAuto {
			return fmt.Errorf("a zone transfer gives a policy zone: its format is %s, not %s", FormatRPZ, f)
		}
		_, err = newPrimary(u, o.TSIG)
	case overTAXII:
		_, err = objectsOf(u)
	}
	return err
}

// fetch fetches what from says into the file at path unless it is still what known says. before is the
// path of the body fetched last, the one known is of, or "": where the way allows it only what changed
// since is asked for. On an error path holds what it held. What is written is one body, for Parse with
// the origin's format. Errors never hold a password, query or key.
func (f fetcher) fetch(ctx context.Context, from Origin, known validators, before, path string) (fetched, error) {
	if err := from.check(); err != nil {
		return fetched{}, err
	}
	w, u, err := from.way()
	if err != nil {
		return fetched{}, err
	}
	switch w {
	case overAXFR:
		return f.transfer(ctx, u, from.TSIG, known, before, path)
	case overMISP:
		return f.events(ctx, u, known, before, path)
	case overTAXII:
		return f.collection(ctx, u, known, before, path)
	}
	return f.get(ctx, from.URL, known, path)
}
