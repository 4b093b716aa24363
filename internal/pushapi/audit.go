package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// AuditEntry is one call in the audit trail: the caller, the call and its outcome, without any address.
type AuditEntry struct {
	Time     int64  `json:"time"` // Unix milliseconds
	Who      string `json:"who"`
	Call     string `json:"call"`
	ID       string `json:"id,omitempty"`     // of the change set, token or node
	Reason   string `json:"reason,omitempty"` // that the caller gave
	Outcome  string `json:"outcome"`
	Previous string `json:"previous"` // SHA-256 of the previous stored entry, in hexadecimal
}

// auditTrail appends entries, each signed by control and bound to the previous one by its hash.
type auditTrail struct {
	control *publish.Control
	turn    chan struct{} // held while an entry is appended; it protects the fields below

	last     AuditEntry // the last entry if this control added it, without time and hash
	previous string     // hash of the last entry
	sequence uint64     // of the last entry
	stale    bool       // it is not known whether the last entry was stored
}

// auditTime is how long a call waits for the audit trail.
const auditTime = 15 * time.Second

// open reads the end of the trail. It must be called first.
func (t *auditTrail) open(ctx context.Context, c *publish.Control) error {
	t.control, t.turn = c, make(chan struct{}, 1)
	return t.findEnd(ctx)
}

func (t *auditTrail) findEnd(ctx context.Context) error {
	t.last = AuditEntry{}
	last, err := t.control.Stream.LastAudit(ctx)
	if errors.Is(err, stream.ErrNone) {
		t.previous, t.sequence, t.stale = "", 0, false
		return nil
	}
	if err == nil {
		t.previous, t.sequence, t.stale = journal.HashOf(last.Data), last.Sequence, false
	}
	return err
}

// add appends an entry. The entry is durable when add returns nil.
func (t *auditTrail) add(ctx context.Context, e AuditEntry) error { return t.append(ctx, e, false) }

// addOnce appends an entry unless it equals the last one: a client that follows the trail reads it repeatedly, and each read would add an entry.
func (t *auditTrail) addOnce(ctx context.Context, e AuditEntry) error { return t.append(ctx, e, true) }

func (t *auditTrail) append(ctx context.Context, e AuditEntry, once bool) error {
	ctx, cancel := context.WithTimeout(ctx, auditTime)
	defer cancel()
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	bare := e
	if once && bare == t.last {
		return nil
	}
	for {
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
		data := t.control.Seal(signing.KindAudit, append(payload, '\n'))
		sequence, err := t.control.Stream.AppendAudit(ctx, t.sequence, data)
		if err == nil {
			t.last, t.previous, t.sequence = bare, journal.HashOf(data), sequence
			return nil
		}
		t.stale = true
		if !errors.Is(err, stream.ErrBehind) { // another control appended an entry first: this one follows it
			return err
		}
	}
}

type auditInput struct {
	From   uint64 `query:"from" doc:"The number of the first entry to return, from 1." default:"1"`
	Sealed bool   `query:"sealed" doc:"Return the stored entries with their signatures."`
}

func (a *API) registerAudit() {
	add(a, operation{
		id: "audit", path: "/v1/audit", tag: "audit", roles: []Role{Auditor}, audited: true, summary: "Read the audit trail",
		description: "The audit trail holds every call that may change something, every call that was refused because of the caller's role, and every call that reads who did what: the audit trail, tokens, the changes of a name and held change sets. The response is one JSON object per line. Each entry holds the SHA-256 of the previous stored entry. With sealed, control's signature precedes each entry.",
	}, a.readAudit)
}

func (a *API) readAudit(_ context.Context, in *auditInput) (*huma.StreamResponse, error) {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", TypeNDJSON)
		w := hc.BodyWriter()
		err := a.cfg.Control.Stream.EachAudit(hc.Context(), in.From, func(r stream.Record) error {
			data := r.Data
			if s, err := signing.Unseal(signing.KindAudit, data); err == nil && !in.Sealed {
				data = s.Payload
			}
			if _, err := w.Write(data); err != nil {
				return err
			}
			return hc.Context().Err()
		})
		if err != nil {
			if hc.Context().Err() == nil {
				a.log.Error("the audit trail cannot be read", "err", err)
			}
			panic(http.ErrAbortHandler) // otherwise the response would look complete
		}
	}}, nil
}
