package pushapi

import (
	"context"
	crand "crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// token is a token as it is stored, without its secret.
type token struct {
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Roles   []Role `json:"roles"`
	Hash    string `json:"hash"` // SHA-256 of the secret, or of the certificate, in hexadecimal
	Created int64  `json:"created"`
	Expires int64  `json:"expires,omitempty"`
	Revoked int64  `json:"revoked,omitempty"`

	Rotated int64           `json:"rotated,omitempty"` // when the last rotation was ordered, in Unix seconds
	Earlier []earlierSecret `json:"earlier,omitempty"` // still accepted, until their time

	revision uint64 // of the bucket's value that was read
}

// earlierSecret is a secret that was replaced, and is still accepted until a time.
type earlierSecret struct {
	Hash  string `json:"hash"`
	Until int64  `json:"until"` // Unix seconds
}

const (
	maxEarlier = 4
	maxKeep    = 30 * 24 * time.Hour
)

// accepts reports whether a hash is that of the token's secret, or of an earlier one that is still accepted.
func (t *token) accepts(hash string) bool {
	ok := subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) == 1
	for _, e := range t.Earlier {
		if subtle.ConstantTimeCompare([]byte(e.Hash), []byte(hash)) == 1 && time.Now().Unix() < e.Until {
			ok = true
		}
	}
	return ok
}

const (
	secretBegin = "rempart_"
	byName      = "name/"
	byHash      = "hash/"
)

var tokenName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

// tokenByHash reads the token with a secret or certificate of that hash. Its error is stream.ErrNone for an unknown one.
func (a *API) tokenByHash(ctx context.Context, hash string) (*token, error) {
	name, _, err := a.tokens.Get(ctx, byHash+hash)
	if err != nil {
		return nil, err
	}
	return a.tokenByName(ctx, string(name))
}

// tokenByName reads a token. Its error is stream.ErrNone for an unknown one.
func (a *API) tokenByName(ctx context.Context, name string) (*token, error) {
	data, revision, err := a.tokens.Get(ctx, byName+name)
	if err != nil {
		return nil, err
	}
	t := &token{revision: revision}
	return t, json.Unmarshal(data, t)
}

// updateToken writes a token. It fails if the token was written since it was read.
func (a *API) updateToken(ctx context.Context, t *token) error {
	data, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = a.tokens.Update(ctx, byName+t.Name, data, t.revision)
	return err
}

// TokenInfo is a token as the API shows it.
type TokenInfo struct {
	Name    string    `json:"name" doc:"The name of the token."`
	Owner   string    `json:"owner" doc:"The person who uses the token. The person who pushed a change set cannot approve it, with whichever token."`
	Roles   []Role    `json:"roles" doc:"The roles of the token, which decide what it may do."`
	Created time.Time `json:"created" doc:"The time at which the token was created."`
	Expires time.Time `json:"expires,omitzero" doc:"The time at which the token expires. If absent, it does not expire."`
	Revoked time.Time `json:"revoked,omitzero" doc:"The time at which the token was revoked."`
	Rotated time.Time `json:"rotated,omitzero" doc:"The time at which the secret of the token was last replaced."`
	Earlier time.Time `json:"earlier_until,omitzero" doc:"The time until which an earlier secret is accepted too."`
	Secret  string    `json:"secret,omitempty" doc:"The secret. It is returned once, when it is created."`
}

// valid reports whether the token is neither revoked nor expired.
func (t *token) valid() bool {
	return t.Revoked == 0 && (t.Expires == 0 || time.Now().Unix() < t.Expires)
}

func (t *token) info() TokenInfo {
	i := TokenInfo{Name: t.Name, Owner: t.Owner, Roles: t.Roles, Created: time.Unix(t.Created, 0).UTC()}
	if t.Expires != 0 {
		i.Expires = time.Unix(t.Expires, 0).UTC()
	}
	if t.Revoked != 0 {
		i.Revoked = time.Unix(t.Revoked, 0).UTC()
	}
	if t.Rotated != 0 {
		i.Rotated = time.Unix(t.Rotated, 0).UTC()
	}
	for _, e := range t.Earlier {
		if until := time.Unix(e.Until, 0).UTC(); until.After(time.Now()) && until.After(i.Earlier) {
			i.Earlier = until
		}
	}
	return i
}

