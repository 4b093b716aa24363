package operate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// apiProblem is an error that the API returned (RFC 9457).
type apiProblem struct {
	Status int    `json:"-"`
	Detail string `json:"detail"`
	Errors []struct {
		Message  string `json:"message"`
		Location string `json:"location"`
	} `json:"errors"`

	after time.Duration // least delay before another attempt
}

// Error describes the problem, its causes, and the setting that solves it.
func (p *apiProblem) Error() string {
	text := p.Detail
	if text == "" {
		text = fmt.Sprintf("control answered %d %s", p.Status, http.StatusText(p.Status))
	}
	for _, e := range p.Errors {
		switch same := e.Message == p.Detail || e.Message == ""; {
		case e.Location == "" || same && !strings.Contains(e.Location, "["): // the names of the API's fields help only where one of many is wrong
		case same:
			text += " (" + e.Location + ")"
		default:
			text += "\n  " + e.Location + ": " + e.Message
		}
	}
	switch p.Status {
	case http.StatusUnauthorized:
		text += "; set one with REMPART_API_TOKEN, REMPART_API_TOKEN_FILE, --token-file or REMPART_API_CERT"
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect, http.StatusMovedPermanently, http.StatusFound:
		text += "; name the control itself in REMPART_API"
	}
	return text
}

// maxProblem is the largest length of an error that is shown, in bytes.
const maxProblem = 2000

// readProblem decodes an error. An error that is not the API's consists of its status only.
func readProblem(resp *http.Response, data []byte) *apiProblem {
	p := &apiProblem{}
	if strings.Contains(resp.Header.Get("Content-Type"), "json") && decodeAnswer(data, p) != nil {
		p = &apiProblem{}
	}
	p.Status = resp.StatusCode
	if len(p.Detail) > maxProblem {
		p.Detail = p.Detail[:maxProblem] + "…"
	}
	p.Errors = p.Errors[:min(len(p.Errors), 20)]
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.after = time.Duration(min(seconds, 30)) * time.Second
	}
	return p
}

// explain returns an error with advice.
func (c *apiClient) explain(err error, q *apiRequest) error {
	var p *apiProblem
	if errors.As(err, &p) {
		return err
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // url.Error quotes the whole URL
	}
	var op *net.OpError
	switch {
	case isTLSError(err):
		return fmt.Errorf("%s cannot be trusted, or does not trust this client: %w; REMPART_API_CA names the authorities for its certificate, REMPART_API_CERT the certificate of this client", c.base, err)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%s cannot be reached: %w; is control running there? the address is set by REMPART_API", c.base, err)
	case q.again:
		return fmt.Errorf("%s does not answer: %w", c.base, err)
	}
	return fmt.Errorf("no answer arrived from %s: %w; it is not known whether the call took effect: check with \"rempart show\" or \"rempart changesets\" before you repeat it", c.base, err)
}

// sanitize returns decoded JSON without control characters, which could change the terminal.
func sanitize(v any) any {
	switch v := v.(type) {
	case string:
		return strings.Map(printableRune, v)
	case []any:
		for i := range v {
			v[i] = sanitize(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = sanitize(v[k])
		}
	}
	return v
}

func printableRune(r rune) rune {
	switch {
	case r == '\n' || r == '\r' || r == '\t':
		return ' '
	case unicode.IsPrint(r):
		return r
	}
	return unicode.ReplacementChar
}

// writeRaw writes an answer as received, for --json.
func writeRaw(w io.Writer, raw []byte) error {
	_, err := fmt.Fprintf(w, "%s\n", bytes.TrimRight(raw, "\n"))
	return err
}
