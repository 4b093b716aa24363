package operate

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/cmd/rempart/setup/certificates"
	"rempart/cmd/rempart/setup/secrets"
	"rempart/internal/config"
)

const (
	apiPatience = time.Minute      // limit for a short call
	apiUpload   = 10 * time.Minute // limit for the answer to an upload, after it was sent
	apiTries    = 4
	maxAnswer   = 64 << 20
)

// apiHelp is the part of help texts about the connection to the API.
const apiHelp = `It calls the control of REMPART_API, with the token in REMPART_API_TOKEN or in the file of
REMPART_API_TOKEN_FILE or --token-file, or with the client certificate of REMPART_API_CERT.`

// apiClient calls a control's API.
type apiClient struct {
	base  string
	token string
	http  *http.Client
}

// tokenFlag adds the flag of all commands that call the API.
func tokenFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "token-file", "", "file of the token for the API (REMPART_API_TOKEN_FILE)")
}

// openAPI returns the client for the settings in the environment and --token-file.
func openAPI(tokenFile string) (*apiClient, error) {
	o, err := config.LoadClient()
	if err != nil {
		return nil, err
	}
	return newAPIClient(o, tokenFile)
}

func newAPIClient(o *config.Client, tokenFile string) (*apiClient, error) {
	c := &apiClient{base: strings.TrimRight(o.API, "/"), token: strings.TrimSpace(o.APIToken)}
	if tokenFile == "" {
		tokenFile = o.APITokenFile
	}
	if tokenFile != "" {
		warnSecretFile("the token", tokenFile)
		var err error
		if c.token, err = secrets.ReadToken(tokenFile); err != nil {
			return nil, err
		}
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.APICA != "" {
		pool, err := certificates.ReadPool(o.APICA)
		if err != nil {
			return nil, config.Bad("API_CA", o.APICA, err.Error())
		}
		secure.RootCAs = pool
	}
	if o.APICert != "" {
		warnSecretFile("the key of the client certificate", o.APICertKey)
		pair, err := certificates.LoadKeyPair(o.APICert, o.APICertKey)
		if err != nil {
			return nil, config.Bad("API_CERT", o.APICert, err.Error())
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig: secure, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
			ExpectContinueTimeout: 5 * time.Second, ResponseHeaderTimeout: apiUpload,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is sent to one server only
	}
	return c, nil
}

// apiRequest is a call of the API.
type apiRequest struct {
	method, path string
	query        url.Values
	mediaType    string                        // of the body
	body         func() (io.ReadCloser, error) // creates the body for each attempt; nil for none
	size         int64                         // of the body
	upload       bool                          // the request has no deadline, whatever its length is
	again        bool                          // the call has the same effect if it is repeated, so that it may be repeated when no answer arrived
}

// get requests a resource and decodes it. raw is the answer as received.
func (c *apiClient) get(ctx context.Context, path string, query url.Values, into any) (raw []byte, err error) {
	raw, err = c.do(ctx, &apiRequest{method: http.MethodGet, path: path, query: query, again: true})
	if err != nil {
		return nil, err
	}
	return raw, decodeAnswer(raw, into)
}

// post makes a call with a JSON body, which may be nil. again means that the call may be repeated.
func (c *apiClient) post(ctx context.Context, path string, body any, again bool, into any) (raw []byte, err error) {
	q := &apiRequest{method: http.MethodPost, path: path, again: again}
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		q.mediaType, q.size = "application/json", int64(len(data))
		q.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	}
	if raw, err = c.do(ctx, q); err != nil {
		return nil, err
	}
	return raw, decodeAnswer(raw, into)
}

// do makes a call until it has an answer, up to apiTries times.
func (c *apiClient) do(ctx context.Context, q *apiRequest) ([]byte, error) {
	delay := 200 * time.Millisecond
	for try := 1; ; try++ {
		resp, err := c.try(ctx, q)
		if err == nil {
			return resp, nil
		}
		wait, worth := retryDelay(err, q.again)
		if !worth || try == apiTries {
			return nil, c.explain(err, q)
		}
		select {
		case <-time.After(max(delay, wait)):
			delay *= 3
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try makes one attempt.
func (c *apiClient) try(ctx context.Context, q *apiRequest) ([]byte, error) {
	resp, err := c.send(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxAnswer {
		return nil, &apiProblem{Status: resp.StatusCode, Detail: fmt.Sprintf("its answer is longer than %s", report.Bytes(maxAnswer))}
	}
	if resp.StatusCode/100 != 2 {
		return nil, readProblem(resp, data)
	}
	return data, nil
}

// send sends a request. The caller closes the body of the response, which also ends the request's deadline.
func (c *apiClient) send(ctx context.Context, q *apiRequest) (*http.Response, error) {
	cancel := func() {}
	if !q.upload {
		ctx, cancel = context.WithTimeout(ctx, apiPatience)
	}
	resp, err := c.exchange(ctx, q)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &cancelingBody{resp.Body, cancel}
	return resp, nil
}

// exchange sends a request and returns its response.
func (c *apiClient) exchange(ctx context.Context, q *apiRequest) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, c.base+q.path, nil)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = q.query.Encode()
	if q.body != nil {
		if req.Body, err = q.body(); err != nil {
			return nil, err
		}
		req.GetBody, req.ContentLength = q.body, q.size
		req.Header.Set("Content-Type", q.mediaType)
		if q.upload { // a caller who is refused need not send the body
			req.Header.Set("Expect", "100-continue")
		}
	}
	req.Header.Set("User-Agent", "rempart/"+cli.Version())
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(req)
}

// cancelingBody is the body of a response that cancels the request's context when it is closed.
type cancelingBody struct {
	io.ReadCloser
	cancel func()
}

func (b *cancelingBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// retryDelay reports whether a failed call is worth another attempt, and the least delay before it.
func retryDelay(err error, again bool) (wait time.Duration, worth bool) {
	var p *apiProblem
	if errors.As(err, &p) {
		switch p.Status {
		case http.StatusTooManyRequests: // control did nothing
			return p.after, true
		case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return p.after, again
		}
		return 0, false
	}
	if isTLSError(err) {
		return 0, false
	}
	return 0, again
}

// isTLSError reports whether an error comes from TLS, for example from a certificate.
func isTLSError(err error) bool {
	var verify *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var op *net.OpError
	return errors.As(err, &verify) || errors.As(err, &header) || errors.As(err, &op) && op.Op == "remote error" // an alert
}

// decodeAnswer decodes an answer for people, without control characters: texts in it are from others.
func decodeAnswer(data []byte, into any) error {
	if into == nil {
		return nil
	}
	var loose any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(&loose)
	if err != nil {
		return notUnderstood(err)
	}
	if data, err = json.Marshal(sanitize(loose)); err != nil {
		return notUnderstood(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return notUnderstood(err)
	}
	return nil
}

// notUnderstood returns the error for an answer that cannot be decoded.
func notUnderstood(err error) error {
	return fmt.Errorf("the answer of REMPART_API is not understood; does a control of this version run there? %w", err)
}
