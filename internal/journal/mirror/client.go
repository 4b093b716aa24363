package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"rempart/internal/journal"
	"rempart/internal/redirect"
)

const (
	maxWait       = 25 * time.Second // longest time that a control waits for a newer heartbeat
	answerTimeout = 15 * time.Second // time until the start of an answer, in addition to maxWait
	pollInterval  = 2 * time.Second  // shortest time between requests to a server that answers at once
	stallTimeout  = time.Minute      // longest time without new data of an object
	maxHead       = 4 << 10
)

// Client reads a journal from a URL. It implements journal.Source.
type Client struct {
	base  *url.URL
	token func() string // nil for no token
	http  *redirect.Follower
}

// NewClient returns a client of the journal below a URL. It calls token for each request, and sends the returned token unless it is empty. token may be nil.
// The client follows only the redirects that package redirect allows, and sends the token only to the scheme, host and port of base.
func NewClient(base string, token func() string, client *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("not an https URL of a control or a mirror, such as https://control.example/v1/journal")
	}
	return &Client{u, token, redirect.NewFollower(client, nil)}, nil
}

// statusError is an answer with an HTTP status other than 2xx.
type statusError struct {
	code int
	url  string
}

func (e *statusError) Error() string {
	hint := ""
	switch e.code {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = ": is REMPART_CONTROL_TOKEN one of a node, and not expired?"
	case http.StatusNotFound:
		hint = ": does the URL end in /v1/journal?"
	}
	return fmt.Sprintf("%s: %d %s%s", e.url, e.code, http.StatusText(e.code), hint)
}

func (c *Client) get(ctx context.Context, path, query string) (*http.Response, error) {
	u := c.base.JoinPath(path)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

func (c *Client) do(req *http.Request) (*http.Response, error) {
	if c.token != nil {
		if token := c.token(); token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		resp.Body.Close()
		return nil, &statusError{resp.StatusCode, req.URL.Redacted()}
	}
	return resp, nil
}

// getSmall returns an answer of at most maxSize bytes.
func (c *Client) getSmall(ctx context.Context, path, query string, maxSize int64, timeout time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := c.get(ctx, path, query)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxSize+1))
	if err == nil && int64(len(data)) > maxSize {
		err = fmt.Errorf("%s: more than %d bytes", path, maxSize)
	}
	return data, err
}

// Follow implements journal.Source.
func (c *Client) Follow(ctx context.Context, after journal.Position, consumer journal.Consumer) error {
	version := after.Version
	wait := time.Duration(0) // the first request does not wait, and shows that control can be reached
	for {
		started := time.Now()
		query := url.Values{"after": {strconv.FormatUint(version, 10)}, "wait": {strconv.Itoa(int(wait / time.Second))}}.Encode()
		head, err := c.getSmall(ctx, "head", query, maxHead, maxWait+answerTimeout)
		if err != nil {
			return err
		}
		newest, err := journal.PeekHeartbeat(head)
		if err != nil {
			return err
		}
		if err := consumer.Heartbeat(head); err != nil {
			return err
		}
		isNew := newest.Version > version
		for version < newest.Version {
			data, err := c.getSmall(ctx, "records/"+strconv.FormatUint(version+1, 10), "", journal.MaxRecord, time.Minute)
			if missing := (*statusError)(nil); errors.As(err, &missing) && missing.code == http.StatusNotFound {
				return fmt.Errorf("%w: %w", journal.ErrGap, err)
			}
			if err == nil {
				err = consumer.Record(journal.SequencedRecord{Data: data})
			}
			if err != nil {
				return err
			}
			version++
		}
		if took := time.Since(started); wait > 0 && !isNew && took < pollInterval {
			select {
			case <-time.After(pollInterval - took):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait = maxWait
	}
}

// Newest implements journal.Source.
func (c *Client) Newest(ctx context.Context) (journal.SequencedRecord, error) {
	data, err := c.getSmall(ctx, "snapshot", "", journal.MaxRecord, time.Minute)
	return journal.SequencedRecord{Data: data}, err
}

// Object implements journal.Source. Reading fails if no data arrives for a minute.
func (c *Client) Object(ctx context.Context, name string) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	timer := time.AfterFunc(stallTimeout, cancel)
	resp, err := c.get(ctx, "objects/"+name, "")
	if err != nil {
		timer.Stop()
		cancel()
		return nil, err
	}
	return &stallGuard{resp.Body, timer, cancel}, nil
}

type stallGuard struct {
	io.ReadCloser
	timer  *time.Timer
	cancel context.CancelFunc
}

func (g *stallGuard) Read(p []byte) (int, error) {
	n, err := g.ReadCloser.Read(p)
	g.timer.Reset(stallTimeout)
	return n, err
}

func (g *stallGuard) Close() error {
	g.timer.Stop()
	defer g.cancel()
	return g.ReadCloser.Close()
}

// Report implements journal.Source.
func (c *Client) Report(ctx context.Context, status []byte) error {
	if !json.Valid(status) {
		return errors.New("the status is not valid JSON")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath("status").String(), bytes.NewReader(status))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
