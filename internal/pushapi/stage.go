package pushapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	"rempart/internal/journal"
)

// stage is a change set on its way: in force on a share of the nodes, until it goes on to all, or back.
type stage struct {
	Share float64          `json:"share"`
	Until int64            `json:"until"` // Unix seconds at which it goes on
	Usual map[string]rates `json:"usual"` // of the nodes that have it: which block rates were usual before
}

// baseline keeps what was usual.
func (s *stage) baseline(usual map[string]rates) { s.Usual = usual }

// stagesEvery is how often stages are looked at.
const stagesEvery = 2 * time.Second

// Run does what happens by itself until ctx ends: reports of nodes are taken in, stages go on, what is held too long is rejected.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for ctx.Err() == nil {
			err := a.cfg.Control.Stream.Reports(ctx, func(node string, data []byte) { _ = a.Report(node, data) }) // hostile ones say nothing
			if err != nil && ctx.Err() == nil {
				a.log.Error("reports of nodes do not arrive", "err", err)
				sleep(ctx, 5*time.Second)
			}
		}
		return nil
	})
	g.Go(func() error {
		for ctx.Err() == nil {
			if err := a.stages(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("stages and holds cannot be looked at", "err", err)
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

// stages looks at every change set that is staged or held.
func (a *API) stages(ctx context.Context) error {
	var due []*kept
	held := 0
	err := a.eachReceipt(ctx, func(k *kept) {
		switch k.State {
		case Held:
			held++
			if time.Since(k.Time) > journal.MaxAge {
				due = append(due, k)
			}
		case Staged:
			due = append(due, k)
		}
	})
	a.counts.held.Store(int64(held))
	if err != nil {
		return err
	}
	for _, k := range due {
		current, err := a.receipt(ctx, k.ID)
		if err != nil || current.State != k.State {
			continue
		}
		if current.State == Held {
			current.State, current.Note = Rejected, "nobody approved it in time"
			if err := a.save(ctx, current); err != nil {
				return err
			}
			a.letGo(ctx, k.ID)
			continue
		}
		if err := a.look(ctx, current); err != nil {
			return err
		}
	}
	return nil
}

// look decides about a staged change set.
func (a *API) look(ctx context.Context, k *kept) error {
	if k.Stage == nil {
		return nil
	}
	if why := a.fleet.unusual(k.ID, k.Stage); why != "" {
		a.log.Warn("a staged change set is withdrawn", "id", k.ID, "why", why)
		k.Note = "withdrawn by itself: " + why
		if err := a.save(ctx, k); err != nil {
			return err
		}
		_, err := a.undoing(ctx, k, &caller{Name: "control", Owner: "control"})
		return err
	}
	if time.Now().Unix() < k.Stage.Until {
		return nil
	}
	return a.advance(ctx, k, "control")
}

// unusual says which of the nodes that have a staged change set blocks unusually much or little, or nothing.
func (f *fleet) unusual(set string, s *stage) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.nodes {
		u, ok := s.Usual[name]
		own := name[strings.LastIndexByte(name, '/')+1:]
		if !ok || !u.Known || !journal.Staged(set, own, s.Share) || n.rate.reports == 0 {
			continue
		}
		if n.rate.now < u.Low || n.rate.now > u.High {
			return fmt.Sprintf("%s blocks %.2f %% of queries, and usually %.2f to %.2f %%", name, 100*n.rate.now, 100*u.Low, 100*u.High)
		}
	}
	return ""
}

// advance has a staged change set go on to all nodes.
func (a *API) advance(ctx context.Context, k *kept, by string) error {
	r, err := a.cfg.Control.Publish(ctx, journal.Draft{Kind: journal.RecordAdvance, By: by, Set: k.ID})
	if err != nil {
		return err
	}
	k.State, k.Stage, k.Note = Published, nil, fmt.Sprintf("on all nodes since version %d", r.Version)
	a.counts.set(Published)
	return a.save(ctx, k)
}

type suspendInput struct {
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
	huma.Register(a.api, huma.Operation{
		OperationID: "advance", Method: http.MethodPost, Path: "/v1/changesets/{id}/advance", Summary: "Have a staged change set go on to all nodes now",
		Metadata: may(Publisher, Approver), Tags: []string{"change sets"}, Security: secured,
	}, func(ctx context.Context, in *idInput) (*receiptOutput, error) {
		k, err := a.receipt(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if k.State != Staged {
			return nil, problem(http.StatusConflict, "path.id", "it is not staged but "+string(k.State))
		}
		if err := a.advance(ctx, k, callerOf(ctx).Name); err != nil {
			return nil, a.unavailable("it did not go on", err)
		}
		return &receiptOutput{http.StatusOK, k.Receipt}, nil
	})
	for _, handle := range []struct {
		path, summary string
		kind          journal.RecordKind
	}{
		{"suspend", "Stop enforcement on every node, at once: names are answered as if nothing were blocked", journal.RecordSuspend},
		{"resume", "Enforce again", journal.RecordResume},
	} {
		huma.Register(a.api, huma.Operation{
			OperationID: handle.path, Method: http.MethodPost, Path: "/v1/" + handle.path, Summary: handle.summary,
			Metadata: may(Publisher, Approver), Tags: []string{"nodes"}, Security: secured,
		}, func(ctx context.Context, in *suspendInput) (*versionOutput, error) {
			out := &versionOutput{}
			out.Body.Suspended = handle.kind == journal.RecordSuspend
			if st := a.cfg.Control.State(); st.Suspended == out.Body.Suspended {
				out.Body.Version = st.Version
				return out, nil
			}
			r, err := a.cfg.Control.Publish(context.WithoutCancel(ctx), journal.Draft{Kind: handle.kind, By: callerOf(ctx).Name, Reason: in.Body.Reason})
			if err != nil {
				return nil, a.unavailable("whether it was published is not known", err)
			}
			out.Body.Version = r.Version
			return out, nil
		})
	}
}
