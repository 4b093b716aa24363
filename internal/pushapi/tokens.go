package pushapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// token is what is kept of one: never the secret.
type token struct {
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Roles   []Role `json:"roles"`
	Hash    string `json:"hash"` // SHA-256 of the secret, or of the certificate, in hexadecimal
	Created int64  `json:"created"`
	Expires int64  `json:"expires,omitempty"`
	Revoked int64  `json:"revoked,omitempty"`
}

const (
	secretBegin = "rempart_"
	byName      = "name/"
	byHash      = "hash/"
	orderFresh  = 5 * time.Minute
)

var tokenName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// tokenByHash finds one; its error is stream.ErrNone for an unknown one.
func (a *API) tokenByHash(ctx context.Context, hash string) (*token, error) {
	name, _, err := a.tokens.Get(ctx, byHash+hash)
	if err != nil {
		return nil, err
	}
	t, _, err := a.tokenByName(ctx, string(name))
	return t, err
}

func (a *API) tokenByName(ctx context.Context, name string) (*token, uint64, error) {
	data, revision, err := a.tokens.Get(ctx, byName+name)
	if err != nil {
		return nil, 0, err
	}
	var t token
	return &t, revision, json.Unmarshal(data, &t)
}

// Order is what a root key signs (journal.KindOrder) to have a token made or revoked.
type Order struct {
	Do          string `json:"do"` // "create" or "revoke"
	Name        string `json:"name"`
	Owner       string `json:"owner,omitempty"` // the person: by default the name
	Roles       []Role `json:"roles,omitempty"`
	Expires     int64  `json:"expires,omitempty"`     // Unix seconds; 0 is never
	Certificate string `json:"certificate,omitempty"` // PEM: the client certificate is the token
	Time        int64  `json:"time"`                  // Unix seconds at which it was signed: it counts for five minutes
}

