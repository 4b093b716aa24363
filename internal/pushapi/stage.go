package pushapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"rempart/internal/journal"
)

// stage is a change set on its way: in force on a share of the nodes, until it goes on to all, or back.
type stage struct {
	Share float64           `json:"share"`
	Until int64             `json:"until"`           // Unix seconds at which it goes on
	Usual map[string]before `json:"usual,omitempty"` // how the nodes that have it stood before
	Back  string            `json:"back,omitempty"`  // why it is withdrawn; it does not go on any more
	Asked string            `json:"asked,omitempty"` // ID of the withdrawal that waits for a second person
	Stuck bool              `json:"stuck,omitempty"` // it cannot be withdrawn as a whole
}

// stagesEvery is how often stages are looked at, and lostEvery how often for those that another control left.
const (
	stagesEvery = 2 * time.Second
	lostEvery   = 10 * time.Minute
	retryEvery  = 30 * time.Second // after one of them could not be looked at
)

// Run does what happens by itself until ctx ends: reports of nodes are taken in, stages go on, what is held too long is rejected.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for ctx.Err() == nil {
			err := a.cfg.Control.Stream.Reports(ctx, a.takeReport(ctx))
			if err != nil && ctx.Err() == nil {
				a.log.Error("reports of nodes do not arrive", "err", err)
				sleep(ctx, 5*time.Second)
			}
		}
		return nil
	})
	g.Go(func() error {
		a.watch(ctx)
		return nil
	})
	return g.Wait()
}

