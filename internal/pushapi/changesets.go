package pushapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
)

type receiptOutput struct {
	Status int
	Body   changeset.Receipt
}

// receiptOf returns the response to a step: 201 if the change set was published, 202 if it is held for a second person, otherwise
// 200.
func receiptOf(r *changeset.Result, err error) (*receiptOutput, error) {
	if err != nil {
		return nil, err
	}
	return &receiptOutput{statusOfResult(r), r.Receipt}, nil
}

func statusOfResult(r *changeset.Result) int {
	switch {
	case r.Repeated:
		return http.StatusOK
	case r.State == changeset.Held:
		return http.StatusAccepted
	case r.State == changeset.Published || r.State == changeset.Staged:
		return http.StatusCreated
	}
	return http.StatusOK
}

type idInput struct {
	ID string `path:"id" maxLength:"100" doc:"The ID of the change set."`
}

type approveInput struct {
	decodedBody
	ID   string                      `path:"id" maxLength:"100" doc:"The ID of the change set."`
	Body *changeset.Countersignature `required:"false"`
}

type listInput struct {
	State string `query:"state" enum:"pending,published,staged,held,rejected,refused,undone" doc:"Return only change sets in this state."`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"The maximum number of change sets to return."`
}

type receiptsOutput struct {
	Body struct {
		ChangeSets []changeset.Receipt `json:"changesets" doc:"The receipts of the change sets, the newest first."`
	}
}

type undoOutput struct {
	Status int
	Body   changeset.UndoResult
}

// changeSets is the tag of the operations on change sets.
const changeSets = "change sets"

func (a *API) registerChangeSets() {
	const one = "/v1/changesets/{id}"
	decided := []int{404, 409, 422}
	add(a, operation{
		id: "changesets", path: "/v1/changesets", tag: changeSets, roles: people, summary: "List change sets, newest first",
		description: "Each receipt shows at most ten refused and ten held changes.",
	}, a.listChangeSets)
	add(a, operation{
		id: "changeset", path: one, tag: changeSets, roles: people, summary: "Get the receipt of a change set", errors: []int{404},
		description: "The receipt shows the state of the change set and everything that happened to it.",
	}, a.getChangeSet)
	add(a, operation{
		id: "content", path: one + "/content", tag: changeSets, roles: people, errors: []int{404}, audited: true, summary: "Get the signed bytes of a held change set",
		description: "The response is the line of the change set, then one change per line. An approver reads these bytes, and can sign their SHA-512.",
	}, a.getContent)
	add(a, operation{
		id: "approve", method: http.MethodPost, path: one + "/approve", tag: changeSets, roles: []Role{Approver}, errors: decided, publishes: true, status: http.StatusCreated,
		summary:     "Approve a held change set",
		description: "The change set is published. The person who pushed a change set cannot approve it: a second person must. If the key ring demands signatures of several keys, the body holds the signature of the approver's own key.",
	}, a.approve)
	add(a, operation{
		id: "reject", method: http.MethodPost, path: one + "/reject", tag: changeSets, roles: []Role{Approver}, errors: decided, summary: "Reject a held change set",
		description: "The changes of a rejected change set are never applied.",
	}, a.reject)
	add(a, operation{
		id: "undo", method: http.MethodPost, path: one + "/undo", tag: changeSets, roles: []Role{Publisher, Approver}, errors: decided, status: http.StatusCreated, publishes: true,
		summary:     "Undo a change set",
		description: "Rempart publishes a change set that withdraws the changes of this one, and restores what operators had decided about its names before. Names that later change sets changed stay as they are.",
	}, a.undo)
	add(a, operation{
		id: "advance", method: http.MethodPost, path: one + "/advance", tag: changeSets, roles: []Role{Publisher, Approver}, errors: []int{404, 409}, publishes: true,
		summary:     "Extend a staged change set to all servers now",
		description: "A staged change set is extended to all servers at the end of its stage. This operation ends the stage now.",
	}, a.advance)
}

// by returns the person who makes a call.
func by(ctx context.Context) changeset.By {
	c := callerOf(ctx)
	return changeset.By{Token: c.Name, Person: c.Owner}
}

func (a *API) listChangeSets(ctx context.Context, in *listInput) (*receiptsOutput, error) {
	found, err := a.sets.List(ctx, changeset.State(in.State), in.Limit)
	if err != nil {
		return nil, err
	}
	out := &receiptsOutput{}
	out.Body.ChangeSets = append([]changeset.Receipt{}, found...)
	return out, nil
}

func (a *API) getChangeSet(ctx context.Context, in *idInput) (*receiptOutput, error) {
	r, err := a.sets.Receipt(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &receiptOutput{http.StatusOK, r}, nil
}

func (a *API) getContent(ctx context.Context, in *idInput) (*huma.StreamResponse, error) {
	u, err := a.sets.HeldContent(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer u.Close()
		hc.SetHeader("Content-Type", TypeNDJSON)
		_, _ = u.WriteTo(hc.BodyWriter()) // the digest shows whether the response is complete
	}}, nil
}

func (a *API) approve(ctx context.Context, in *approveInput) (*receiptOutput, error) {
	return receiptOf(a.sets.Approve(ctx, in.ID, by(ctx), in.Body))
}

func (a *API) reject(ctx context.Context, in *idInput) (*receiptOutput, error) {
	return receiptOf(a.sets.Reject(ctx, in.ID, by(ctx)))
}

func (a *API) undo(ctx context.Context, in *idInput) (*undoOutput, error) {
	r, err := a.sets.Undo(ctx, in.ID, by(ctx))
	if err != nil {
		return nil, err
	}
	return &undoOutput{statusOfResult(r), r.UndoResult()}, nil
}

func (a *API) advance(ctx context.Context, in *idInput) (*receiptOutput, error) {
	r, err := a.sets.Advance(ctx, in.ID, by(ctx))
	if err != nil {
		return nil, err
	}
	return &receiptOutput{http.StatusOK, r.Receipt}, nil
}

type suspendInput struct {
	decodedBody
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"The reason. It is recorded in the journal and in the audit trail."`
	}
}

