package pushapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"rempart/internal/journal/stream"
)

// caller is who calls.
type caller struct {
	Name  string
	Owner string // the person behind it: two tokens of one are one person
	Roles []Role
}

func (c *caller) has(roles ...Role) bool {
	return slices.ContainsFunc(c.Roles, func(r Role) bool { return slices.Contains(roles, r) })
}

type callerKey struct{}

// callerOf is who makes a call that authenticate let through.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

// authenticate lets a call through: known, not too often, in a role that may, noted in the audit trail.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	route := op.Method + " " + op.Path
	refuse := func(status int, detail string) {
		a.counts.call(route, status)
		_ = huma.WriteErr(a.api, ctx, status, detail) // whoever asked went away
	}
	c, err := a.identify(ctx)
	roles, _ := op.Metadata["roles"].([]Role)
	if op.Metadata["open"] == true { // what it asks for is signed itself
		c, err = &caller{Name: "root"}, nil
		if !a.limits.strangers.Allow() {
			err = errTooOften
		}
	}
	switch {
	case errors.Is(err, errTooOften):
		ctx.SetHeader("Retry-After", "1")
		refuse(http.StatusTooManyRequests, "too many calls: wait a moment")
		return
	case errors.Is(err, errUnknown):
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="rempart"`)
		refuse(http.StatusUnauthorized, "a token that is known, not revoked and not expired is needed, or a registered client certificate")
		return
	case err != nil:
		a.log.Error("tokens cannot be read", "err", err)
		refuse(http.StatusServiceUnavailable, "tokens cannot be read: try again")
		return
	}
	entry := auditEntry{Who: c.Name, Call: route, ID: ctx.Param("id") + ctx.Param("name") + ctx.Param("version")}
	if len(roles) > 0 && !c.has(roles...) {
		entry.Outcome = "refused: role"
		_ = a.audit.add(ctx.Context(), entry) // it changes nothing
		refuse(http.StatusForbidden, "this needs the role "+string(roles[0])+", which "+c.Name+" has not")
		return
	}
	if op.Method != http.MethodGet {
		entry.Outcome = "asked"
		if err := a.audit.add(ctx.Context(), entry); err != nil {
			a.log.Error("the audit trail cannot be written", "err", err)
			refuse(http.StatusServiceUnavailable, "the audit trail cannot be written, and nothing is changed without: try again")
			return
		}
	}
	next(huma.WithValue(ctx, callerKey{}, c))
	status := ctx.Status()
	if status == 0 {
		status = http.StatusOK
	}
	a.counts.call(route, status)
	entry.Outcome = http.StatusText(status)
	_ = a.audit.add(context.WithoutCancel(ctx.Context()), entry) // that it was asked stands already
}

var (
	errUnknown  = errors.New("nobody known")
	errTooOften = errors.New("too often")
)

// identify is who calls, by token or certificate.
func (a *API) identify(ctx huma.Context) (*caller, error) {
	var secret string
	if text, ok := strings.CutPrefix(ctx.Header("Authorization"), "Bearer "); ok {
		secret = text
	}
	var certificate []byte
	if t := ctx.TLS(); t != nil && len(t.VerifiedChains) > 0 {
		certificate = t.PeerCertificates[0].Raw
	}
	return a.who(ctx.Context(), secret, certificate)
}

func (a *API) who(ctx context.Context, secret string, certificate []byte) (*caller, error) {
	var proof []byte
	switch {
	case secret != "":
		proof = []byte(secret)
	case certificate != nil:
		proof = certificate
	}
	if len(proof) == 0 || len(proof) > 64<<10 {
		return nil, a.stranger()
	}
	sum := sha256.Sum256(proof)
	hash := hex.EncodeToString(sum[:])
	t, err := a.tokenByHash(ctx, hash)
	if errors.Is(err, stream.ErrNone) {
		return nil, a.stranger()
	}
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(t.Hash), []byte(hash)) != 1 || t.Revoked != 0 || t.Expires != 0 && time.Now().Unix() >= t.Expires {
		return nil, a.stranger()
	}
	if !a.limits.of(t.Name).Allow() {
		return nil, errTooOften
	}
	return &caller{Name: t.Name, Owner: t.Owner, Roles: t.Roles}, nil
}

// stranger is errUnknown, or errTooOften when many try.
func (a *API) stranger() error {
	if !a.limits.strangers.Allow() {
		return errTooOften
	}
	return errUnknown
}

// Allowed reports whether a secret is a token's of one of the roles, for other doors than this API: NATS, the journal over HTTP.
func (a *API) Allowed(ctx context.Context, secret string, certificate []byte, roles ...Role) (name string, ok bool) {
	c, err := a.who(ctx, secret, certificate)
	if err != nil || !c.has(roles...) {
		return "", false
	}
	return c.Name, true
}

// Guarded is a handler for callers of the roles only; name tells the handler who.
func (a *API) Guarded(h http.Handler, roles ...Role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var certificate []byte
		if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
			certificate = r.TLS.PeerCertificates[0].Raw
		}
		secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		name, ok := a.Allowed(r.Context(), secret, certificate, roles...)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="rempart"`)
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			_ = json.NewEncoder(w).Encode(huma.NewError(http.StatusUnauthorized, "a token with the role node is needed"))
			return
		}
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, &caller{Name: name})))
	})
}

// limits are how often who may call.
type limits struct {
	rate      rate.Limit
	burst     int
	strangers *rate.Limiter
	mu        sync.Mutex
	by        map[string]*rate.Limiter // by token; as many as there are tokens
}

func newLimits(r rate.Limit, burst int) limits {
	return limits{rate: r, burst: burst, strangers: rate.NewLimiter(20, 50), by: map[string]*rate.Limiter{}}
}

func (l *limits) of(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[name] == nil {
		l.by[name] = rate.NewLimiter(l.rate, l.burst)
	}
	return l.by[name]
}
