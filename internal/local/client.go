package local

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"
)

// Client asks a running server.
type Client struct {
	Path string // of the socket
	http *http.Client
}

// Find returns a client of the first socket among paths on which a server answers, or nil. The error is that of a socket that exists and cannot be
// opened, for example because it belongs to another user.
func Find(paths ...string) (*Client, error) {
	var denied error
	for _, path := range paths {
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return newClient(path), nil
		}
		if errors.Is(err, fs.ErrPermission) && denied == nil {
			denied = fmt.Errorf("the running server's socket %s: permission denied: ask as root, or as the user that runs the server", path)
		}
	}
	return nil, denied
}

func newClient(path string) *Client {
	return &Client{Path: path, http: &http.Client{Timeout: timeout, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path)
		},
	}}}
}

// Settings returns the variables that the server was started with, secrets among them.
func (c *Client) Settings(ctx context.Context) (settings map[string]string, err error) {
	return settings, c.call(ctx, http.MethodGet, "/settings", nil, &settings)
}

// Status returns the state of the server.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/status", nil, &s)
}

// NotReady returns the reason why queries should not be sent to the server; "" if the server is ready.
func (c *Client) NotReady(ctx context.Context) (why string, err error) {
	var r readiness
	err = c.call(ctx, http.MethodGet, "/readiness", nil, &r)
	return r.NotReady, err
}

// Upstreams returns the upstreams of the server: first those of all names that are in no zone of REMPART_FORWARD, then those of each zone.
func (c *Client) Upstreams(ctx context.Context) (groups []UpstreamGroup, err error) {
	return groups, c.call(ctx, http.MethodGet, "/upstreams", nil, &groups)
}

// Check returns the verdict that a client gets when it asks the server for name.
func (c *Client) Check(ctx context.Context, name string) (v Verdict, err error) {
	return v, c.call(ctx, http.MethodPost, "/check", map[string]string{"name": name}, &v)
}

// Matches returns the listed entries with at least that many hits, most hits first.
func (c *Client) Matches(ctx context.Context, least uint64) (m []Match, err error) {
	return m, c.call(ctx, http.MethodPost, "/matches", map[string]uint64{"least": least}, &m)
}

// maxAnswer bounds an answer of the server in bytes. Metrics, matches and the state of lists are the largest: each list and each upstream has some.
const maxAnswer = 64 << 20

// Metrics passes the metrics of the server, in Prometheus' text format, to read.
func (c *Client) Metrics(ctx context.Context, read func(io.Reader) error) error {
	return c.exchange(ctx, http.MethodGet, "/metrics", nil, read)
}

// Reload makes the server read its files again, as SIGHUP does.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/reload", nil, nil)
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	return c.exchange(ctx, method, path, in, func(body io.Reader) error {
		if out == nil {
			return nil
		}
		return json.NewDecoder(body).Decode(out)
	})
}

// exchange sends a request with in as its body, if in is not nil, and passes the body of the answer to read.
func (c *Client) exchange(ctx context.Context, method, path string, in any, read func(io.Reader) error) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://rempart"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the running server on %s: %w", c.Path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return fmt.Errorf("the running server on %s does not support this command, because it is of another version: restart it", c.Path)
	}
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxBody)) // the status says enough
		return fmt.Errorf("the running server on %s: %s: %s", c.Path, resp.Status, bytes.TrimSpace(text))
	}
	if err := read(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return fmt.Errorf("the running server on %s: %w", c.Path, err)
	}
	return nil
}
