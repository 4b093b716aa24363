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

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// caller is the token with which a call is made.
type caller struct {
	Name  string
	Owner string // the person behind it: two tokens of one are one person
	Roles []Role

	about  string // the ID of the change set or node, for the audit trail
	reason string // that the caller gives, for the audit trail
}

func (c *caller) has(roles ...Role) bool {
	return slices.ContainsFunc(c.Roles, func(r Role) bool { return slices.Contains(roles, r) })
}

type callerKey struct{}

// callerOf returns the caller of a call that authenticate allowed.
func callerOf(ctx context.Context) *caller {
	c, _ := ctx.Value(callerKey{}).(*caller)
	return c
}

// authenticate allows a call if the caller is known, has the role and does not call too often. It records the call in the audit trail, except
// reads that programs repeat.
func (a *API) authenticate(ctx huma.Context, next func(huma.Context)) {
	op := ctx.Operation()
	if !a.isReady(ctx.Context(), op.Method) {
		ctx.SetHeader("Retry-After", "1")
		a.refuse(ctx, http.StatusServiceUnavailable, "control is still reading its journal: try again in a moment")
		return
	}
	roles, _ := op.Metadata[rolesKey].([]Role)
	if len(roles) == 0 { // the request itself is signed: its handler checks the signature, limits wrong ones, and records the call
		next(ctx)
		a.counts.call(routeOf(op), statusOf(ctx))
		return
	}
	c, known := a.identifyOrRefuse(ctx)
	if !known {
		return
	}
	entry := AuditEntry{Who: c.Name, Call: routeOf(op), ID: changeset.Shorten(ctx.Param("id") + ctx.Param("name") + ctx.Param("number") + ctx.Param("version"))}
	if !c.has(roles...) {
		entry.Outcome = "refused: role"
		_ = a.audit.add(ctx.Context(), entry) // it changes nothing
		a.refuse(ctx, http.StatusForbidden, c.Name+" does not have the required role \""+string(roles[0])+"\"")
		return
	}
	if op.Method != http.MethodGet {
		entry.Outcome = "asked"
		if err := a.audit.add(ctx.Context(), entry); err != nil {
			a.log.Error("the audit trail cannot be written", "err", err)
			a.refuse(ctx, http.StatusServiceUnavailable, "nothing was changed, because the audit trail cannot be written: try again")
			return
		}
	}
	defer a.recordOutcome(ctx, c, entry) // also if the response is aborted
	next(huma.WithValue(ctx, callerKey{}, c))
}

// routeOf returns the name of an operation in metrics and in the audit trail.
func routeOf(op *huma.Operation) string { return op.Method + " " + op.Path }

// refuse answers a call with an error.
func (a *API) refuse(ctx huma.Context, status int, detail string) {
	a.counts.call(routeOf(ctx.Operation()), status)
	_ = huma.WriteErr(a.api, ctx, status, detail) // fails if the client closed the connection
}

// identifyOrRefuse returns the caller, or answers the call with an error and returns false.
func (a *API) identifyOrRefuse(ctx huma.Context) (*caller, bool) {
	c, err := a.identify(ctx)
	switch {
	case err == nil:
		return c, true
	case errors.Is(err, errTooOften):
		ctx.SetHeader("Retry-After", "1")
		a.refuse(ctx, http.StatusTooManyRequests, "too many calls: wait a moment")
	case errors.Is(err, errUnknown):
		ctx.SetHeader("WWW-Authenticate", `Bearer realm="rempart"`)
		a.refuse(ctx, http.StatusUnauthorized, unknown)
	default:
		a.log.Error("tokens cannot be read", "err", err)
		a.refuse(ctx, http.StatusServiceUnavailable, "tokens cannot be read: try again")
	}
	return nil, false
}

// recordOutcome counts an answered call, and adds its outcome to the audit trail if the operation is audited.
func (a *API) recordOutcome(ctx huma.Context, c *caller, entry AuditEntry) {
	op := ctx.Operation()
	a.counts.call(routeOf(op), statusOf(ctx))
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
	if err := add(context.WithoutCancel(ctx.Context()), entry); err != nil { // the call itself is recorded already
		a.log.Warn("the outcome of a call is not in the audit trail", "call", routeOf(op), "err", err)
	}
}

// readyPatience bounds how long a call waits, after control started, for the key ring by which it is judged.
const readyPatience = 10 * time.Second

