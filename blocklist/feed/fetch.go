package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/internal/durable"
)

const (
	maxBody      = 512 << 20 // octets of a list as fetched, or as a file
	maxFetches   = 4         // at a time
	maxRedirects = 5
	maxHeader    = 64 << 10 // octets
	maxValidator = 1 << 10  // octets of an ETag that are kept
)

// fetcher gets lists over HTTP.
type fetcher struct {
	client *http.Client
	limit  int64 // octets of a body
}

func newFetcher(dial func(ctx context.Context, network, addr string) (net.Conn, error)) fetcher {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	return fetcher{
		limit: maxBody,
		client: &http.Client{
			CheckRedirect: checkRedirect,
			Transport: &http.Transport{
				DialContext:            dial,
				TLSHandshakeTimeout:    15 * time.Second,
				ResponseHeaderTimeout:  time.Minute,
				MaxResponseHeaderBytes: maxHeader,
				ForceAttemptHTTP2:      true,
				DisableKeepAlives:      true, // an hour passes until the next
			},
		},
	}
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return errors.New("redirected to something else than http or https")
	case req.URL.Scheme == "http" && via[0].URL.Scheme == "https":
		return errors.New("redirected from https to http, which anyone on the way can alter")
	}
	req.Header.Del("Referer") // its query may be a token
	return nil
}

// fetched is a successful answer.
type fetched struct {
	same  bool // 304: what is known is still it
	body  uint64
	known validators
	at    time.Time
}

// validators are what a server said of a content, for it to tell whether it changed
// (RFC 9110 section 8.8). The zero value asks without conditions.
type validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// get fetches source into the file at path unless it is still what known says.
// Errors never hold the source's password or query.
func (f fetcher) get(ctx context.Context, source string, known validators, path string) (fetched, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return fetched{}, errors.New("not a URL to fetch")
	}
	req.Header.Set("User-Agent", "rempart")
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		req.Header.Set("If-Modified-Since", known.LastModified)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err // the outer one quotes the URL
		}
		return fetched{}, fmt.Errorf("fetch: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && known != validators{}:
		return fetched{same: true, at: time.Now()}, nil
	case resp.StatusCode != http.StatusOK:
		return fetched{}, fmt.Errorf("fetch: the server answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	case resp.ContentLength > f.limit:
		return fetched{}, fmt.Errorf("fetch: %d octets: %w", resp.ContentLength, ErrTooLarge)
	}
	// The transport asks for gzip and undoes it: the bound is on what comes out.
	hash := xxhash.New()
	err = durable.WriteFile(path, func(w io.Writer) error {
		_, err := io.Copy(io.MultiWriter(w, hash), &bounded{r: resp.Body, left: f.limit})
		return err
	})
	if err != nil {
		return fetched{}, fmt.Errorf("fetch: %w", err)
	}
	return fetched{
		body: hash.Sum64(), at: time.Now(),
		known: validators{ETag: validator(resp, "ETag"), LastModified: validator(resp, "Last-Modified")},
	}, nil
}

func validator(resp *http.Response, header string) string {
	v := resp.Header.Get(header)
	if len(v) > maxValidator {
		return ""
	}
	return v
}

// download is what came of fetching a list.
type download struct {
	list *list
	got  fetched
	err  error
}

// downloading marks li as being fetched and returns what is to run beside the writer: it sends
// one result, whatever happens, and reads of li what never changes.
func (l *Lists) downloading(ctx context.Context, slots chan struct{}, li *list) func() {
	li.busy = true
	known := validators{}
	if current, err := l.current(li); err == nil && current {
		known = li.copy.validators
	}
	return func() { l.download(ctx, slots, li, known) }
}

func (l *Lists) download(ctx context.Context, slots chan struct{}, li *list, known validators) {
	r := download{list: li}
	defer func() { l.results <- r }() // has room for every list
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		r.err = ctx.Err()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.timing.fetch)
	defer cancel()
	r.got, r.err = l.fetch.get(ctx, li.source, known, l.store.path(li.key, newBodySuffix))
}

// ingest takes in what came of fetching a list.
func (l *Lists) ingest(r download) {
	r.list.busy = false
	err := r.err
	if err == nil {
		err = l.takeBody(r.list, r.got)
	}
	l.settle(r.list, time.Now(), err)
}

func (l *Lists) takeBody(li *list, got fetched) error {
	path := l.store.path(li.key, newBodySuffix)
	if got.same && li.copy == nil {
		return errors.New("its copy was lost while the server was asked whether it changed")
	}
	current, err := l.current(li)
	if err != nil {
		return err
	}
	if got.same || current && got.body == li.copy.Body {
		li.copy.Fetched = got.at
		if !got.same {
			li.copy.validators = got.known
			if err := os.Remove(path); err != nil {
				return err
			}
		}
		return l.store.saveRecord(li.key, li.copy)
	}
	t, err := l.takeIn(li, path, got.at)
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	t.record.validators = got.known
	if err := os.Rename(path, l.store.path(li.key, bodySuffix)); err != nil { // keep syncs the folder
		return err
	}
	return l.keep(li, t)
}
