package main

import (
	"context"
	"errors"
	"net"

	"rempart/internal/appeal"
	"rempart/internal/appeal/ownership"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/web/portal"
)

// appealDesk implements portal.Appeals with control's desk of appeals.
type appealDesk struct {
	control *controlServer
	checker *ownership.Checker
}

// appealsOf returns the desk at which the portal files requests for a review; nil if control accepts no requests. dial connects to the sites of appellants; it
// looks up names without the filter, which blocks these sites.
func (k *controlServer) appealsOf(dial func(ctx context.Context, network, address string) (net.Conn, error)) portal.Appeals {
	if k.appeals == nil {
		return nil
	}
	return &appealDesk{k, &ownership.Checker{LookupTXT: net.DefaultResolver.LookupTXT, Dial: dial}}
}

func (d *appealDesk) desk() *appeal.Desk { return d.control.api.Load().Appeals() }

// NewCode returns a code by which a reader finds a request again.
func (d *appealDesk) NewCode() string { return appeal.NewCode() }

// File stores a request.
func (d *appealDesk) File(ctx context.Context, code string, f portal.Filing) (*portal.Appeal, error) {
	a, err := d.desk().File(ctx, code, appeal.Filing{
		Name: f.Block.Name, Owner: f.Owner, Reason: f.Reason, Email: f.Email, Language: f.Language,
		Block: appeal.Block{
			Entry: f.Block.Entry, Category: f.Block.Category.String(), Mark: journal.MarkText(f.Block.Mark), Lists: f.Block.Lists, Operator: f.Block.Operator,
			Decision: f.Block.Decision, Target: f.Block.Target,
		},
	})
	return d.result(a, code, err)
}

// Find returns the request with a code.
func (d *appealDesk) Find(ctx context.Context, code string) (*portal.Appeal, error) {
	a, err := d.desk().ByCode(ctx, code)
	return d.result(a, code, err)
}

// Prove looks for the proof that the appellant controls the name.
func (d *appealDesk) Prove(ctx context.Context, code string) (*portal.Appeal, error) {
	a, err := d.desk().ByCode(ctx, code)
	if err == nil && !a.Proved && d.checker.Check(ctx, a.Name, ownership.Text(code)) {
		a, err = d.desk().MarkProved(ctx, a.Number)
	}
	return d.result(a, code, err)
}

var (
	appealStates  = map[appeal.State]portal.AppealState{appeal.Open: portal.AppealOpen, appeal.Second: portal.AppealSecond, appeal.Upheld: portal.AppealUpheld, appeal.Rejected: portal.AppealRejected}
	appealReasons = map[appeal.Why]portal.AppealReason{
		appeal.Safe: portal.SiteSafe, appeal.Repaired: portal.SiteRepaired, appeal.Dangerous: portal.SiteDangerous, appeal.Authority: portal.AuthorityDecides, appeal.Unclear: portal.Unclear,
	}
)

// result returns an appeal and an error of the desk as the portal shows them. A decision that a second person must confirm is not shown.
func (d *appealDesk) result(a *appeal.Appeal, code string, err error) (*portal.Appeal, error) {
	refused := (*changeset.Error)(nil)
	switch {
	case errors.As(err, &refused) && refused.Kind == changeset.Invalid:
		return nil, portal.FieldError(refused.Field)
	case errors.As(err, &refused) && refused.Kind == changeset.NotFound:
		return nil, portal.ErrNoAppeal
	case err != nil:
		d.control.log.Error("a request of the portal about an appeal failed", "error", err)
		return nil, err
	}
	policy := d.control.appeals.Get()
	shown := &portal.Appeal{
		Number: a.Number, Name: a.Name, Owner: a.Owner, State: appealStates[a.State], Suspended: a.Suspension != "", Filed: a.Filed, Due: a.Due,
		Service: policy.Service, Contact: policy.Contact, Silence: policy.Silence, Routes: policy.Routes,
		Proof: ownership.Text(code), ProofName: ownership.Record(a.Name), ProofFile: ownership.File(a.Name), Proved: a.Proved,
	}
	if a.State.IsDecided() {
		shown.Decided, shown.Why, shown.Note = a.Decided, appealReasons[a.Decision.Why], a.Decision.Note
	}
	return shown, nil
}