// isReady reports whether enough of the journal was read for calls of a method, and waits for that for readyPatience. A read needs a state,
// possibly that of an earlier run. A change is judged by the newest key ring: an older one would refuse a right signature permanently.
func (a *API) isReady(ctx context.Context, method string) bool {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	if !changes(method) {
		return a.cfg.Control.State().Version > 0 || a.cfg.Control.Follower().Wait(ctx, 1) == nil
	}
	select {
	case <-a.cfg.Control.Ready():
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

const unknown = "this call needs a token that is known, not revoked and not expired, or a registered client certificate"

var (
	errUnknown  = errors.New("unknown caller")
	errTooOften = errors.New("too many calls")
)

// identify returns the caller by token or certificate. Its error is errUnknown, errTooOften, or that of reading tokens.
func (a *API) identify(ctx huma.Context) (*caller, error) {
	secret, certificate := proofs(ctx.Header("Authorization"), ctx.TLS())
	c, err := a.who(ctx.Context(), secret, certificate)
	if err == nil && !a.limits.of(c.Name).Allow() {
		return nil, errTooOften
	}
	return c, err
}

// proofs returns the secret and the client certificate with which a caller identifies itself.
func proofs(authorization string, t *tls.ConnectionState) (secret string, certificate []byte) {
	if scheme, rest, ok := strings.Cut(authorization, " "); ok && strings.EqualFold(scheme, "Bearer") {
		secret = strings.TrimSpace(rest)
	}
	if t != nil && len(t.VerifiedChains) > 0 {
		certificate = t.PeerCertificates[0].Raw
	}
	return secret, certificate
}

// who returns the caller to whom a secret or a certificate belongs. Its error is as that of identify.
func (a *API) who(ctx context.Context, secret string, certificate []byte) (*caller, error) {
	proof := certificate
	if secret != "" {
		proof = []byte(secret)
	}
	if len(proof) == 0 || len(proof) > 64<<10 {
		return nil, a.unknownCaller()
	}
	hash := journal.HashOf(proof)
	t, err := a.tokenByHash(ctx, hash)
	if errors.Is(err, stream.ErrNone) {
		return nil, a.unknownCaller()
	}
	if err != nil {
		return nil, err
	}
	if !t.accepts(hash) || !t.valid() {
		return nil, a.unknownCaller()
	}
	return &caller{Name: t.Name, Owner: t.Owner, Roles: t.Roles}, nil
}

// unknownCaller returns errUnknown, or errTooOften if there are many unknown callers.
func (a *API) unknownCaller() error {
	if !a.limits.unknown.Allow() {
		return errTooOften
	}
	return errUnknown
}

// Allowed reports whether a secret or certificate belongs to a token with one of the roles. The journal over NATS and over HTTP use it.
func (a *API) Allowed(ctx context.Context, secret string, certificate []byte, roles ...Role) (name string, ok bool) {
	c, err := a.who(ctx, secret, certificate)
	if err != nil || !c.has(roles...) {
		return "", false
	}
	return c.Name, true
}

// Guarded returns a handler that calls h for callers with one of the roles; h can call Caller. Allowed calls are not limited, because many
// nodes may share a token, and not recorded in the audit trail. Requests of other sites' web pages are refused, as by Handler.
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
			_ = a.audit.add(r.Context(), AuditEntry{Who: c.Name, Call: r.Method + " " + changeset.Shorten(r.URL.Path), Outcome: "refused: role"}) // it changes nothing
			refuse(w, r, http.StatusForbidden, "", c.Name+" does not have the required role \""+string(roles[0])+"\"")
		default:
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, c)))
		}
	}))
}

// limits holds the request rate limits.
type limits struct {
	rate    rate.Limit
	burst   int
	unknown *rate.Limiter // of unknown callers, together
	orders  *rate.Limiter // of orders without a root's signature, together: an order of a root, such as revoking a token, is not limited
	mu      sync.Mutex
	by      map[string]*rate.Limiter // by token
}

func newLimits(r rate.Limit, burst int) limits {
	return limits{rate: r, burst: burst, unknown: rate.NewLimiter(20, 50), orders: rate.NewLimiter(20, 50), by: map[string]*rate.Limiter{}}
}

func (l *limits) of(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[name] == nil {
		l.by[name] = rate.NewLimiter(l.rate, l.burst)
	}
	return l.by[name]
}
