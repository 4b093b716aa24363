// Package pushapi is the operators' HTTP API: who may, is it valid, hand it to the journal.
//
// A change set goes through the guards, is signed by its author or by control's desk, and is published; or it is held until a second
// person approves. Every call that may change something, every call that a role refuses, and every reading of who did what is in the audit trail, which names
// who called and never from where. Other reads are not: programs repeat them.
package pushapi

import (
	"context"
	crand "crypto/rand"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"golang.org/x/time/rate"

	"rempart/blocklist/guard"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// Config is what the API needs. The zero value of a limit is its default.
type Config struct {
	Control *journal.Control
	Desk    *journal.SecretKey            // signs for who has a token and no key; an author in the key ring
	Guards  func() (*guard.Guards, error) // what changes are judged by
	Grammar Grammar                       // reads names as people write them
	Dir     string                        // for uploads while they are read
	Version string                        // of the program
	Log     *slog.Logger                  // nil: none

	MaxChanges int        // in one change set; 2,000,000
	Rate       rate.Limit // calls a second by one token; 20
	Burst      int        // of them at once; 50
}

const (
	maxRefusals = 1000 // that are told one by one
	maxMistakes = 100  // in a document, the same
)

// API is the operators' API. Its methods are safe from any goroutine.
type API struct {
	cfg           Config
	log           *slog.Logger
	instance      string // of this run
	api           huma.API
	handler       http.Handler
	tokens        *stream.Bucket
	holds         *stream.Bucket
	receipts      *stream.Bucket
	nodes         *stream.Bucket
	limits        limits
	audit         auditTrail
	fleet         fleet
	hashes        hashes
	tokensChanged atomic.Uint64 // how many tokens were revoked or rotated here
	counts        counts
	flights       flights
	open          open

	uploads   slots         // of bulk uploads under way
	small     slots         // of documents under way
	documents chan struct{} // held by each document that is taken apart: then it is much larger
	records   chan struct{} // held by who publishes
	undos     chan struct{} // held by who undoes
	reads     chan struct{} // held by each reading of the whole journal
	lists     chan struct{} // held by each reading of all receipts
}

// New returns the API; Run must be called for what happens by itself.
func New(ctx context.Context, cfg Config) (*API, error) {
	if cfg.Control == nil || cfg.Desk == nil || cfg.Guards == nil || cfg.Grammar == nil {
		return nil, errors.New("the push API needs a control, a desk key, guards and names")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxChanges == 0 {
		cfg.MaxChanges = 2_000_000
	}
	if cfg.Rate == 0 {
		cfg.Rate, cfg.Burst = 20, 50
	}
	s := cfg.Control.Stream
	a := &API{
		cfg: cfg, log: cfg.Log, instance: crand.Text(), tokens: s.Bucket(stream.Tokens), holds: s.Bucket(stream.Holds), receipts: s.Bucket(stream.Receipts), nodes: s.Bucket(stream.Nodes),
		limits: newLimits(cfg.Rate, cfg.Burst), flights: flights{by: map[string]chan struct{}{}}, open: open{by: map[string]State{}}, uploads: newSlots(16, 2), small: newSlots(64, 16),
		documents: make(chan struct{}, 4), records: make(chan struct{}, 1), undos: make(chan struct{}, 1), reads: make(chan struct{}, 1), lists: make(chan struct{}, 1),
	}
	a.fleet.init()
	a.counts.init()
	if err := a.audit.begin(ctx, cfg.Control); err != nil {
		return nil, err
	}
	if err := a.loadNodes(ctx); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Rempart push API", cfg.Version)
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil // its page would load from elsewhere
	config.Transformers = append(config.Transformers, withoutValues)
	config.Info.Description = "Operators block, allow and withdraw names here; every change is signed, numbered, and in force on every server within a second."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", Description: "A token of rempart token."},
		"certificate": {Type: "mutualTLS", Description: "A client certificate registered with rempart token --certificate."},
	}
	a.api = humago.New(mux, config)
	a.api.UseMiddleware(a.authenticate)
	a.register()
	a.handler = quietly(sameSite(typed(mux)))
	return a, nil
}

// withoutValues leaves out of errors what was wrong: it may be long, or secret. They name the field.
func withoutValues(_ huma.Context, _ string, v any) (any, error) {
	if m, ok := v.(*huma.ErrorModel); ok {
		for _, e := range m.Errors {
			e.Value, e.Message = nil, cut(e.Message)
		}
	}
	return v, nil
}

// Handler serves /v1/ and the API's document, /openapi.json and /openapi.yaml. It refuses requests of other sites' web pages.
func (a *API) Handler() http.Handler { return a.handler }

// Server returns an HTTP server for a handler, with limits on slow and large requests.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // it names clients' addresses
	}
}