type tokenOutput struct{ Body TokenInfo }

type tokensOutput struct {
	Body struct {
		Tokens []TokenInfo `json:"tokens" doc:"All tokens, including expired and revoked ones, the oldest first."`
	}
}

func (a *API) registerTokens() {
	add(a, operation{
		id: "order", method: http.MethodPost, path: "/v1/tokens", tag: "tokens", summary: "Create, rotate or revoke a token",
		description: "The body is an order that a root key signed, as rempart token sends it. The secret of a new token is in the response, and cannot be read later.", errors: []int{400, 403, 404, 408, 409, 413, 415, 422},
	}, a.order)
	a.api.OpenAPI().Paths["/v1/tokens"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		TypeOrder: {Schema: &huma.Schema{Type: "string", Format: "binary"}},
	}}
	add(a, operation{id: "tokens", path: "/v1/tokens", tag: "tokens", roles: []Role{Auditor, Approver}, audited: true, summary: "List tokens"}, a.listTokens)
}

func (a *API) createToken(ctx context.Context, o *Order) (*tokenOutput, error) {
	if len(o.Roles) == 0 || slices.ContainsFunc(o.Roles, func(r Role) bool { return !slices.Contains(allRoles, r) }) {
		return nil, problem(http.StatusUnprocessableEntity, "body.roles", "must be one or more of publisher, approver, auditor, node")
	}
	if o.Expires != 0 && o.Expires <= time.Now().Unix() {
		return nil, problem(http.StatusUnprocessableEntity, "body.expires", "the expiry is in the past")
	}
	if o.Owner == "" {
		o.Owner = o.Name
	}
	if !tokenName.MatchString(o.Owner) {
		return nil, problem(http.StatusUnprocessableEntity, "body.owner", "must be at most 63 lower-case letters, digits, dots and hyphens")
	}
	for _, name := range []string{"control", "lists", "root", "time"} {
		if o.Name == name || o.Owner == name {
			return nil, problem(http.StatusUnprocessableEntity, "body.name", "the name "+name+" is reserved: choose another name")
		}
	}
	t := &token{Name: o.Name, Owner: o.Owner, Roles: slices.Compact(slices.Sorted(slices.Values(o.Roles))), Created: time.Now().Unix(), Expires: o.Expires}
	proof, err := a.newProof(ctx, t.Name, o.Certificate)
	if err != nil {
		return nil, err
	}
	t.Hash = proof.hash
	data, err := json.Marshal(t)
	if err == nil {
		_, err = a.tokens.Create(ctx, byName+t.Name, data)
	}
	if errors.Is(err, stream.ErrExists) {
		return nil, problem(http.StatusConflict, "body.name", "a token with this name was created before: choose another name, because names are never used again")
	}
	if err == nil {
		_, err = a.tokens.Put(ctx, byHash+t.Hash, []byte(t.Name))
	}
	if err != nil {
		return nil, changeset.Fail("the token was not created", err)
	}
	out := &tokenOutput{t.info()}
	out.Body.Secret = proof.secret
	return out, nil
}

// tokenProof is a new secret of a token, "" if its proof is a certificate, and the hash of its proof.
type tokenProof struct{ secret, hash string }

// newProof returns the proof of a token: a certificate, or a new secret if certificate is "". name is the token's.
func (a *API) newProof(ctx context.Context, name, certificate string) (tokenProof, error) {
	secret := secretBegin + crand.Text() + crand.Text() // each of at least 128 bits
	proof := []byte(secret)
	if certificate != "" {
		var err error
		if proof, err = readCertificate(certificate); err != nil {
			return tokenProof{}, problem(http.StatusUnprocessableEntity, "body.certificate", err.Error())
		}
		secret = ""
	}
	hash := journal.HashOf(proof)
	other, err := a.tokenByHash(ctx, hash)
	switch {
	case err == nil && other.Name != name && other.Revoked == 0 && other.accepts(hash):
		return tokenProof{}, problem(http.StatusConflict, "body.certificate", "the certificate belongs to the token "+other.Name+" already: revoke that token first")
	case err != nil && !errors.Is(err, stream.ErrNone):
		return tokenProof{}, changeset.Fail("the token was not created", err)
	}
	return tokenProof{secret, hash}, nil
}

