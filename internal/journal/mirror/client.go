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
	maxWait       = 25 * time.Second // that a control holds its answer back
	answerTimeout = 15 * time.Second // more, until the head of an answer came
	pollInterval  = 2 * time.Second  // a web server that does not hold back
	stallTimeout  = time.Minute      // without an octet of an object
	maxHead       = 4 << 10
)

// Client reads a journal from a URL. It is a journal.Source.
type Client struct {
	base  *url.URL
	token func() string // nil for none
	http  *redirect.Follower
}

// NewClient returns a client of the journal below a URL. It calls token at each request, and sends what token returns unless it is empty. token may be nil.
// The client follows redirects of package redirect only: the token goes to the scheme, host and port of base, and nowhere else.
func NewClient(base string, token func() string, client *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("not an https URL of a control or a mirror, like https://control.example/v1/journal")
	}
	return &Client{u, token, redirect.NewFollower(client, nil)}, nil
}

// errStatus is an answer that is none.
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

// small gets what is short.
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
		err = fmt.Errorf("%s: more than %d octets", path, maxSize)
	}
	return data, err
}

// Follow is journal.Source's.
func (c *Client) Follow(ctx context.Context, after journal.Position, consumer journal.Consumer) error {
	version := after.Version
	wait := time.Duration(0) // the first answer comes at once, and shows that control is there
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

// Newest is journal.Source's.
func (c *Client) Newest(ctx context.Context) (journal.SequencedRecord, error) {
	data, err := c.getSmall(ctx, "snapshot", "", journal.MaxRecord, time.Minute)
	return journal.SequencedRecord{Data: data}, err
}

// Object is journal.Source's. It fails when no octet came for a minute.
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

// Report is journal.Source's. A mirror that takes none is no failure.
func (c *Client) Report(ctx context.Context, status []byte) error {
	if !json.Valid(status) {
		return errors.New("not a status")
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