// watch looks at what is staged, held and pending until ctx ends.
func (a *API) watch(ctx context.Context) {
	var looked time.Time
	failed := map[string]time.Time{}
	look := func(id string, how func(context.Context, string) error) {
		if time.Since(failed[id]) < retryEvery {
			return
		}
		delete(failed, id)
		if err := how(ctx, id); err != nil && ctx.Err() == nil {
			failed[id] = time.Now()
			a.log.Error("a change set that is staged, held or pending cannot be looked at", "id", id, "err", err)
		}
	}
	for turn := 0; ctx.Err() == nil; turn++ {
		if time.Since(looked) > lostEvery {
			if err := a.findOpen(ctx); err == nil {
				looked = time.Now()
			} else if ctx.Err() == nil {
				a.log.Error("receipts cannot be read", "err", err)
			}
		}
		for _, id := range a.open.ids(Staged, Held) {
			look(id, a.look)
		}
		if pending := a.open.ids(Pending); len(pending) > 0 { // one at a time: it may take a pass over the journal, and stages do not wait
			look(pending[turn%len(pending)], a.conclude)
		}
		a.fleet.expire()
		a.saveNodes(ctx)
		sleep(ctx, stagesEvery)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stagesEvery)
	defer cancel()
	a.saveNodes(ending)
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// findOpen finds what is staged, held or pending.
func (a *API) findOpen(ctx context.Context) error {
	_, err := a.newest(ctx, 1, func(k *kept) bool {
		a.open.note(k)
		return false
	})
	return err
}

// look decides about a change set that is staged or held.
func (a *API) look(ctx context.Context, id string) error {
	k, err := a.receipt(ctx, id)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	switch {
	case k.State == Held && k.Until <= now:
		return a.decide(ctx, id, Held, func(k *kept) error { return a.rejected(ctx, k, "nobody approved it in time") })
	case k.State == Staged && k.Stage.Back == "" && a.fleet.unusual(k.Stage) != "":
		err := a.decide(ctx, id, Staged, func(k *kept) error {
			if k.Stage.Back = a.fleet.unusual(k.Stage); k.Stage.Back != "" {
				k.Note = "being withdrawn by itself: " + k.Stage.Back
				a.log.Warn("a staged change set is being withdrawn", "id", id, "why", k.Stage.Back)
			}
			return a.save(ctx, k)
		})
		if err != nil {
			return err
		}
		return a.withdraw(ctx, id)
	case k.State == Staged && k.Stage.Back != "":
		return a.withdraw(ctx, id)
	case k.State == Staged && now >= k.Stage.Until:
		return a.decide(ctx, id, Staged, func(k *kept) error { return a.advance(ctx, k, "control") })
	default:
		a.open.note(k) // another control may have decided
		return nil
	}
}

// withdraw has control undo a staged change set. Where that waits for a second person (who must sign, say), it is told; where that person rejects it, the set
// goes on. What cannot be undone, since later change sets touched all of its names, stays as it is until people withdraw those.
func (a *API) withdraw(ctx context.Context, id string) error {
	waits, over := false, false
	err := a.decide(ctx, id, Staged, func(k *kept) (err error) {
		st := a.cfg.Control.State()
		over = st.Version >= k.Version && !slices.ContainsFunc(st.Scoped, func(s journal.Scoped) bool { return s.Set == id })
		waits, err = a.withdrawal(ctx, k)
		return err
	})
	if err == nil && over {
		a.undone(ctx, id, "") // nothing of it is in force any more
	}
	if err != nil || over || waits {
		return err
	}
	out, err := a.undoing(ctx, id, &caller{Name: "control", Owner: "control"})
	conflict := huma.StatusError(nil)
	stuck := errors.As(err, &conflict) && conflict.GetStatus() == http.StatusConflict
	if !stuck && (err != nil || out.Body.State != Held) {
		return err
	}
	return a.decide(ctx, id, Staged, func(k *kept) error {
		if k.Stage.Stuck = stuck; stuck {
			k.Note = fmt.Sprintf("to be withdrawn by hand, name by name, since it cannot be undone (%s): %s", conflict.Error(), k.Stage.Back)
		} else {
			k.Stage.Asked = out.Body.ID
			k.Note = fmt.Sprintf("to be withdrawn once a second person approves %s: %s", out.Body.ID, k.Stage.Back)
		}
		a.log.Error("a staged change set stays in force on a share of the nodes", "id", id, "why", k.Note)
		return a.save(ctx, k)
	})
}

// withdrawal looks what became of the withdrawal that a staged change set waits for; waits is false where it is to be asked for, anew.
func (a *API) withdrawal(ctx context.Context, k *kept) (waits bool, err error) {
	if k.Stage.Asked == "" {
		return k.Stage.Stuck, nil
	}
	n, err := a.receipt(ctx, k.Stage.Asked)
	switch {
	case err != nil || n.State == Held || n.State == Pending:
		return true, err
	case n.State == Rejected && n.Decider != "":
		k.Stage.Back, k.Stage.Usual, k.Stage.Asked = "", nil, ""
		k.Note = "it goes on: its withdrawal, " + n.ID + ", was rejected by " + n.Decider
		return true, a.save(ctx, k)
	}
	k.Stage.Asked = "" // nobody decided in time, or the journal refused it
	return false, a.save(ctx, k)
}

// decide has do decide about a change set that stands so.
func (a *API) decide(ctx context.Context, id string, state State, do func(*kept) error) error {
	leave, err := a.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	k, err := a.receipt(ctx, id)
	if err != nil {
		return err
	}
	if k.State != state {
		return problem(http.StatusConflict, "path.id", "it is not "+string(state)+" but "+string(k.State))
	}
	return do(k)
}

// advance has a staged change set go on to all nodes.
func (a *API) advance(ctx context.Context, k *kept, by string) error {
	r, err := a.publish(ctx, journal.Draft{Kind: journal.RecordAdvance, By: by, Set: k.ID})
	if err != nil {
		return err
	}
	k.State, k.Stage, k.Note = Published, nil, fmt.Sprintf("on all nodes since version %d", r.Version)
	k.Audience.Share = 0
	a.reach(k)
	a.counts.set(Published)
	a.counts.stage("advanced")
	return a.save(context.WithoutCancel(ctx), k)
}

type suspendInput struct {
	settled
	Body struct {
		Reason string `json:"reason" minLength:"1" maxLength:"500" doc:"Why; it stands in the journal."`
	}
}

type versionOutput struct {
	Body struct {
		Version   uint64 `json:"version"`
		Suspended bool   `json:"suspended"`
	}
}

func (a *API) registerStages() {
	add(a, operation{
		id: "advance", method: http.MethodPost, path: "/v1/changesets/{id}/advance", tag: "change sets", roles: []Role{Publisher, Approver}, errors: []int{404, 409}, publishes: true,
		summary: "Have a staged change set go on to all nodes now",
	}, func(ctx context.Context, in *idInput) (*receiptOutput, error) {
		out := &receiptOutput{Status: http.StatusOK}
		err := a.decide(ctx, in.ID, Staged, func(k *kept) error {
			if k.Stage.Back != "" {
				return problem(http.StatusConflict, "path.id", "it is "+k.Note)
			}
			err := a.advance(ctx, k, callerOf(ctx).Name)
			out.Body = k.Receipt
			return err
		})
		if status := huma.StatusError(nil); err != nil && !errors.As(err, &status) {
			err = a.unavailable("whether it went on is not known", err)
		}
		return out, err
	})
	a.handle("suspend", "Stop enforcement on every node, at once: names are answered as if nothing were blocked", journal.RecordSuspend)
	a.handle("resume", "Enforce again", journal.RecordResume)
}

// handle adds an end of the red handle.
func (a *API) handle(id, summary string, kind journal.RecordKind) {
	add(a, operation{
		id: id, method: http.MethodPost, path: "/v1/" + id, tag: "nodes", roles: []Role{Publisher, Approver}, errors: []int{422}, summary: summary, publishes: true,
	}, func(ctx context.Context, in *suspendInput) (*versionOutput, error) {
		out := &versionOutput{}
		out.Body.Suspended = kind == journal.RecordSuspend
		if st := a.cfg.Control.State(); st.Suspended == out.Body.Suspended {
			out.Body.Version = st.Version
			return out, nil
		}
		c := callerOf(ctx)
		c.reason = in.Body.Reason
		r, err := a.publish(ctx, journal.Draft{Kind: kind, By: c.Name, Reason: in.Body.Reason})
		if err != nil {
			return nil, a.unavailable("whether it was published is not known", err)
		}
		if err := a.noteEnforcement(context.WithoutCancel(ctx), kind, c.Name, in.Body.Reason, r); err != nil {
			a.log.Error("the receipt of a suspension or its end was not written; the journal has it", "version", r.Version, "err", err)
		}
		out.Body.Version = r.Version
		return out, nil
	})
}
