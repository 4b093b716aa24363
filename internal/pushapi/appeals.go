package pushapi

import (
	"context"
	"net/http"
	"time"

	"rempart/internal/appeal"
)

// Appeal is a request of the public for a review of a block.
type Appeal struct {
	Number   string       `json:"number" doc:"The number of the appeal."`
	State    appeal.State `json:"state" enum:"open,second,upheld,rejected" doc:"The state: open; second, if a second person must confirm the decision; upheld or rejected."`
	Name     string       `json:"name" doc:"The blocked name, in ASCII."`
	Owner    bool         `json:"owner,omitempty" doc:"Whether the appellant claims to be responsible for the site."`
	Proved   bool         `json:"proved,omitempty" doc:"Whether the appellant proved to control the name, by a record in the DNS or a file of the site."`
	Reason   string       `json:"reason" doc:"Why the block is a mistake, in the words of the appellant."`
	Email    string       `json:"email,omitempty" doc:"The e-mail address for an answer, if the appellant gave one."`
	Language string       `json:"language" doc:"The language of the appellant, as a BCP 47 tag."`
	Filed    time.Time    `json:"filed" doc:"When the appeal was filed."`
	Due      time.Time    `json:"due" doc:"When an answer is due."`
	Overdue  bool         `json:"overdue,omitempty" doc:"Whether the answer was due before now."`
	Block    appeal.Block `json:"block" doc:"What was known of the block when the appeal was filed."`

	Outcome    appeal.Outcome `json:"outcome,omitempty" enum:"upheld,rejected" doc:"The decision, possibly one that a second person must confirm."`
	Why        appeal.Why     `json:"why,omitempty" enum:"safe,repaired,dangerous,authority,unclear" doc:"The reason for the decision."`
	Note       string         `json:"note,omitempty" doc:"What the reviewer wrote to the appellant."`
	Reviewer   string         `json:"reviewer,omitempty" doc:"The name of the token with which the decision was made."`
	Second     string         `json:"second,omitempty" doc:"The name of the token with which the decision was confirmed."`
	Decided    time.Time      `json:"decided,omitzero" doc:"When the decision became final."`
	ChangeSet  string         `json:"changeset,omitempty" doc:"The ID of the change set that the decision made."`
	Version    uint64         `json:"version,omitempty" doc:"The version of the set from which on that change set is in force. 0 while it is held."`
	Suspension string         `json:"suspension,omitempty" doc:"The ID of the change set that lets the name pass until the decision."`
}

func appealOf(a *appeal.Appeal) Appeal {
	return Appeal{
		Number: a.Number, State: a.State, Name: a.Name, Owner: a.Owner, Proved: a.Proved, Reason: a.Reason, Email: a.Email, Language: a.Language,
		Filed: a.Filed, Due: a.Due, Overdue: !a.State.IsDecided() && time.Now().After(a.Due), Block: a.Block,
		Outcome: a.Decision.Outcome, Why: a.Decision.Why, Note: a.Decision.Note, Reviewer: a.Reviewer, Second: a.Second, Decided: a.Decided,
		ChangeSet: a.ChangeSet, Version: a.Version, Suspension: a.Suspension,
	}
}

type appealsInput struct {
	State string `query:"state" enum:"open,second,upheld,rejected" doc:"Return only appeals in this state."`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000" doc:"The maximum number of appeals to return."`
}

type appealsOutput struct {
	Body struct {
		Appeals []Appeal       `json:"appeals" doc:"The appeals, the oldest first."`
		More    bool           `json:"more,omitempty" doc:"Whether there are more appeals than are returned."`
		Upheld  map[string]int `json:"upheld_by_list,omitempty" doc:"The number of upheld appeals by list that had blocked the name. The word operators stands for the operators' own blocks."`
	}
}

type appealInput struct {
	Number string `path:"number" maxLength:"32" doc:"The number of the appeal."`
}

type appealOutput struct{ Body Appeal }

type decisionInput struct {
	decodedBody
	Number string `path:"number" maxLength:"32" doc:"The number of the appeal."`
	Body   struct {
		Outcome appeal.Outcome `json:"outcome" enum:"upheld,rejected" doc:"The decision."`
		Why     appeal.Why     `json:"why" enum:"safe,repaired,dangerous,authority,unclear" doc:"The reason: safe or repaired if the appeal is upheld, otherwise dangerous, authority (only the authority that ordered the block can lift it) or unclear."`
		Note    string         `json:"note,omitempty" maxLength:"1000" doc:"A text for the appellant, in addition to the reason."`
	}
}

