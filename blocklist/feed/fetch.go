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
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/internal/durable"
	"rempart/internal/redirect"
)

const (
	maxBody      = 512 << 20 // octets of a list as fetched, or as a file
	maxFetches   = 4         // at a time
	maxRedirects = redirect.Max
	maxHeader    = 64 << 10 // octets
	maxValidator = 1 << 10  // octets of an ETag that are kept
)

// fetcher gets lists. It may be used from any goroutine.
type fetcher struct {
	client *http.Client
	follow *redirect.Follower // sends requests by client
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy  func(*url.URL) (*url.URL, error) // never nil
	limit  int64                            // octets of a body
	part   time.Duration                    // of one MISP event, or one message of a zone transfer
}

// newFetcher returns a fetcher that connects by dial, and asks the proxy of a URL, if it has one, instead of its host. Both may be nil.
func newFetcher(dial func(ctx context.Context, network, addr string) (net.Conn, error), proxy func(*url.URL) (*url.URL, error)) fetcher {
	if proxy == nil {
		proxy = func(*url.URL) (*url.URL, error) { return nil, nil }
	}
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	client := &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			Proxy:                  func(req *http.Request) (*url.URL, error) { return proxy(req.URL) },
			TLSHandshakeTimeout:    15 * time.Second,
			ResponseHeaderTimeout:  time.Minute,
			MaxResponseHeaderBytes: maxHeader,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    maxEventFetches,
			IdleConnTimeout:        10 * time.Second, // events and pages follow each other at once; an hour passes until the next list
		},
	}
	return fetcher{client: client, follow: redirect.NewFollower(client, proxy), dial: dial, proxy: proxy, limit: maxBody, part: time.Minute}
}

// fetched is a successful answer.
type fetched struct {
	same   bool   // what is known is still it: nothing was written
	body   uint64 // hash of what was written
	known  validators
	at     time.Time
	missed int // MISP events that could not be had; the next fetch tries again
}

// validators are what a server said of a content, for it to tell whether it changed. The zero value
// asks for all, without conditions.
type validators struct {
	ETag         string `json:"etag,omitempty"`          // RFC 9110 section 8.8
	LastModified string `json:"last_modified,omitempty"` // the same
	Serial       string `json:"serial,omitempty"`        // of a zone, decimal
	AddedLast    string `json:"added_last,omitempty"`    // when the newest object was added to a TAXII collection, as its server writes it
	Complete     int64  `json:"complete,omitempty"`      // when a TAXII collection was last fetched in full, Unix seconds
}

// conditions asks for a content only if it is not the one v is of.
func (v validators) conditions() http.Header {
	h := http.Header{}
	if v.ETag != "" {
		h.Set("If-None-Match", v.ETag)
	}
	if v.LastModified != "" {
		h.Set("If-Modified-Since", v.LastModified)
	}
	return h
}

func validatorsOf(resp *http.Response) validators {
	return validators{ETag: validator(resp, "ETag"), LastModified: validator(resp, "Last-Modified")}
}

// get fetches source into the file at path unless it is still what known says.
func (f fetcher) get(ctx context.Context, source string, known validators, path string) (fetched, error) {
	resp, err := f.open(ctx, source, known.conditions())
	if err != nil {
		return fetched{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return fetched{same: true, at: time.Now(), known: known}, nil
	}
	if resp.ContentLength > f.limit {
		return fetched{}, fmt.Errorf("fetch: %d octets: %w", resp.ContentLength, ErrTooLarge)
	}
	// The transport asks for gzip and undoes it: the bound is on what comes out.
	sum, err := f.writeBody(path, func(w io.Writer) error {
		_, err := io.Copy(w, resp.Body)
		return err
	})
	if err != nil {
		return fetched{}, fmt.Errorf("fetch: %w", err)
	}
	return fetched{body: sum, at: time.Now(), known: validatorsOf(resp)}, nil
}

// open asks for source. The answer is 200, or 304 if header holds conditions; any other is an error, a
// *statusError. Closing its body is the caller's. Errors never hold the source's password or query.
func (f fetcher) open(ctx context.Context, source string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, errors.New("not a URL to fetch") // err quotes it
	}
	req.Header = header
	conditional := header.Get("If-None-Match")+header.Get("If-Modified-Since") != ""
	req.Header.Set("User-Agent", "rempart")
	resp, err := f.follow.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err // the outer one quotes the URL
		}
		err = discreet(err, req.URL)
		if via, proxyErr := f.proxy(req.URL); proxyErr == nil && via != nil {
			err = fmt.Errorf("by the proxy %s: %w", via.Host, discreet(err, via))
		}
		return nil, fmt.Errorf("fetch: %w", err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotModified && conditional {
		return resp, nil
	}
	resp.Body.Close()
	return nil, fmt.Errorf("fetch: %w", &statusError{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), time.Now())})
}

