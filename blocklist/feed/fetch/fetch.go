package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist/feed/bounded"
	"rempart/internal/durable"
	"rempart/internal/redirect"
)

const (
	MaxBody      = 512 << 20 // bytes of a list as fetched, or as a file
	maxRedirects = redirect.Max
	maxHeader    = 64 << 10 // bytes
	maxValidator = 1 << 10  // bytes of an ETag that are kept
)

// Config configures the connections of a Client. Its zero value is ready to use.
type Config struct {
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a net.Dialer
	Proxy   func(*url.URL) (*url.URL, error)                                  // returns the proxy for a URL, or nil to connect directly; a nil function: no proxy
	RootCAs *x509.CertPool                                                    // the trusted certificate authorities; nil: the system's
	MaxBody int64                                                             // the largest body in bytes; 0: the constant MaxBody
}

// Client fetches lists. Its methods may be called from any goroutine.
type Client struct {
	client      *http.Client
	follow      *redirect.Follower // sends requests through client
	dial        func(ctx context.Context, network, addr string) (net.Conn, error)
	proxy       func(*url.URL) (*url.URL, error) // never nil
	maxBody     int64                            // bytes of a body
	partTimeout time.Duration                    // for one MISP event, or one message of a zone transfer
}

// NewClient returns a Client with the configuration o.
func NewClient(o Config) Client {
	proxy, dial := o.Proxy, o.Dial
	if proxy == nil {
		proxy = func(*url.URL) (*url.URL, error) { return nil, nil }
	}
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	}
	if o.MaxBody <= 0 {
		o.MaxBody = MaxBody
	}
	transport := &http.Transport{
		DialContext:            dial,
		Proxy:                  func(req *http.Request) (*url.URL, error) { return proxy(req.URL) },
		TLSHandshakeTimeout:    15 * time.Second,
		ResponseHeaderTimeout:  time.Minute,
		MaxResponseHeaderBytes: maxHeader,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    maxEventFetches,
		IdleConnTimeout:        10 * time.Second, // events and pages are fetched in quick succession; the next list is fetched an hour later
	}
	if o.RootCAs != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: o.RootCAs}
	}
	client := &http.Client{Transport: transport}
	return Client{client: client, follow: redirect.NewFollower(client, proxy), dial: dial, proxy: proxy, maxBody: o.MaxBody, partTimeout: time.Minute}
}

// Result describes a successful fetch.
type Result struct {
	Unchanged    bool   // the known content is current: nothing was written
	Sum          uint64 // hash (XXH64) of the written file
	Validators   Validators
	At           time.Time // when the content was known to be current
	MissedEvents int       // MISP events that could not be fetched; the next fetch tries again
}

// Validators identify fetched content to its server, which can then report that the content has not changed. With the zero value, a list is
// fetched in full and without conditions.
type Validators struct {
	ETag         string `json:"etag,omitempty"`          // RFC 9110 section 8.8.3
	LastModified string `json:"last_modified,omitempty"` // RFC 9110 section 8.8.2
	Serial       string `json:"serial,omitempty"`        // the serial of a zone, decimal
	AddedLast    string `json:"added_last,omitempty"`    // when the newest object was added to a TAXII collection, as its server writes it
	Complete     int64  `json:"complete,omitempty"`      // when a TAXII collection was last fetched in full, Unix seconds
}

// conditions returns the header fields that request content only if it differs from the content that v identifies.
func (v Validators) conditions() http.Header {
	h := http.Header{}
	if v.ETag != "" {
		h.Set("If-None-Match", v.ETag)
	}
	if v.LastModified != "" {
		h.Set("If-Modified-Since", v.LastModified)
	}
	return h
}

func validatorsOf(resp *http.Response) Validators {
	return Validators{ETag: validator(resp, "ETag"), LastModified: validator(resp, "Last-Modified")}
}

// fetchBody fetches source into the file at path, unless the server reports that the content which known identifies has not changed.
func (f Client) fetchBody(ctx context.Context, source string, known Validators, path string) (Result, error) {
	resp, err := f.open(ctx, source, known.conditions())
	if err != nil {
		return Result{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return Result{Unchanged: true, At: time.Now(), Validators: known}, nil
	}
	if resp.ContentLength > f.maxBody {
		return Result{}, fmt.Errorf("fetch: %d bytes: %w", resp.ContentLength, bounded.ErrTooLarge)
	}
	// The transport asks for gzip and decompresses it: the limit applies to the decompressed bytes.
	sum, err := f.writeBody(path, func(w io.Writer) error {
		_, err := io.Copy(w, resp.Body)
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("fetch: %w", err)
	}
	return Result{Sum: sum, At: time.Now(), Validators: validatorsOf(resp)}, nil
}

// open requests source. The status of the answer is 200, or 304 if header holds conditions; any other status is a *StatusError. The
// caller closes the body. Errors never hold the source's password or query.
func (f Client) open(ctx context.Context, source string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		return nil, errors.New("the URL is not valid") // err quotes the URL
	}
	req.Header = header
	conditional := header.Get("If-None-Match")+header.Get("If-Modified-Since") != ""
	req.Header.Set("User-Agent", "rempart")
	resp, err := f.follow.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err // the outer error quotes the URL
		}
		err = withoutSecrets(err, req.URL)
		if via, proxyErr := f.proxy(req.URL); proxyErr == nil && via != nil {
			err = fmt.Errorf("through the proxy %s: %w", via.Host, withoutSecrets(err, via))
		}
		return nil, fmt.Errorf("fetch: %w", err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotModified && conditional {
		return resp, nil
	}
	resp.Body.Close()
	return nil, fmt.Errorf("fetch: %w", &StatusError{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), time.Now())})
}

// StatusError is the error of an HTTP answer whose status is not a success.
type StatusError struct {
	Code       int
	RetryAfter time.Duration // from the field Retry-After: the time to wait before the next request; 0 without that field
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answered %d %s", e.Code, http.StatusText(e.Code))
	switch {
	case e.Code == http.StatusProxyAuthRequired:
		text += ": the proxy requires a user name and a password: add them to the URL in HTTP_PROXY or HTTPS_PROXY"
	case e.RetryAfter > 0:
		text += fmt.Sprintf(" and asks for the next request after %s", e.RetryAfter)
	}
	return text
}

// maxRetryAfter is the longest time for which a server can delay the next request.
const maxRetryAfter = 24 * time.Hour

// retryAfter parses the header field Retry-After (RFC 9110 section 10.2.3): seconds, or a date. It returns 0 if value is neither.
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

// withoutSecrets returns err, or another error without its text if that text contains a secret of source: a server may repeat parts of
// the request in its answer.
func withoutSecrets(err error, source *url.URL) error {
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
			return errors.New("the request failed; the error message repeats a secret of the URL and is not shown")
		}
	}
	return err
}

// writeBody replaces the content of the file at path by the output of write, and returns the hash (XXH64) of that output.
func (f Client) writeBody(path string, write func(io.Writer) error) (uint64, error) {
	hash := xxhash.New()
	err := durable.WriteFile(path, func(w io.Writer) error {
		return write(bounded.NewWriter(io.MultiWriter(w, hash), f.maxBody))
	})
	return hash.Sum64(), err
}

func validator(resp *http.Response, header string) string {
	v := resp.Header.Get(header)
	if len(v) > maxValidator {
		return ""
	}
	return v
}
