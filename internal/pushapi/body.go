package pushapi

import (
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	maxJSON    = 4 << 20
	maxBulk    = 1 << 30
	stall      = 30 * time.Second // without a byte of a body, or of a response
	uploadTime = 30 * time.Minute // for a whole body
	orderTime  = 10 * time.Second // for a whole order: its caller is not known before it is read
	uselessFor = time.Second      // for the rest of a body that no handler reads
)

var (
	errTooLong = errors.New("the upload is too long")
	errStalled = errors.New("the rest of the upload did not arrive in time")
)

// rawBody is part of the input of an operation whose handler reads the body itself.
type rawBody struct{ body io.Reader }

func (r *rawBody) Resolve(ctx huma.Context) []error {
	r.body = &bodyReader{ctx, ctx.BodyReader(), time.Now().Add(uploadTime)}
	return nil
}

// shortBody is as rawBody, for a body that must arrive within orderTime.
type shortBody struct{ body io.Reader }

func (r *shortBody) Resolve(ctx huma.Context) []error {
	r.body = &bodyReader{ctx, ctx.BodyReader(), time.Now().Add(orderTime)}
	return nil
}

// decodedBody is part of the input of an operation whose body the library decodes. It removes the read deadline of the body, which would
// end the handler.
type decodedBody struct{}

func (decodedBody) Resolve(ctx huma.Context) []error {
	_ = ctx.SetReadDeadline(time.Time{}) // a connection that does not support deadlines has none
	return nil
}

// bodyReader reads a body until no byte arrives for the time stall, or until a deadline.
type bodyReader struct {
	ctx   huma.Context
	r     io.Reader
	until time.Time
}

func (p *bodyReader) Read(b []byte) (int, error) {
	deadline := time.Now().Add(stall)
	if deadline.After(p.until) {
		deadline = p.until
	}
	_ = p.ctx.SetReadDeadline(deadline)
	n, err := p.r.Read(b)
	var late net.Error
	switch {
	case err == io.EOF: // the server continues to read, to notice that the client closes the connection
		_ = p.ctx.SetReadDeadline(time.Time{})
	case errors.As(err, &late) && late.Timeout():
		err = errStalled
	case err != nil: // the error of the library may contain addresses
		err = errors.New("the upload was interrupted")
	}
	return n, err
}

// limitedReader fails if a body is longer than left bytes.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// boundedWriter writes a response with deadlines. It hides write errors: they contain addresses.
type boundedWriter struct {
	http.ResponseWriter
	body   *trackedBody // of the request, nil if it has none
	failed bool
}

// trackedBody remembers whether a body was read to its end.
type trackedBody struct {
	io.ReadCloser
	ended bool
}

func (h *trackedBody) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	h.ended = h.ended || err == io.EOF
	return n, err
}

// Unwrap is for http.ResponseController.
func (q *boundedWriter) Unwrap() http.ResponseWriter { return q.ResponseWriter }

// WriteHeader bounds how long the server waits for the rest of a body that the handler did not read.
func (q *boundedWriter) WriteHeader(status int) {
	if q.body != nil && !q.body.ended && status >= http.StatusBadRequest {
		q.Header().Set("Connection", "close")
		_ = http.NewResponseController(q.ResponseWriter).SetReadDeadline(time.Now().Add(uselessFor))
	}
	q.ResponseWriter.WriteHeader(status)
}

// Write writes pieces with a deadline each. After an error it writes nothing more: the request's context ends then.
func (q *boundedWriter) Write(p []byte) (int, error) {
	c := http.NewResponseController(q.ResponseWriter)
	for rest := p; len(rest) > 0 && !q.failed; {
		_ = c.SetWriteDeadline(time.Now().Add(stall))
		n, err := q.ResponseWriter.Write(rest[:min(len(rest), 64<<10)])
		q.failed, rest = err != nil, rest[n:]
	}
	return len(p), nil
}

// boundBodies serves with h, and bounds how long requests and responses take.
func boundBodies(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := &boundedWriter{ResponseWriter: w}
		if hasBody(r) {
			patience := stall
			if !changes(r.Method) { // no handler reads the body, and the server would wait for it
				patience = uselessFor
			}
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience))
			q.body = &trackedBody{ReadCloser: r.Body}
			r.Body = q.body
		}
		h.ServeHTTP(q, r)
	})
}
