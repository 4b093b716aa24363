package pushapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rempart/blocklist"
	"rempart/internal/appeal"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// openAppeals opens the desk of appeals, if the configuration has a policy for them.
func (a *API) openAppeals() {
	if a.cfg.AppealPolicy == nil {
		return
	}
	a.appeals = appeal.New(appeal.Config{
		Bucket: a.cfg.Control.Stream.Bucket(stream.Appeals), Keys: controlKeys{a.cfg.Control}, Publish: appealPublisher{a}, Blocks: a.blocksOf,
		Policy: a.cfg.AppealPolicy, Log: a.log,
	})
}

// blocksOf implements Blocks of appeal.Config. It also returns the blocks of changes that apply to some servers only.
func (a *API) blocksOf(name string) (all []appeal.Block) {
	wire, err := blocklist.AppendName(nil, name)
	if err != nil {
		return nil
	}
	st, now := a.cfg.Control.State(), time.Now().Unix()
	inForce := func(start, expiry int64) bool { return start <= now && (expiry == 0 || now < expiry) }
	for rest := wire; len(rest) > 1; rest = rest[1+int(rest[0]):] {
		for _, e := range st.View().Claims(rest) {
			reaches := e.Scope&blocklist.Exact != 0
			if len(rest) < len(wire) {
				reaches = e.Scope&blocklist.Below != 0
			}
			if e.Decision != blocklist.Block || !reaches || !e.HasQuorum || !inForce(e.Start, e.Expiry) {
				continue
			}
			b := appeal.Block{Entry: e.Name, Category: e.Category.String(), Mark: journal.MarkText(e.Mark), Decision: e.ID}
			for _, source := range e.Sources {
				if b.Operator = b.Operator || source == journal.Operator; source != journal.Operator {
					b.Lists = append(b.Lists, source)
				}
			}
			all = append(all, b)
		}
		for _, s := range st.Scoped {
			if c := &s.Change; c.Name == blocklist.NameText(rest) && c.Do == journal.Block && inForce(c.Start, c.Expiry) {
				all = append(all, appeal.Block{Entry: c.Name, Category: c.Category, Mark: c.Mark, Decision: c.Decision, Operator: true})
			}
		}
	}
	return all
}

// Appeals returns the desk of appeals; nil without a policy for them.
func (a *API) Appeals() *appeal.Desk { return a.appeals }

// controlKeys signs with control's key, and checks signatures by the key ring in force.
type controlKeys struct{ *publish.Control }

// IsControl reports whether a key that was control's at that time signed s.
func (k controlKeys) IsControl(s *signing.Sealed, at int64) bool {
	_, err := k.State().SoleSigner(s, at, signing.RoleControl)
	return err == nil
}

// appealPublisher publishes the change sets of decisions about appeals.
type appealPublisher struct{ a *API }

// appealsAuthor is the author of these change sets. The records of the appeal name the reviewer.
var appealsAuthor = changeset.By{Token: "appeals", Person: "appeals"}

var errNotReady = errors.New("control is still reading its journal")

// Publish publishes changes under an ID. It does nothing if that was done before.
func (p appealPublisher) Publish(ctx context.Context, id, comment string, changes []journal.Change) (version uint64, err error) {
	if err := p.mayPublish(ctx); err != nil {
		return 0, err
	}
	j, err := p.a.sets.NewJudge(false)
	if err != nil {
		return 0, err
	}
	defer j.Close()
	u, err := j.Create(&journal.ChangeSet{ID: id, Comment: comment})
	if err != nil {
		return 0, err
	}
	defer u.Close()
	for i, c := range changes {
		if err := j.Take(u, i+1, c, nil); err != nil {
			return 0, err
		}
	}
	r, err := p.a.sets.Submit(ctx, u, j, changeset.Submission{Content: "appeal", By: appealsAuthor})
	if err != nil {
		return 0, err
	}
	if r.State == changeset.Refused {
		return 0, fmt.Errorf("the guards refused the change set %s: %v", id, r.Refused)
	}
	return r.Version, nil
}

// Undo undoes the change set of an ID.
func (p appealPublisher) Undo(ctx context.Context, id string) error {
	if err := p.mayPublish(ctx); err != nil {
		return err
	}
	isConflict := func(err error) bool {
		kind, ok := changeset.KindOf(err)
		return ok && kind == changeset.Conflict
	}
	_, err := p.a.sets.Undo(ctx, id, appealsAuthor)
	if !isConflict(err) {
		return err
	}
	if _, err = p.a.sets.Reject(ctx, id, appealsAuthor); isConflict(err) { // it is not held: later change sets changed the name
		return nil
	}
	return err
}

func (p appealPublisher) mayPublish(ctx context.Context) error {
	select {
	case <-p.a.cfg.Control.Ready():
		return p.a.mayPublish(ctx)
	default:
		return errNotReady
	}
}