type versionOutput struct {
	Body struct {
		Version   uint64 `json:"version" doc:"The version from which on enforcement is in this state."`
		Suspended bool   `json:"suspended" doc:"Whether enforcement is suspended."`
	}
}

func (a *API) registerEnforcement() {
	a.addKillSwitch("suspend", "Suspend enforcement on all servers (kill switch)",
		"Every server answers names as if nothing were blocked, at once, until enforcement is resumed.", journal.RecordSuspend)
	a.addKillSwitch("resume", "Resume enforcement on all servers", "Every server enforces its set again after a suspension.", journal.RecordResume)
}

// addKillSwitch adds the operation that suspends or resumes enforcement.
func (a *API) addKillSwitch(id, summary, description string, kind journal.RecordKind) {
	add(a, operation{
		id: id, method: http.MethodPost, path: "/v1/" + id, tag: "nodes", roles: []Role{Publisher, Approver}, errors: []int{422}, publishes: true,
		summary: summary, description: description,
	}, func(ctx context.Context, in *suspendInput) (*versionOutput, error) {
		callerOf(ctx).reason = in.Body.Reason
		version, err := a.sets.SetEnforcement(ctx, kind, by(ctx), in.Body.Reason)
		if err != nil {
			return nil, err
		}
		out := &versionOutput{}
		out.Body.Version, out.Body.Suspended = version, kind == journal.RecordSuspend
		return out, nil
	})
}

// Recover writes the receipts of records that were recovered into the journal, oldest first: a restored backup lacks them.
func (a *API) Recover(ctx context.Context, all []publish.Recovered) error {
	return a.sets.Recover(ctx, all)
}
