package pushapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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
}

// stagesEvery is how often stages are looked at, and lostEvery how often for those that another control left.
const (
	stagesEvery = 2 * time.Second
	lostEvery   = 10 * time.Minute
)

// Run does what happens by itself until ctx ends: reports of nodes are taken in, stages go on, what is held too long is rejected.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for ctx.Err() == nil {
			err := a.cfg.Control.Stream.Reports(ctx, a.reporting(ctx))
			if err != nil && ctx.Err() == nil {
				a.log.Error("reports of nodes do not arrive", "err", err)
				sleep(ctx, 5*time.Second)
			}
		}
		return nil
	})
	g.Go(func() error {
		var looked time.Time
		for ctx.Err() == nil {
			if time.Since(looked) > lostEvery {
				if err := a.findOpen(ctx); err == nil {
					looked = time.Now()
				} else if ctx.Err() == nil {
					a.log.Error("receipts cannot be read", "err", err)
				}
			}
			for _, id := range a.open.ids(Staged, Held, Pending) {
				if err := a.look(ctx, id); err != nil && ctx.Err() == nil {
					a.log.Error("a change set that is staged, held or pending cannot be looked at", "id", id, "err", err)
				}
			}
			a.fleet.forget()
			sleep(ctx, stagesEvery)
		}
		return nil
	})
	return g.Wait()
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

// look decides about a change set that is staged, held or pending.
func (a *API) look(ctx context.Context, id string) error {
	k, err := a.receipt(ctx, id)
	if err != nil {
		return err
	}
	now := time.Now().Unix()
	switch {
	case k.State == Held && k.Until <= now:
		return a.decide(ctx, id, Held, func(k *kept) error { return a.rejected(ctx, k, "nobody approved it in time") })
	case k.State == Pending && k.stale() && !a.flights.taken(id): // it may have it for long: others are not to wait for that
		return a.conclude(ctx, id)
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
// goes on.
func (a *API) withdraw(ctx context.Context, id string) error {
	waits := false
	err := a.decide(ctx, id, Staged, func(k *kept) error {
		if waits = k.Stage.Asked != ""; !waits {
			return nil
		}
		n, err := a.receipt(ctx, k.Stage.Asked)
		if err != nil || n.State != Rejected {
			return err
		}
		k.Stage.Back, k.Stage.Usual, k.Stage.Asked = "", nil, ""
		k.Note = "it goes on: its withdrawal, " + n.ID + ", was rejected"
		return a.save(ctx, k)
	})
	if err != nil || waits {
		return err
	}
	out, err := a.undoing(ctx, id, &caller{Name: "control", Owner: "control"})
	if err != nil || out.Body.State != Held {
		return err
	}
	return a.decide(ctx, id, Staged, func(k *kept) error {
		k.Stage.Asked = out.Body.ID
		k.Note = fmt.Sprintf("to be withdrawn once a second person approves %s: %s", out.Body.ID, k.Stage.Back)
		a.log.Error("a staged change set stays in force until a second person approves its withdrawal", "id", id, "approve", out.Body.ID, "why", k.Stage.Back)
		return a.save(ctx, k)
	})
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
		id: "advance", method: http.MethodPost, path: "/v1/changesets/{id}/advance", tag: "change sets", roles: []Role{Publisher, Approver}, errors: []int{404, 409},
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
		id: id, method: http.MethodPost, path: "/v1/" + id, tag: "nodes", roles: []Role{Publisher, Approver}, errors: []int{422}, summary: summary,
	}, func(ctx context.Context, in *suspendInput) (*versionOutput, error) {
		out := &versionOutput{}
		out.Body.Suspended = kind == journal.RecordSuspend
		if st := a.cfg.Control.State(); st.Suspended == out.Body.Suspended {
			out.Body.Version = st.Version
			return out, nil
		}
		r, err := a.publish(ctx, journal.Draft{Kind: kind, By: callerOf(ctx).Name, Reason: in.Body.Reason})
		if err != nil {
			return nil, a.unavailable("whether it was published is not known", err)
		}
		out.Body.Version = r.Version
		return out, nil
	})
}
