package pushapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// auditEntry is one call in the audit trail: who asked for what, and what came of it. Nothing says from where.
type auditEntry struct {
	Time     int64  `json:"time"` // Unix milliseconds
	Who      string `json:"who"`
	Call     string `json:"call"`
	ID       string `json:"id,omitempty"` // of what it was about
	Outcome  string `json:"outcome"`
	Previous string `json:"previous"` // SHA-256 of the entry before, in hexadecimal
}

// auditTrail appends calls, each signed by control and bound to the one before.
type auditTrail struct {
	control  *journal.Control
	mu       sync.Mutex
	previous string
	stale    bool // whether the last one was kept is not known
}

// open finds the end of the trail.
func (t *auditTrail) open(ctx context.Context, c *journal.Control) error {
	t.control = c
	return t.findEnd(ctx)
}

func (t *auditTrail) findEnd(ctx context.Context) error {
	data, err := t.control.Stream.LastAudit(ctx)
	if errors.Is(err, stream.ErrNone) {
		t.previous, t.stale = "", false
		return nil
	}
	if err == nil {
		t.previous, t.stale = hashOf(data), false
	}
	return err
}

// add appends an entry; it is kept for good when add returns nil.
func (t *auditTrail) add(ctx context.Context, e auditEntry) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stale {
		if err := t.findEnd(ctx); err != nil {
			return err
		}
	}
	e.Time, e.Previous = time.Now().UnixMilli(), t.previous
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	data := t.control.Seal(journal.KindAudit, append(payload, '\n'))
	if err := t.control.Stream.Audit(ctx, data); err != nil {
		t.stale = true
		return err
	}
	t.previous = hashOf(data)
	return nil
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (a *API) registerAudit() {
	huma.Register(a.api, huma.Operation{
		OperationID: "audit", Method: http.MethodGet, Path: "/v1/audit", Summary: "Read the audit trail",
		Description: "A sealed entry after the other, each a line of JSON below the signature of control; each holds the SHA-256 of the one before.",
		Metadata:    may(Auditor), Tags: []string{"audit"}, Security: secured,
	}, func(ctx context.Context, in *struct {
		From   uint64 `query:"from" doc:"The first entry's number, from 1." default:"1"`
		Sealed bool   `query:"sealed" doc:"With the signatures, as they are kept."`
	}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			hc.SetHeader("Content-Type", "application/x-ndjson")
			w := hc.BodyWriter()
			err := a.cfg.Control.Stream.Audits(hc.Context(), in.From, func(r stream.Record) error {
				data := r.Data
				if s, err := journal.Unseal(journal.KindAudit, data); err == nil && !in.Sealed {
					data = s.Payload
				}
				_, err := w.Write(data)
				return err
			})
			if err != nil && !errors.Is(err, io.ErrClosedPipe) && hc.Context().Err() == nil {
				a.log.Error("the audit trail cannot be read", "err", err)
				panic(http.ErrAbortHandler) // or it would look whole
			}
		}}, nil
	})
}