// Role is what somebody may ask for.
type Role string

// The roles.
const (
	Publisher Role = "publisher" // change sets, undo, suspend
	Approver  Role = "approver"  // release of what is held, undo, suspend
	Auditor   Role = "auditor"   // reads everything, the audit trail too
	Node      Role = "node"      // follows the journal
)

var allRoles = []Role{Publisher, Approver, Auditor, Node}

var people = []Role{Publisher, Approver, Auditor}

// operation is one of the API. Of method and status, the zero value is GET and 200.
type operation struct {
	id, method, path, tag, summary, description string
	roles                                       []Role // any of which may; none: what is asked for is signed itself
	status                                      int
	errors                                      []int // beside those that every operation has
	publishes                                   bool  // it appends to the journal: refused while a node excludes that
	audited                                     bool  // of a GET: it is in the audit trail, as all others are, since it shows who did what
}

// rolesKey is where an operation has its roles, auditedKey whether it is in the audit trail.
const (
	rolesKey   = "roles"
	auditedKey = "audited"
)

// add adds an operation to the API and its document.
func add[I, O any](a *API, o operation, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: o.id, Method: o.method, Path: o.path, Tags: []string{o.tag}, Summary: o.summary, DefaultStatus: o.status,
		Errors: append([]int{http.StatusTooManyRequests, http.StatusServiceUnavailable}, o.errors...), Metadata: map[string]any{rolesKey: o.roles},
		MaxBodyBytes: 64 << 10,
	}
	if op.Method == "" {
		op.Method = http.MethodGet
	}
	op.Metadata[auditedKey] = o.audited || op.Method != http.MethodGet
	if o.publishes {
		op.Errors = append(op.Errors, http.StatusConflict)
		publish := handler
		handler = func(ctx context.Context, in *I) (*O, error) {
			if err := a.mayPublish(ctx); err != nil {
				return nil, err
			}
			return publish(ctx, in)
		}
	}
	who := "Whoever has a root key."
	if len(o.roles) > 0 {
		var names []string
		for _, r := range o.roles {
			names = append(names, string(r))
		}
		who = "Role: " + strings.Join(names, " or ") + "."
		op.Security = []map[string][]string{{"token": {}}, {"certificate": {}}}
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden)
	}
	if op.Description = who; o.description != "" {
		op.Description = o.description + "\n\n" + who
	}
	huma.Register(a.api, op, handler)
}

// problem is an error as RFC 9457 writes it. field is where in the request it is, "" for nowhere.
func problem(status int, field, detail string) error {
	if field == "" {
		return huma.NewError(status, detail)
	}
	return huma.NewError(status, detail, &huma.ErrorDetail{Message: detail, Location: field})
}

// unavailable is the answer when the journal does not take what it should.
func (a *API) unavailable(what string, err error) error {
	a.log.Error(what, "err", err)
	return problem(http.StatusServiceUnavailable, "", what+": nothing was changed that is not told; try again")
}

// waitTime is how long a call waits for its turn.
const waitTime = 30 * time.Second

// turn waits for a place among those that may do something at once, until leave is called.
func (a *API) turn(ctx context.Context, places chan struct{}, what string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, huma.ErrorWithHeaders(a.unavailable(what, ctx.Err()), http.Header{"Retry-After": {"5"}})
	}
}

// register adds every operation.
func (a *API) register() {
	a.registerPush()
	a.registerHolds()
	a.registerStages()
	a.registerNames()
	a.registerFleet()
	a.registerTokens()
	a.registerAudit()
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
