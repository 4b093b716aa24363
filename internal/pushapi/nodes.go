package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// Report stores a node's status. name is the node's as its token says it. The error says why data is no status.
func (a *API) Report(ctx context.Context, name string, data []byte) error {
	var st journal.Status
	if len(data) > journal.MaxStatus {
		return errors.New("a status is shorter")
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return errors.New("not a status")
	}
	bare := func(text string) bool {
		return strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	if st.Node == "" || len(st.Node) > 64 || bare(st.Node) || st.Blocked > st.Queries {
		return errors.New("not a status: a node's name is 1 to 64 printable characters")
	}
	if len(st.Country) > 2 || len(st.Operator) > 64 || bare(st.Country) || bare(st.Operator) || len(st.Hash) > 64 {
		return errors.New("not a status: a country has two letters, an operator at most 64 printable characters, a hash 64 digits")
	}
	if name != "" && name != st.Node {
		st.Node = name + "/" + st.Node // several nodes may share a token, and none takes another's name
	}
	result := a.fleet.report(st.Node, st, a.locate(ctx, &st))
	if result.apart {
		a.log.Error("a server and this journal exclude each other", "node", st.Node, "why", a.Conflict())
	}
	if result.full {
		a.log.Warn("there is no room for more servers of a token: those are not listed and not waited for; if it reports for servers that do not exist, revoke it and run \"rempart nodes forget\" with its name",
			"token", tokenOf(st.Node), "servers", maxNodes)
	}
	return nil
}

// takeReport returns a function that takes in the reports that arrive on the journal's stream. Invalid reports are ignored.
func (a *API) takeReport(ctx context.Context) func(node string, data []byte) {
	return func(node string, data []byte) { _ = a.Report(ctx, node, data) }
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
	Epoch     uint64    `json:"epoch" doc:"Of the journal that it follows."`
	Version   uint64    `json:"version" doc:"The version in force on the server."`
	Behind    uint64    `json:"behind" doc:"By how many versions control is ahead of the server."`
	Seen      time.Time `json:"seen" doc:"The time of the server's last report; of an earlier one while awaited."`
	Gone      bool      `json:"gone,omitempty" doc:"The server has not reported for three minutes. It is not waited for."`
	Awaited   bool      `json:"awaited,omitempty" doc:"The server has not reported since this control started. Its other fields are older than that."`
	Country   string    `json:"country,omitempty" doc:"REMPART_COUNTRY of the server."`
	Operator  string    `json:"operator,omitempty" doc:"REMPART_OPERATOR of the server."`
	Suspended bool      `json:"suspended,omitempty"`
	Queries   uint64    `json:"queries" doc:"Since its start."`
	Blocked   uint64    `json:"blocked"`
	Problem   string    `json:"problem,omitempty" doc:"What keeps the server from the newest version now."`
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
		Problem string     `json:"problem,omitempty" doc:"Why control publishes nothing now, if its journal is damaged."`
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
			st := a.cfg.Control.State()
			out.Body.Version = st.Version
			if err := a.cfg.Control.Damaged(); err != nil {
				out.Body.Problem = err.Error()
			}
			out.Body.Nodes = a.fleet.list(st.Epoch, st.Version)
			return out, nil
		})
	add(a, operation{
		id: "forget", method: http.MethodPost, path: "/v1/nodes/forget", tag: "nodes", roles: []Role{Publisher, Approver}, errors: []int{404, 422},
		summary: "Forget a server that is retired", description: "The server is not waited for any more. One that still reports is listed again from its next report: revoke its token first.",
	}, a.forget)
	add(a, operation{id: "version", path: "/v1/versions/{version}", tag: "nodes", roles: people, errors: []int{404}, summary: "Say on how many nodes a version is in force"}, a.version)
}

func (a *API) version(ctx context.Context, in *versionInput) (*versionInfoOutput, error) {
	data, err := a.cfg.Control.Record(ctx, in.Version)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.version", "no such version in this epoch of the journal")
	}
	if errors.Is(err, stream.ErrLost) {
		return nil, problem(http.StatusNotFound, "path.version", "the journal lost the record of this version")
	}
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	r, _, err := journal.ReadRecord(data)
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	v := a.fleet.version(r.Epoch, in.Version)
	v.Time, v.Kind, v.By = time.UnixMilli(r.Time).UTC(), string(r.Kind), r.By
	return &versionInfoOutput{v}, nil
}

type forgetInput struct {
	Body struct {
		Node string `json:"node" minLength:"1" maxLength:"128" doc:"The server's name, as it is listed or without the name of its token before the slash; or the name of a token: then all servers that report with it."`
	}
}

type forgetOutput struct {
	Body struct {
		Forgotten int      `json:"forgotten" doc:"How many servers were forgotten."`
		Reporting []string `json:"reporting,omitempty" doc:"Those of them that reported within the last minute: they are listed again from their next report, unless they are stopped or their token is revoked."`
	}
}

func (a *API) forget(ctx context.Context, in *forgetInput) (*forgetOutput, error) {
	callerOf(ctx).about = cut(in.Body.Node)
	out := &forgetOutput{}
	var ambiguous []string
	out.Body.Forgotten, out.Body.Reporting, ambiguous = a.fleet.forget(in.Body.Node)
	if len(ambiguous) > 0 {
		return nil, problem(http.StatusUnprocessableEntity, "body.node", "several servers have that name: choose one of "+cut(strings.Join(ambiguous, ", ")))
	}
	if out.Body.Forgotten == 0 {
		return nil, problem(http.StatusNotFound, "body.node", "no server of that name has reported: see rempart nodes")
	}
	return out, nil
}
