package pushapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
)

const (
	maxJSON    = 4 << 20
	maxBulk    = 1 << 30
	stall      = 30 * time.Second // without an octet of a body, or of an answer
	uploadTime = 30 * time.Minute // for all of a body
	orderTime  = 10 * time.Second // for all of an order: its caller is not known before it is read
	uselessFor = time.Second      // for the rest of a body that nobody reads
)

var (
	errTooLong = errors.New("the upload is too long")
	errStalled = errors.New("the upload did not go on")
)

// raw is a request whose body the handler reads itself.
type raw struct{ body io.Reader }

func (r *raw) Resolve(ctx huma.Context) []error {
	r.body = &patient{ctx, ctx.BodyReader(), time.Now().Add(uploadTime)}
	return nil
}

// brief is a request of a short body that the handler reads itself, and that must arrive soon.
type brief struct{ body io.Reader }

func (r *brief) Resolve(ctx huma.Context) []error {
	r.body = &patient{ctx, ctx.BodyReader(), time.Now().Add(orderTime)}
	return nil
}

// settled is a request whose body was read by the library: its deadline must not end what follows.
type settled struct{}

func (settled) Resolve(ctx huma.Context) []error {
	_ = ctx.SetReadDeadline(time.Time{}) // where it cannot be set, none was
	return nil
}

// patient reads a body as long as it goes on coming.
type patient struct {
	ctx   huma.Context
	r     io.Reader
	until time.Time
}

func (p *patient) Read(b []byte) (int, error) {
	deadline := time.Now().Add(stall)
	if deadline.After(p.until) {
		deadline = p.until
	}
	_ = p.ctx.SetReadDeadline(deadline)
	n, err := p.r.Read(b)
	var late net.Error
	switch {
	case err == io.EOF: // the server reads on, to notice who goes away
		_ = p.ctx.SetReadDeadline(time.Time{})
	case errors.As(err, &late) && late.Timeout():
		err = errStalled
	case err != nil: // the library's error may hold addresses
		err = errors.New("the upload was cut off")
	}
	return n, err
}

// limited fails where a body is longer than left, rather than ending it.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// ending knows the last octet that was read.
type ending struct {
	r    io.Reader
	last byte
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if n > 0 {
		e.last = p[n-1]
	}
	return n, err
}

// rows bounds how much a decoder takes in for one row or value: a quote that is never closed would take in all that follows.
type rows struct {
	r    io.Reader
	most int64 // bytes of a row
	long error // for a longer one
	read int64 // so far
	end  int64 // it may not read beyond
}

// errLongRow says that a row of a table is too long.
var errLongRow = fmt.Errorf("a row of more than %d octets, or a quote that is not closed", journal.MaxLine)

// ahead is more than a decoder reads ahead of its row.
const ahead = 8 << 10

// begin allows for a row that begins at an offset.
func (b *rows) begin(offset int64) { b.end = offset + b.most + ahead }

func (b *rows) Read(p []byte) (int, error) {
	if b.read >= b.end {
		return 0, b.long
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.end-b.read)])
	b.read += int64(n)
	return n, err
}

// quiet is an answer on its way. It waits for nobody for long, and says of errors nothing: they hold addresses.
type quiet struct {
	http.ResponseWriter
	body   *heard // of the request, nil where it has none
	failed bool
}

// heard knows whether a body came to its end.
type heard struct {
	io.ReadCloser
	ended bool
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.ended = h.ended || err == io.EOF
	return n, err
}

// Unwrap is for http.ResponseController.
func (q *quiet) Unwrap() http.ResponseWriter { return q.ResponseWriter }

// WriteHeader does not have the server wait for the rest of a body that nobody wants before it refuses.
func (q *quiet) WriteHeader(status int) {
	if q.body != nil && !q.body.ended && status >= http.StatusBadRequest {
		q.Header().Set("Connection", "close")
		_ = http.NewResponseController(q.ResponseWriter).SetReadDeadline(time.Now().Add(uselessFor))
	}
	q.ResponseWriter.WriteHeader(status)
}

// Write writes a piece at a time, each in time. Whoever went away is told nothing: the request's context ends.
func (q *quiet) Write(p []byte) (int, error) {
	c := http.NewResponseController(q.ResponseWriter)
	for rest := p; len(rest) > 0 && !q.failed; {
		_ = c.SetWriteDeadline(time.Now().Add(stall))
		n, err := q.ResponseWriter.Write(rest[:min(len(rest), 64<<10)])
		q.failed, rest = err != nil, rest[n:]
	}
	return len(p), nil
}

// quietly serves with h. A body that does not come holds nothing up.
func quietly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &quiet{ResponseWriter: w}
		if hasBody(r) {
			patience := stall
			if !changes(r.Method) { // no handler reads it, and the server would wait for it
				patience = uselessFor
			}
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
			q.body = &heard{ReadCloser: r.Body}
			r.Body = q.body
		}
		h.ServeHTTP(q, r)
	})
}

// trimmed is a line without white space at its ends and without a byte order mark.
func trimmed(line []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\ufeff")))
}
