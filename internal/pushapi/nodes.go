package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// Report takes in a node's status. name is whom it came from, as its token says.
func (a *API) Report(name string, data []byte) error {
	var st journal.Status
	if len(data) > journal.MaxStatus {
		return errors.New("a status is shorter")
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return errors.New("not a status")
	}
	if st.Node == "" || len(st.Node) > 64 || strings.ContainsFunc(st.Node, func(r rune) bool { return r <= ' ' || r > '~' }) || st.Blocked > st.Queries {
		return errors.New("not a status: a node's name is 1 to 64 printable characters")
	}
	if name != "" && name != st.Node {
		st.Node = name + "/" + st.Node // several nodes may share a token, and none takes another's name
	}
	a.fleet.report(st.Node, st)
	own := a.cfg.Control.State()
	if a.fleet.ahead(st.Node, st.Epoch == own.Epoch && st.Version > own.Version) {
		a.log.Error("a node has a later version in force than the journal: if it was restored from an older backup, no node takes what is pushed now; see rempart control --recover",
			"node", st.Node, "version", st.Version, "journal", own.Version)
	}
	return nil
}

// reporting takes in reports as the journal's stream hands them over. Hostile ones say nothing.
func (a *API) reporting(ctx context.Context) func(from string, data []byte) {
	names, asked := map[string]string{}, time.Now() // by who reports
	return func(from string, data []byte) {
		if time.Since(asked) > time.Minute { // tokens are revoked
			clear(names)
			asked = time.Now()
		}
		if names[from] == "" {
			names[from] = a.nodeOf(ctx, from)
		}
		if name := names[from]; name != "" {
			_ = a.Report(name, data)
		}
	}
}

// hashForm is that of what is kept of a token's secret.
var hashForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// nodeOf is the name of the token that from is the hash of, if it is a node's, or from itself where it is a name already.
func (a *API) nodeOf(ctx context.Context, from string) string {
	if !hashForm.MatchString(from) {
		return from
	}
	t, err := a.tokenByHash(ctx, from)
	if err != nil || !t.valid() || !slices.Contains(t.Roles, Node) {
		return ""
	}
	return t.Name
}

// Caller is the name of whose token let a request through Guarded.
func Caller(r *http.Request) string {
	if c := callerOf(r.Context()); c != nil {
		return c.Name
	}
	return ""
}

// Applied is to be told what comes into force at control.
func (a *API) Applied(e journal.Effect) {
	if e.Record.Version > 0 {
		a.fleet.published(e.Record.Version, time.UnixMilli(e.Record.Time))
	}
}

// NodeInfo is a node as people see it.
type NodeInfo struct {
	Node      string    `json:"node"`
	Version   uint64    `json:"version" doc:"In force there."`
	Behind    uint64    `json:"behind" doc:"How many versions control is ahead."`
	Seen      time.Time `json:"seen" doc:"Its last report."`
	Gone      bool      `json:"gone,omitempty" doc:"It has not reported for minutes."`
	Suspended bool      `json:"suspended,omitempty"`
	Queries   uint64    `json:"queries" doc:"Since its start."`
	Blocked   uint64    `json:"blocked"`
	Problem   string    `json:"problem,omitempty"`
}

// VersionInfo is how far a version got.
type VersionInfo struct {
	Version uint64    `json:"version"`
	Time    time.Time `json:"time"`
	Kind    string    `json:"kind"`
	By      string    `json:"by,omitempty"`
	Nodes   int       `json:"nodes" doc:"That reported lately."`
	InForce int       `json:"in_force" doc:"How many of them have it, or a later one."`
	Median  int64     `json:"median_ms,omitempty" doc:"How long half of the nodes took, in milliseconds."`
	Slowest int64     `json:"slowest_ms,omitempty" doc:"How long the slowest took."`
}

type nodesOutput struct {
	Body struct {
		Version uint64     `json:"version" doc:"The newest."`
		Nodes   []NodeInfo `json:"nodes"`
	}
}

type versionInput struct {
	Version uint64 `path:"version"`
}

type versionInfoOutput struct{ Body VersionInfo }

func (a *API) registerFleet() {
	add(a, operation{id: "nodes", path: "/v1/nodes", tag: "nodes", roles: people, summary: "Say how every node stands"},
		func(context.Context, *struct{}) (*nodesOutput, error) {
			out := &nodesOutput{}
			out.Body.Version = a.cfg.Control.State().Version
			out.Body.Nodes = a.fleet.list(out.Body.Version)
			return out, nil
		})
	add(a, operation{id: "version", path: "/v1/versions/{version}", tag: "nodes", roles: people, errors: []int{404}, summary: "Say on how many nodes a version is in force"}, a.version)
}

func (a *API) version(ctx context.Context, in *versionInput) (*versionInfoOutput, error) {
	data, err := a.cfg.Control.Record(ctx, in.Version)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.version", "no such version in this epoch of the journal")
	}
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	r, _, err := journal.ReadRecord(data)
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	v := a.fleet.version(in.Version)
	v.Time, v.Kind, v.By = time.UnixMilli(r.Time).UTC(), string(r.Kind), r.By
	return &versionInfoOutput{v}, nil
}