type confirmationInput struct {
	decodedBody
	Number string `path:"number" maxLength:"32" doc:"The number of the appeal."`
	Body   struct {
		Outcome appeal.Outcome `json:"outcome" enum:"upheld,rejected" doc:"The decision that the second person read."`
		Why     appeal.Why     `json:"why" enum:"safe,repaired,dangerous,authority,unclear" doc:"The reason that the second person read."`
	}
}

const appealsTag = "appeals"

// desk returns the desk of appeals, or the error of a control that handles none.
func (a *API) desk() (*appeal.Desk, error) {
	if a.appeals == nil {
		return nil, problem(http.StatusConflict, "", "this control handles no appeals: set REMPART_APPEALS to the path of a file that says how appeals are handled, and restart control")
	}
	return a.appeals, nil
}

func (a *API) registerAppeals() {
	readers := []Role{Reviewer, Auditor, Approver}
	add(a, operation{
		id: "appeals", path: "/v1/appeals", tag: appealsTag, roles: readers, audited: true, errors: []int{409}, summary: "List appeals, the oldest first",
	}, a.listAppeals)
	add(a, operation{
		id: "appeal", path: "/v1/appeals/{number}", tag: appealsTag, roles: readers, errors: []int{404, 409}, audited: true, summary: "Get an appeal",
	}, a.getAppeal)
	decided := []int{404, 409, 422}
	add(a, operation{
		id: "decide", method: http.MethodPost, path: "/v1/appeals/{number}/decision", tag: appealsTag, roles: []Role{Reviewer}, errors: decided, publishes: true,
		summary:     "Decide an appeal",
		description: "If the appeal is upheld, Rempart publishes a change set that withdraws the operators' block of exactly this name, or else allows the name. A second person must confirm the decision if the file of REMPART_APPEALS demands it; by default it does so for external orders.",
	}, a.decideAppeal)
	add(a, operation{
		id: "confirm", method: http.MethodPost, path: "/v1/appeals/{number}/confirmation", tag: appealsTag, roles: []Role{Reviewer, Approver}, errors: decided, publishes: true,
		summary:     "Confirm the decision of another person",
		description: "The person who decided cannot confirm the decision. The request names the decision, so that nobody confirms one that was changed meanwhile.",
	}, a.confirmAppeal)
}

func (a *API) listAppeals(ctx context.Context, in *appealsInput) (*appealsOutput, error) {
	desk, err := a.desk()
	if err != nil {
		return nil, err
	}
	leave, err := a.reads.Enter(ctx, "the appeals were not read")
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := desk.List(ctx, appeal.State(in.State))
	if err != nil {
		return nil, err
	}
	out := &appealsOutput{}
	out.Body.Appeals, out.Body.Upheld = []Appeal{}, desk.Stats().Upheld
	for _, one := range found {
		if len(out.Body.Appeals) == in.Limit {
			out.Body.More = true
			break
		}
		out.Body.Appeals = append(out.Body.Appeals, appealOf(one))
	}
	return out, nil
}

func (a *API) getAppeal(ctx context.Context, in *appealInput) (*appealOutput, error) {
	desk, err := a.desk()
	if err != nil {
		return nil, err
	}
	return appealResult(desk.Get(ctx, in.Number))
}

func appealResult(found *appeal.Appeal, err error) (*appealOutput, error) {
	if err != nil {
		return nil, err
	}
	return &appealOutput{appealOf(found)}, nil
}

func (a *API) decideAppeal(ctx context.Context, in *decisionInput) (*appealOutput, error) {
	desk, err := a.desk()
	if err != nil {
		return nil, err
	}
	return appealResult(desk.Decide(ctx, in.Number, by(ctx), appeal.Decision{Outcome: in.Body.Outcome, Why: in.Body.Why, Note: in.Body.Note}))
}

func (a *API) confirmAppeal(ctx context.Context, in *confirmationInput) (*appealOutput, error) {
	desk, err := a.desk()
	if err != nil {
		return nil, err
	}
	return appealResult(desk.Confirm(ctx, in.Number, by(ctx), in.Body.Outcome, in.Body.Why))
}
