// Package pushapi is the operators' HTTP API. It identifies the caller, checks the caller's role, decodes the request, calls package
// changeset, and renders the result. It also holds the nodes that report to control, and the tokens.
//
// The audit trail records every call that may change something, every call that is refused because of the caller's role, and every
// call that reads who did what. It names the caller's token and no address. Other reads are not recorded: programs repeat them.
package pushapi

import (
	"context"
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
	"rempart/internal/appeal"
	"rempart/internal/changeset"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Config configures the API. The zero value of a limit is its default.
type Config struct {
	Control *publish.Control
	Desk    *signing.SecretKey            // signs change sets that no author signed; an author in the key ring
	Guards  func() (*guard.Guards, error) // returns the guards by which changes are judged
	Grammar changeset.Grammar             // reads names in the notations that people use
	Dir     string                        // of uploads while they are processed
	Version string                        // of the program
	Log     *slog.Logger                  // nil: none

	AppealPolicy func() *appeal.Policy // returns how appeals are handled; nil: control accepts none

	MaxChanges int        // in one change set; 2,000,000
	Rate       rate.Limit // calls per second with one token; 20
	Burst      int        // calls at once with one token; 50
}

// API is the operators' API. Its methods are safe from any goroutine.
type API struct {
	cfg           Config
	log           *slog.Logger
	api           huma.API
	handler       http.Handler
	sets          *changeset.Lifecycle
	appeals       *appeal.Desk // nil: control accepts no appeals
	tokens        *stream.Bucket
	nodes         *stream.Bucket
	limits        limits
	audit         auditTrail
	fleet         fleet
	hashes        hashes
	tokensChanged atomic.Uint64 // counts tokens that were revoked or rotated here
	counts        counts

	uploadSlots   slots          // limit bulk uploads in progress
	documentSlots slots          // limit uploads of documents in progress
	documents     changeset.Gate // of documents that are decoded: that takes much more memory
	reads         changeset.Gate // of calls that read the whole journal
}

// New returns the API. Run must be called for the work that no call asks for.
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
		cfg: cfg, log: cfg.Log, tokens: s.Bucket(stream.Tokens), nodes: s.Bucket(stream.Nodes), limits: newLimits(cfg.Rate, cfg.Burst),
		uploadSlots: newSlots(16, 2), documentSlots: newSlots(64, 16), documents: changeset.NewGate(4), reads: changeset.NewGate(1),
	}
	a.sets = changeset.New(changeset.Config{
		Control: cfg.Control, Desk: cfg.Desk, Guards: cfg.Guards, Fleet: &a.fleet, Dir: cfg.Dir, Log: cfg.Log, MaxChanges: cfg.MaxChanges,
	})
	a.openAppeals()
	a.fleet.init()
	a.counts.calls = map[callKind]uint64{}
	if err := a.audit.open(ctx, cfg.Control); err != nil {
		return nil, err
	}
	if err := a.loadNodes(ctx); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	config := huma.DefaultConfig("Rempart push API", cfg.Version)
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil // that page would load scripts from other sites
	config.Transformers = append(config.Transformers, withoutValues)
	config.Info.Description = "With this API, operators block names, allow names and withdraw earlier decisions. Every change set is signed and numbered, and is in force on every server within a second."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":       {Type: "http", Scheme: "bearer", Description: "A token that was created with rempart token."},
		"certificate": {Type: "mutualTLS", Description: "A client certificate that was registered with rempart token --certificate."},
	}
	a.api = humago.New(mux, config)
	a.api.UseMiddleware(a.authenticate)
	a.register()
	a.handler = boundBodies(sameSite(typed(mux)))
	return a, nil
}

// Handler returns the handler of /v1/ and of the API's document, /openapi.json and /openapi.yaml. It refuses requests of other sites' web
// pages.
func (a *API) Handler() http.Handler { return a.handler }

// Server returns an HTTP server for a handler, with limits on slow and large requests.
func Server(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // its messages contain clients' addresses
	}
}

// Role is a set of operations that a token may call.
type Role string

// The roles.
const (
	Publisher Role = "publisher" // change sets, undo, suspend
	Approver  Role = "approver"  // approval of held change sets, undo, suspend
	Auditor   Role = "auditor"   // reads everything, including the audit trail
	Reviewer  Role = "reviewer"  // decides appeals
	Node      Role = "node"      // follows the journal
)

var allRoles = []Role{Publisher, Approver, Auditor, Reviewer, Node}

var people = []Role{Publisher, Approver, Auditor}

// operation describes an operation of the API. The zero value of method is GET, that of status 200.
type operation struct {
	id, method, path, tag, summary, description string
	roles                                       []Role // a caller needs one of them; none: the request itself is signed
	status                                      int
	errors                                      []int // statuses, in addition to those of every operation
	publishes                                   bool  // it appends to the journal: refused while mayPublish refuses
	audited                                     bool  // a GET that is recorded in the audit trail, because it shows who did what; other methods always are
}

// The keys under which an operation's metadata holds its roles, and whether it is recorded in the audit trail.
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
	who := "Signed by: a root key."
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
	huma.Register(a.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		return out, a.render(err)
	})
}

// register adds every operation.
func (a *API) register() {
	a.registerPush()
	a.registerChangeSets()
	a.registerEnforcement()
	a.registerNames()
	a.registerFleet()
	a.registerTokens()
	a.registerAudit()
	a.registerAppeals()
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