// TokenInfo is a token as people see it.
type TokenInfo struct {
	Name    string    `json:"name"`
	Owner   string    `json:"owner"`
	Roles   []Role    `json:"roles"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
	Secret  string    `json:"secret,omitempty" doc:"Told once, when it is made."`
}

func (t *token) info() TokenInfo {
	i := TokenInfo{Name: t.Name, Owner: t.Owner, Roles: t.Roles, Created: time.Unix(t.Created, 0).UTC()}
	if t.Expires != 0 {
		i.Expires = time.Unix(t.Expires, 0).UTC()
	}
	if t.Revoked != 0 {
		i.Revoked = time.Unix(t.Revoked, 0).UTC()
	}
	return i
}

type tokenOutput struct{ Body TokenInfo }

type tokensOutput struct {
	Body struct {
		Tokens []TokenInfo `json:"tokens"`
	}
}

// raw is a request whose body the handler reads itself.
type raw struct{ body io.Reader }

func (r *raw) Resolve(ctx huma.Context) []error {
	r.body = ctx.BodyReader()
	return nil
}

func (a *API) registerTokens() {
	huma.Register(a.api, huma.Operation{
		OperationID: "order", Method: http.MethodPost, Path: "/v1/tokens", Summary: "Make or revoke a token",
		Description: "The body is an order that a root key signed, as rempart token sends it.",
		Metadata:    map[string]any{"open": true}, Tags: []string{"tokens"},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/vnd.rempart.order": {}}},
	}, a.order)
	huma.Register(a.api, huma.Operation{
		OperationID: "tokens", Method: http.MethodGet, Path: "/v1/tokens", Summary: "List tokens", Metadata: may(Auditor, Approver), Tags: []string{"tokens"},
		Security: secured,
	}, a.listTokens)
}

var secured = []map[string][]string{{"token": {}}, {"certificate": {}}}

func (a *API) order(ctx context.Context, in *struct{ raw }) (*tokenOutput, error) {
	data, err := io.ReadAll(io.LimitReader(in.body, 64<<10))
	if err != nil {
		return nil, problem(http.StatusBadRequest, "body", "it did not come whole")
	}
	o, err := a.openOrder(data)
	if err != nil {
		return nil, problem(http.StatusForbidden, "body", err.Error())
	}
	if !tokenName.MatchString(o.Name) {
		return nil, problem(http.StatusUnprocessableEntity, "body.name", "lower-case letters, digits, dots and hyphens, 63 at most")
	}
	switch o.Do {
	case "create":
		return a.createToken(ctx, o)
	case "revoke":
		return a.revokeToken(ctx, o)
	}
	return nil, problem(http.StatusUnprocessableEntity, "body.do", `"create" or "revoke"`)
}

// openOrder checks who signed an order, and when.
func (a *API) openOrder(data []byte) (*Order, error) {
	s, err := journal.Unseal(journal.KindOrder, data)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(a.cfg.Control.State().Roots(), s.SignedBy) {
		return nil, errors.New("no root key of the key ring signed this order")
	}
	var o Order
	d := json.NewDecoder(bytes.NewReader(s.Payload))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return nil, fmt.Errorf("not an order: %w", err)
	}
	if age := time.Since(time.Unix(o.Time, 0)); age > orderFresh || age < -orderFresh {
		return nil, errors.New("it was not signed within the last five minutes: set the clocks right, and sign it again")
	}
	return &o, nil
}

func (a *API) createToken(ctx context.Context, o *Order) (*tokenOutput, error) {
	if len(o.Roles) == 0 || slices.ContainsFunc(o.Roles, func(r Role) bool { return !slices.Contains(allRoles, r) }) {
		return nil, problem(http.StatusUnprocessableEntity, "body.roles", "one or more of publisher, approver, auditor, node")
	}
	if o.Expires != 0 && o.Expires <= time.Now().Unix() {
		return nil, problem(http.StatusUnprocessableEntity, "body.expires", "it is over already")
	}
	if o.Owner == "" {
		o.Owner = o.Name
	}
	t := &token{Name: o.Name, Owner: o.Owner, Roles: o.Roles, Created: time.Now().Unix(), Expires: o.Expires}
	out := &tokenOutput{}
	proof, secret := []byte(nil), ""
	if o.Certificate != "" {
		block, _ := pem.Decode([]byte(o.Certificate))
		if block == nil {
			return nil, problem(http.StatusUnprocessableEntity, "body.certificate", "not a PEM certificate")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, problem(http.StatusUnprocessableEntity, "body.certificate", err.Error())
		}
		proof = block.Bytes
	} else {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails
		secret = secretBegin + base64.RawURLEncoding.EncodeToString(b[:])
		proof = []byte(secret)
	}
	sum := sha256.Sum256(proof)
	t.Hash = hex.EncodeToString(sum[:])
	data, err := json.Marshal(t)
	if err == nil {
		_, err = a.tokens.Create(ctx, byName+t.Name, data) // an order sent again makes no second one
	}
	if errors.Is(err, stream.ErrExists) {
		return nil, problem(http.StatusConflict, "body.name", "a token of that name was made before: names are not used again")
	}
	if err == nil {
		_, err = a.tokens.Put(ctx, byHash+t.Hash, []byte(t.Name))
	}
	if err != nil {
		return nil, a.unavailable("the token was not made", err)
	}
	out.Body = t.info()
	out.Body.Secret = secret
	return out, nil
}

func (a *API) revokeToken(ctx context.Context, o *Order) (*tokenOutput, error) {
	t, revision, err := a.tokenByName(ctx, o.Name)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "body.name", "there is no token of that name")
	}
	if err == nil && t.Revoked == 0 {
		t.Revoked = time.Now().Unix()
		var data []byte
		if data, err = json.Marshal(t); err == nil {
			_, err = a.tokens.Update(ctx, byName+t.Name, data, revision)
		}
	}
	if err != nil {
		return nil, a.unavailable("the token was not revoked", err)
	}
	return &tokenOutput{t.info()}, nil
}

func (a *API) listTokens(ctx context.Context, _ *struct{}) (*tokensOutput, error) {
	out := &tokensOutput{}
	out.Body.Tokens = []TokenInfo{}
	err := a.tokens.Each(ctx, func(key string, value []byte) error {
		var t token
		if len(key) > len(byName) && key[:len(byName)] == byName && json.Unmarshal(value, &t) == nil {
			out.Body.Tokens = append(out.Body.Tokens, t.info())
		}
		return nil
	})
	if err != nil {
		return nil, a.unavailable("tokens cannot be read", err)
	}
	slices.SortFunc(out.Body.Tokens, func(x, y TokenInfo) int { return x.Created.Compare(y.Created) })
	return out, nil
}