// rotateToken replaces the secret of a token that is valid, and keeps its name, owner and roles.
func (a *API) rotateToken(ctx context.Context, o *Order) (*tokenOutput, error) {
	if len(o.Roles) > 0 || o.Owner != "" {
		return nil, problem(http.StatusUnprocessableEntity, "body.roles", "a rotation keeps the roles and the owner of a token: create another token for other roles or another owner")
	}
	if o.Keep < 0 || o.Keep > int64(maxKeep/time.Second) {
		return nil, problem(http.StatusUnprocessableEntity, "body.keep", fmt.Sprintf("the earlier secret is accepted for 0 to %d seconds", int64(maxKeep/time.Second)))
	}
	if o.Expires != 0 && o.Expires <= time.Now().Unix() {
		return nil, problem(http.StatusUnprocessableEntity, "body.expires", "the expiry is in the past")
	}
	t, err := a.tokenByName(ctx, o.Name)
	switch {
	case errors.Is(err, stream.ErrNone):
		return nil, problem(http.StatusNotFound, "body.name", "there is no token with this name: \"rempart token list\" shows them")
	case err != nil:
		return nil, changeset.Fail("the token was not rotated", err)
	case !t.valid():
		return nil, problem(http.StatusConflict, "body.name", "the token is revoked or expired: create a token with another name")
	case o.Time <= t.Rotated:
		return nil, problem(http.StatusConflict, "body.time", "the token was already rotated by this order or a later one: wait a second, and sign a new order")
	}
	proof, err := a.newProof(ctx, t.Name, o.Certificate)
	if err != nil {
		return nil, err
	}
	t.replace(proof.hash, time.Now(), time.Duration(o.Keep)*time.Second)
	t.Rotated = o.Time
	if o.Expires != 0 {
		t.Expires = o.Expires
	}
	_, err = a.tokens.Put(ctx, byHash+t.Hash, []byte(t.Name)) // first: the hash is not accepted until the token names it
	if err == nil {
		err = a.updateToken(ctx, t)
	}
	if err != nil {
		return nil, changeset.Fail("the token was not rotated", err)
	}
	a.tokensChanged.Add(1)
	out := &tokenOutput{t.info()}
	out.Body.Secret = proof.secret
	return out, nil
}

// replace makes hash the hash of the token's secret. The earlier secret is accepted for the time keep, and so are older ones until their time. With keep 0
// no earlier secret is accepted.
func (t *token) replace(hash string, now time.Time, keep time.Duration) {
	var left []earlierSecret
	if keep > 0 {
		left = []earlierSecret{{t.Hash, now.Add(keep).Unix()}}
		for _, e := range t.Earlier {
			if now.Unix() < e.Until && e.Hash != hash && len(left) < maxEarlier {
				left = append(left, e)
			}
		}
	}
	t.Hash, t.Earlier = hash, left
}

// readCertificate returns the DER bytes of a PEM certificate.
func readCertificate(text string) ([]byte, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("not a PEM certificate")
	}
	_, err := x509.ParseCertificate(block.Bytes)
	return block.Bytes, err
}

func (a *API) revokeToken(ctx context.Context, o *Order) (*tokenOutput, error) {
	t, err := a.tokenByName(ctx, o.Name)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "body.name", "there is no token with this name: \"rempart token list\" shows them")
	}
	if err == nil && t.Revoked == 0 {
		t.Revoked = time.Now().Unix()
		err = a.updateToken(ctx, t)
	}
	if err != nil {
		return nil, changeset.Fail("the token was not revoked", err)
	}
	a.tokensChanged.Add(1)
	a.fleet.forgetToken(t.Name) // the nodes that reported with it are not waited for
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
		return nil, changeset.Fail("tokens cannot be read", err)
	}
	slices.SortFunc(out.Body.Tokens, func(x, y TokenInfo) int { return x.Created.Compare(y.Created) })
	return out, nil
}
