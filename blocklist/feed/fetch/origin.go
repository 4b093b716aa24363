package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"

	"rempart/blocklist/feed/format"
)

// Origin is the address of a published list.
type Origin struct {
	URL    string        // http, https, or "axfr://host[:port]/zone"; may hold a password or a token
	Format format.Format // MISP and TAXII have protocols of their own over HTTP
	TSIG   string        // of axfr: "[algorithm:]name:secret", the secret in base64, as dig -y takes it; "" for none
}

// protocol is the way to fetch a list.
type protocol uint8

const (
	overHTTP  protocol = iota // one answer is the list
	overMISP                  // a manifest, and one file per event
	overTAXII                 // a collection, page by page
	overAXFR                  // a zone transfer
)

// protocol parses the origin's URL and returns the way to fetch it. Errors hold no part of the URL.
func (o Origin) protocol() (protocol, *url.URL, error) {
	listFormat, err := format.ParseFormat(string(o.Format))
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
	case listFormat == format.TAXII:
		return overTAXII, u, nil
	case listFormat == format.MISP && (u.Path == "" || strings.HasSuffix(u.Path, "/") || path.Base(u.Path) == manifestFile):
		return overMISP, u, nil
	}
	return overHTTP, u, nil
}

// Check returns an error if the origin cannot work with any server. Errors hold no secret.
func (o Origin) Check() error {
	w, u, err := o.protocol()
	if err != nil {
		return err
	}
	if o.TSIG != "" && w != overAXFR {
		return errors.New("a TSIG key is for zone transfers (axfr://) only")
	}
	switch w {
	case overAXFR:
		if f, _ := format.ParseFormat(string(o.Format)); f != format.RPZ && f != format.Auto {
			return fmt.Errorf("a zone transfer gives a policy zone: its format is %s, not %s", format.RPZ, f)
		}
		_, err = newPrimary(u, o.TSIG)
	case overTAXII:
		_, err = objectsOf(u)
	}
	return err
}

// Fetch fetches the list of an origin into the file at path unless its content is still the one that known identifies. before is the path
// of the body fetched last, which known identifies, or "": if the protocol allows it, only the changes since are fetched. On an error the
// file at path is as it was. The file is one body, to be parsed with the origin's format. Errors never hold a password, query or key; an
// HTTP answer that is not a success is a *StatusError.
func (f Client) Fetch(ctx context.Context, from Origin, known Validators, before, path string) (Result, error) {
	if err := from.Check(); err != nil {
		return Result{}, err
	}
	w, u, err := from.protocol()
	if err != nil {
		return Result{}, err
	}
	switch w {
	case overAXFR:
		return f.fetchZone(ctx, u, from.TSIG, known, before, path)
	case overMISP:
		return f.fetchEvents(ctx, u, known, before, path)
	case overTAXII:
		return f.fetchCollection(ctx, u, known, before, path)
	}
	return f.fetchBody(ctx, from.URL, known, path)
}
