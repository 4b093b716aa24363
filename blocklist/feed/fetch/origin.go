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
	Format format.Format // MISP and TAXII are fetched by protocols of their own over HTTP
	TSIG   string        // the key for axfr: "[algorithm:]name:secret" with the secret in base64, as for dig -y; "" for none
}

// protocol is a protocol by which lists are fetched.
type protocol uint8

const (
	overHTTP  protocol = iota // one answer is the list
	overMISP                  // a manifest, and one file per event
	overTAXII                 // a collection, page by page
	overAXFR                  // a zone transfer
)

// protocol parses the origin's URL, and returns the protocol by which the list is fetched. Errors quote no part of the URL.
func (o Origin) protocol() (protocol, *url.URL, error) {
	listFormat, err := format.ParseFormat(string(o.Format))
	if err != nil {
		return 0, nil, err
	}
	u, err := url.Parse(o.URL)
	switch {
	case err == nil && u.Scheme == "file":
		return 0, nil, errors.New("a file URL must look like file:///etc/rempart/list.txt; a plain path is also accepted")
	case err != nil || u.Hostname() == "": // err quotes the URL
		return 0, nil, errors.New("it is not a URL with a host")
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

// Check returns an error if the origin is invalid. It connects to no server. Errors hold no secret.
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
			return fmt.Errorf("a zone transfer returns a policy zone: its format must be %s, not %s", format.RPZ, f)
		}
		_, err = newPrimary(u, o.TSIG)
	case overTAXII:
		_, err = objectsOf(u)
	}
	return err
}

// Fetch fetches the list of an origin into the file at path, unless the content that known identifies is still current. The file is one body
// in the origin's format. before is the path of the body that was fetched last and that known identifies, or "": if the protocol allows it,
// Fetch fetches only the changes since that body. On an error, the file at path is unchanged. Errors never hold a password, query or key; an
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
