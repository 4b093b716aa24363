package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// Report stores the status that a node reports. name is the name of the token with which it reports. The error says why data is not a
// status.
func (a *API) Report(ctx context.Context, name string, data []byte) error {
	var st journal.Status
	if len(data) > journal.MaxStatus {
		return fmt.Errorf("not a status: more than %d bytes", journal.MaxStatus)
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

// Caller returns the name of the token with which a request passed Guarded.
func Caller(r *http.Request) string {
	if c := callerOf(r.Context()); c != nil {
		return c.Name
	}
	return ""
}

// Applied must be called with each record that comes into force at control.
func (a *API) Applied(e journal.Effect) {
	if e.Record.Version > 0 {
		a.fleet.notePublished(e.Record.Version, time.UnixMilli(e.Record.Time))
	}
}

// NodeInfo is the state of a node as the API shows it.
type NodeInfo struct {
	Node      string    `json:"node" doc:"The name of the token of the server, a slash, and the name of the server."`
	Epoch     uint64    `json:"epoch" doc:"The epoch of the journal that the server follows."`
	Version   uint64    `json:"version" doc:"The version in force on the server."`
	Behind    uint64    `json:"behind" doc:"The number of versions by which control is ahead of the server."`
	Seen      time.Time `json:"seen" doc:"The time of the server's last report. While the server is awaited, that is a report to an earlier run of control."`
	Gone      bool      `json:"gone,omitempty" doc:"The server has not reported for three minutes. Rempart does not wait for it."`
	Awaited   bool      `json:"awaited,omitempty" doc:"The server has not reported since control started. Its other fields are from before the start."`
	Country   string    `json:"country,omitempty" doc:"The country in which the server is, from its setting REMPART_COUNTRY."`
	Operator  string    `json:"operator,omitempty" doc:"The operator of the server, from its setting REMPART_OPERATOR."`
	Suspended bool      `json:"suspended,omitempty" doc:"Whether enforcement is suspended on the server."`
	Queries   uint64    `json:"queries" doc:"The number of queries since the server started."`
	Blocked   uint64    `json:"blocked" doc:"The number of blocked queries since the server started."`
	Problem   string    `json:"problem,omitempty" doc:"The reason why the server does not have the newest version in force."`
}

// VersionInfo is a version, with the number of nodes on which it is in force.
type VersionInfo struct {
	Version uint64    `json:"version" doc:"The version of the set."`
	Time    time.Time `json:"time" doc:"The time at which the version was published."`
	Kind    string    `json:"kind" doc:"The kind of the record that made the version: changes, snapshot, ring, suspend, resume, advance or renew."`
	By      string    `json:"by,omitempty" doc:"The name of the token with which the version was requested. The word lists, root, time or control stands for a version that no token requested."`
	Nodes   int       `json:"nodes" doc:"The number of servers that reported within the last three minutes."`
	InForce int       `json:"in_force" doc:"The number of those servers on which this version or a later one is in force."`
	Median  int64     `json:"median_ms,omitempty" doc:"The time in milliseconds after which half of the servers had the version in force."`
	Slowest int64     `json:"slowest_ms,omitempty" doc:"The time in milliseconds that the slowest server took."`
}

type nodesOutput struct {
	Body struct {
		Version uint64     `json:"version" doc:"The newest version of the set."`
		Nodes   []NodeInfo `json:"nodes" doc:"The servers that report to control."`
		Problem string     `json:"problem,omitempty" doc:"The reason why control publishes nothing, if its journal is damaged."`
	}
}

type versionInput struct {
	Version uint64 `path:"version" doc:"The version of the set."`
}

type versionInfoOutput struct{ Body VersionInfo }

func (a *API) registerFleet() {
	add(a, operation{id: "nodes", path: "/v1/nodes", tag: "nodes", roles: people, summary: "List the servers and their state"},
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
		summary: "Forget a retired server", description: "Rempart does not wait for the server any more. A server that still reports is listed again from its next report: revoke its token first.",
	}, a.forget)
	add(a, operation{id: "version", path: "/v1/versions/{version}", tag: "nodes", roles: people, errors: []int{404}, summary: "Get the number of servers on which a version is in force"}, a.version)
}

func (a *API) version(ctx context.Context, in *versionInput) (*versionInfoOutput, error) {
	data, err := a.cfg.Control.Record(ctx, in.Version)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.version", "this epoch of the journal has no such version")
	}
	if errors.Is(err, stream.ErrLost) {
		return nil, problem(http.StatusNotFound, "path.version", "the journal lost the record of this version")
	}
	if err != nil {
		return nil, changeset.Fail("the journal cannot be read", err)
	}
	r, _, err := journal.ReadRecord(data)
	if err != nil {
		return nil, changeset.Fail("the journal cannot be read", err)
	}
	v := a.fleet.version(r.Epoch, in.Version)
	v.Time, v.Kind, v.By = time.UnixMilli(r.Time).UTC(), string(r.Kind), r.By
	return &versionInfoOutput{v}, nil
}

type forgetInput struct {
	Body struct {
		Node string `json:"node" minLength:"1" maxLength:"128" doc:"The name of the server, as it is listed or without the name of its token before the slash. The name of a token stands for all servers that report with that token."`
	}
}

type forgetOutput struct {
	Body struct {
		Forgotten int      `json:"forgotten" doc:"The number of servers that were forgotten."`
		Reporting []string `json:"reporting,omitempty" doc:"The forgotten servers that reported within the last minute. They are listed again from their next report, unless they are stopped or their token is revoked."`
	}
}

func (a *API) forget(ctx context.Context, in *forgetInput) (*forgetOutput, error) {
	callerOf(ctx).about = changeset.Shorten(in.Body.Node)
	out := &forgetOutput{}
	result := a.fleet.forget(in.Body.Node)
	if len(result.ambiguous) > 0 {
		return nil, problem(http.StatusUnprocessableEntity, "body.node", "several servers have this name: choose one of "+changeset.Shorten(strings.Join(result.ambiguous, ", ")))
	}
	out.Body.Forgotten, out.Body.Reporting = result.forgotten, result.reporting
	if out.Body.Forgotten == 0 {
		return nil, problem(http.StatusNotFound, "body.node", "no server with this name has reported: rempart nodes lists the servers")
	}
	return out, nil
}
