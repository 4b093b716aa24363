package pushapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
	"rempart/internal/signing"
)

// Order is what a root key signs (journal.KindOrder) to create, rotate or revoke a token.
type Order struct {
	Do          string `json:"do"` // "create", "rotate" or "revoke"
	Name        string `json:"name"`
	Owner       string `json:"owner,omitempty"` // the person: by default the name
	Roles       []Role `json:"roles,omitempty"`
	Expires     int64  `json:"expires,omitempty"`     // Unix seconds; 0 is never
	Certificate string `json:"certificate,omitempty"` // PEM: the client certificate is the token
	Keep        int64  `json:"keep,omitempty"`        // of "rotate": for how many seconds the earlier secret is accepted
	Time        int64  `json:"time"`                  // Unix seconds at which it was signed: it is valid for five minutes
}

// TypeOrder is the media type of a sealed Order.
const TypeOrder = "application/vnd.rempart.order"

// maxOrder is the number of bytes of a sealed order, which may hold a certificate.
const maxOrder = 32 << 10

// orderFresh is the time after its signature for which an order is valid.
const orderFresh = 5 * time.Minute

type orderInput struct{ shortBody }

// order carries out a signed order. The audit trail records orders that a root key signed.
func (a *API) order(ctx context.Context, in *orderInput) (*tokenOutput, error) {
	data, err := io.ReadAll(&limitedReader{in.body, maxOrder})
	if errors.Is(err, errTooLong) {
		return nil, problem(http.StatusRequestEntityTooLarge, "body", err.Error())
	}
	if errors.Is(err, errStalled) {
		return nil, problem(http.StatusRequestTimeout, "body", err.Error())
	}
	if err != nil {
		return nil, problem(http.StatusBadRequest, "body", err.Error())
	}
	signed, err := a.openOrder(data)
	if err != nil && !a.limits.orders.Allow() {
		err := problem(http.StatusTooManyRequests, "", "too many calls: wait a moment")
		return nil, huma.ErrorWithHeaders(err, http.Header{"Retry-After": {"1"}})
	}
	if err != nil {
		return nil, problem(http.StatusForbidden, "body", changeset.Shorten(err.Error()))
	}
	o := signed.order
	entry := AuditEntry{Who: signed.root, Call: "POST /v1/tokens", ID: changeset.Shorten(o.Do + " " + o.Name), Outcome: "asked"}
	if err := a.audit.add(ctx, entry); err != nil {
		return nil, changeset.Fail("the audit trail cannot be written", err)
	}
	out, err := a.carryOut(ctx, o)
	err = a.render(err)
	entry.Outcome = http.StatusText(http.StatusOK)
	if status := huma.StatusError(nil); errors.As(err, &status) {
		entry.Outcome = http.StatusText(status.GetStatus())
	}
	if err := a.audit.add(context.WithoutCancel(ctx), entry); err != nil { // the order itself is recorded already
		a.log.Warn("the outcome of an order is not in the audit trail", "err", err)
	}
	return out, err
}

func (a *API) carryOut(ctx context.Context, o *Order) (*tokenOutput, error) {
	if !tokenName.MatchString(o.Name) {
		return nil, problem(http.StatusUnprocessableEntity, "body.name", "must be at most 63 lower-case letters, digits, dots and hyphens")
	}
	switch o.Do {
	case "create":
		return a.createToken(ctx, o)
	case "rotate":
		return a.rotateToken(ctx, o)
	case "revoke":
		return a.revokeToken(ctx, o)
	}
	return nil, problem(http.StatusUnprocessableEntity, "body.do", `must be "create", "rotate" or "revoke"`)
}

// signedOrder is an order with the ID of the root key that signed it.
type signedOrder struct {
	order *Order
	root  string
}

// openOrder checks the signature and the time of an order. An order that is sent again has no effect: a token is created once and revoked
// once, and each rotation must be signed later than the one before.
func (a *API) openOrder(data []byte) (signedOrder, error) {
	s, err := signing.Unseal(signing.KindOrder, data)
	if err != nil {
		return signedOrder{}, err
	}
	roots := a.cfg.Control.State().Roots()
	by := slices.IndexFunc(roots, s.SignedBy)
	if by < 0 {
		return signedOrder{}, errors.New("no root key of the key ring signed this order")
	}
	var o *Order
	d := json.NewDecoder(bytes.NewReader(s.Payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return signedOrder{}, fmt.Errorf("not an order: %w", err)
	}
	if o == nil {
		return signedOrder{}, errors.New("not an order: its content is null")
	}
	if age := time.Since(time.Unix(o.Time, 0)); age > orderFresh || age < -orderFresh {
		return signedOrder{}, errors.New("the order was not signed within the last five minutes: correct the clocks, and sign the order again")
	}
	return signedOrder{o, roots[by].ID()}, nil
}
