package pushapi

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// caller is who calls.
type caller struct {
	Name  string
	Owner string // the person behind it: two tokens of one are one person
	Roles []Role

	about  string // the ID of what the call is about, for the audit trail
	reason string // the caller's, for the same
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

// authenticate lets a call through: known, not too often, in a role that may, noted in the audit trail unless it is a read that programs repeat.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	route := op.Method + " " + op.Path
	refuse := func(status int, detail string) {
		a.counts.call(route, status)
		_ = huma.WriteErr(a.api, ctx, status, detail) // whoever asked went away
	}
	if !a.isReady(ctx.Context(), op.Method) {
		ctx.SetHeader("Retry-After", "1")
		refuse(http.StatusServiceUnavailable, "control is still reading its journal: try again in a moment")
		return
	}
	roles, _ := op.Metadata[rolesKey].([]Role)
	if len(roles) == 0 { // what it asks for is signed: the handler looks, limits who signs wrongly, and keeps the audit trail
		next(ctx)
		a.counts.call(route, statusOf(ctx))
		return
	}
	c, err := a.identify(ctx)
	switch {
	case errors.Is(err, errTooOften):
		ctx.SetHeader("Retry-After", "1")
		refuse(http.StatusTooManyRequests, "too many calls: wait a moment")
		return
	case errors.Is(err, errUnknown):
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="rempart"`)
		refuse(http.StatusUnauthorized, unknown)
		return
	case err != nil:
		a.log.Error("tokens cannot be read", "err", err)
		refuse(http.StatusServiceUnavailable, "tokens cannot be read: try again")
		return
	}
	entry := AuditEntry{Who: c.Name, Call: route, ID: cut(ctx.Param("id") + ctx.Param("name") + ctx.Param("version"))}
	if !c.has(roles...) {
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
	defer func() { // also where an answer breaks off
		a.counts.call(route, statusOf(ctx))
		if audited, _ := op.Metadata[auditedKey].(bool); !audited {
			return
		}
		if c.about != "" {
			entry.ID = c.about
		}
		entry.Reason = c.reason
		entry.Outcome = http.StatusText(statusOf(ctx))
		add := a.audit.add
		if op.Method == http.MethodGet {
			add = a.audit.addOnce
		}
		if err := add(context.WithoutCancel(ctx.Context()), entry); err != nil { // that it was asked stands already
			a.log.Warn("the outcome of a call is not in the audit trail", "call", route, "err", err)
		}
	}()
	next(huma.WithValue(ctx, callerKey{}, c))
}

// readyPatience bounds how long a call waits, after control started, for the key ring by which it is judged.
const readyPatience = 10 * time.Second

// isReady reports whether enough of the journal is known for calls of a method, and waits for it a moment. Reading needs a state, be it of an earlier run. What
// changes something is judged by the key ring of the whole journal: by an earlier ring a right signature would be refused for good.
func (a *API) isReady(ctx context.Context, method string) bool {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if !changes(method) {
		return a.cfg.Control.State().Version > 0 || a.cfg.Control.Follower().Wait(ctx, 1) == nil
	}
	select {
	case <-a.cfg.Control.Begun():
		return true
	case <-ctx.Done():
		return false
	}
}

func statusOf(ctx huma.Context) int {
	if status := ctx.Status(); status != 0 {
		return status
	}
	return http.StatusOK
}

const unknown = "a token that is known, not revoked and not expired is needed, or a registered client certificate"

var (
	errUnknown  = errors.New("nobody known")
	errTooOften = errors.New("too often")
)

// identify is who calls, by token or certificate, if not too often.
func (a *API) identify(ctx huma.Context) (*caller, error) {
	secret, certificate := proofs(ctx.Header("Authorization"), ctx.TLS())
	c, err := a.who(ctx.Context(), secret, certificate)
	if err == nil && !a.limits.of(c.Name).Allow() {
		return nil, errTooOften
	}
	return c, err
}

// proofs are by what a caller says who it is.
func proofs(authorization string, t *tls.ConnectionState) (secret string, certificate []byte) {
	if scheme, rest, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "Bearer") {
		secret = strings.TrimSpace(rest)
	}
	if t != nil && len(t.VerifiedChains) > 0 {
		certificate = t.PeerCertificates[0].Raw
	}
	return secret, certificate
}

// who is whose token or certificate that is. Its error is errUnknown, errTooOften where many are, or another.
func (a *API) who(ctx context.Context, secret string, certificate []byte) (*caller, error) {
	proof := certificate
	if secret != "" {
		proof = []byte(secret)
	}
	if len(proof) == 0 || len(proof) > 64<<10 {
		return nil, a.stranger()
	}
	hash := journal.HashOf(proof)
	t, err := a.tokenByHash(ctx, hash)
	if errors.Is(err, stream.ErrNone) {
		return nil, a.stranger()
	}
	if err != nil {
		return nil, err
	}
	if !t.accepts(hash) || !t.valid() {
		return nil, a.stranger()
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

// Guarded is a handler for callers of the roles only; Caller tells the handler who. Calls that go through are not limited, for many nodes may
// share a token, nor are they in the audit trail. Requests of other sites' web pages are refused, as by Handler.
func (a *API) Guarded(h http.Handler, roles ...Role) http.Handler {
	h = typed(h)
	return sameSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret, certificate := proofs(r.Header.Get("Authorization"), r.TLS)
		c, err := a.who(r.Context(), secret, certificate)
		switch {
		case errors.Is(err, errTooOften):
			w.Header().Set("Retry-After", "1")
			refuse(w, r, http.StatusTooManyRequests, "", "too many calls: wait a moment")
		case errors.Is(err, errUnknown):
			w.Header().Set("WWW-Authenticate", `Bearer realm="rempart"`)
			refuse(w, r, http.StatusUnauthorized, "", unknown)
		case err != nil:
			a.log.Error("tokens cannot be read", "err", err)
			refuse(w, r, http.StatusServiceUnavailable, "", "tokens cannot be read: try again")
		case !c.has(roles...) && !a.limits.of(c.Name).Allow():
			w.Header().Set("Retry-After", "1")
			refuse(w, r, http.StatusTooManyRequests, "", "too many calls: wait a moment")
		case !c.has(roles...):
			_ = a.audit.add(r.Context(), AuditEntry{Who: c.Name, Call: r.Method + " " + cut(r.URL.Path), Outcome: "refused: role"}) // it changes nothing
			refuse(w, r, http.StatusForbidden, "", "this needs the role "+string(roles[0])+", which "+c.Name+" has not")
		default:
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		}
	}))
}

// limits are how often who may call.
type limits struct {
	rate      rate.Limit
	burst     int
	strangers *rate.Limiter // callers that nobody knows, all together
	orders    *rate.Limiter // those that no root signed: what a root orders, revoking a token say, waits for nobody
	mu        sync.Mutex
	by        map[string]*rate.Limiter // by token; as many as there are tokens
}

func newLimits(r rate.Limit, burst int) limits {
	return limits{rate: r, burst: burst, strangers: rate.NewLimiter(20, 50), orders: rate.NewLimiter(20, 50), by: map[string]*rate.Limiter{}}
}

func (l *limits) of(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[name] == nil {
		l.by[name] = rate.NewLimiter(l.rate, l.burst)
	}
	return l.by[name]
}