// statusError is an answer that is no success.
type statusError struct {
	code  int
	after time.Duration // how long the server wants to be left alone; 0 if it does not say
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("the server answered %d %s", e.code, http.StatusText(e.code))
	switch {
	case e.code == http.StatusProxyAuthRequired:
		text += ": the proxy wants a user and a password, in the URL that HTTP_PROXY or HTTPS_PROXY holds"
	case e.after > 0:
		text += fmt.Sprintf(" and wants to be asked again in %s", e.after)
	}
	return text
}

// maxRetryAfter bounds how long a server can keep a list from being asked for.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads the header field Retry-After (RFC 9110 section 10.2.3): seconds, or a date. Without a sound value it is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now).Truncate(time.Second), maxRetryAfter))
}

// discreet is err, or one that says less if err quotes what source keeps secret: a server may send
// back what it was asked.
func discreet(err error, source *url.URL) error {
	secrets := []string{source.RawQuery}
	if password, ok := source.User.Password(); ok {
		secrets = append(secrets, password, source.User.String())
	}
	for _, values := range source.Query() {
		for _, v := range values {
			secrets = append(secrets, v, url.QueryEscape(v))
		}
	}
	for _, secret := range secrets {
		if len(secret) > 3 && strings.Contains(err.Error(), secret) {
			return errors.New("it failed with a message that repeats a secret of the URL, and is not shown")
		}
	}
	return err
}

// writeBody replaces the file at path by what write writes, and returns its hash.
func (f fetcher) writeBody(path string, write func(io.Writer) error) (uint64, error) {
	hash := xxhash.New()
	err := durable.WriteFile(path, func(w io.Writer) error {
		return write(&capped{w: io.MultiWriter(w, hash), left: f.limit})
	})
	return hash.Sum64(), err
}

// capped fails with ErrTooLarge where a writer goes past its bound.
type capped struct {
	w    io.Writer
	left int64
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, ErrTooLarge
	}
	return c.w.Write(p)
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
// one result, whatever happens, unless done is closed, and reads nothing of li that changes.
func (l *Lists) downloading(ctx context.Context, slots chan struct{}, li *list, done <-chan struct{}) func() {
	li.busy = true
	known, before, kept := validators{}, "", uint64(0)
	if current, err := l.current(li); err == nil && current {
		known, before, kept = li.copy.validators, l.store.path(li.key, bodySuffix), li.copy.Body
	}
	from := li.feed.from()
	return func() {
		if before != "" {
			if body, err := hashFile(before); err != nil || body != kept { // a damaged body is fetched whole, and no difference is applied to it
				known, before = validators{}, ""
			}
		}
		r := l.download(ctx, slots, from, known, before, l.store.path(li.key, newBodySuffix))
		r.list = li
		select {
		case l.results <- r:
		case <-done:
		}
	}
}

func (l *Lists) download(ctx context.Context, slots chan struct{}, from Origin, known validators, before, path string) (r download) {
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		r.err = ctx.Err()
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, l.timing.fetch)
	defer cancel()
	r.got, r.err = l.fetch.fetch(ctx, from, known, before, path)
	return r
}

// ingest takes in what came of fetching a list.
func (l *Lists) ingest(r download) {
	if r.list.gone {
		l.discard(r)
		return
	}
	r.list.busy = false
	err := r.err
	if err == nil {
		err = l.takeBody(r.list, r.got)
	}
	l.settle(r.list, time.Now(), err)
}

func (l *Lists) takeBody(li *list, got fetched) error {
	path := l.store.path(li.key, newBodySuffix)
	if got.missed > 0 {
		l.log.Warn("some of a list could not be had; what was known of that stays", "list", li.name, "events", got.missed)
	}
	if got.same && li.copy == nil {
		return errors.New("its copy was lost while the server was asked whether it changed")
	}
	current, err := l.current(li)
	if err != nil {
		return err
	}
	if got.same || current && got.body == li.copy.Body {
		li.copy.Fetched = got.at
		li.copy.validators = got.known
		if !got.same {
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
