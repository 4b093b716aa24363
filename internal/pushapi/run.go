package pushapi

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"rempart/internal/pause"
)

const (
	nodesEvery  = 2 * time.Second // between two turns of saving which nodes report
	reportPause = 5 * time.Second // after reports of nodes could not be received
)

// Run does the work that no call asks for, until ctx ends: it receives reports of nodes, stores which nodes report, and takes the
// next steps of change sets.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		a.receiveReports(ctx)
		return nil
	})
	g.Go(func() error {
		a.watchNodes(ctx)
		return nil
	})
	g.Go(func() error {
		a.sets.Run(ctx)
		return nil
	})
	if a.appeals != nil {
		g.Go(func() error { return a.appeals.Run(ctx) })
	}
	return g.Wait()
}

func (a *API) receiveReports(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.cfg.Control.Stream.FollowReports(ctx, func(node string, data []byte) { _ = a.Report(ctx, node, data) }) // invalid reports are ignored
		if err != nil && ctx.Err() == nil {
			a.log.Error("reports of nodes do not arrive", "err", err)
			pause.For(ctx, reportPause)
		}
	}
}

// watchNodes forgets nodes that have not reported for long and stores which nodes report, a last time when ctx ends.
func (a *API) watchNodes(ctx context.Context) {
	for ctx.Err() == nil {
		a.fleet.expire()
		a.saveNodes(ctx)
		pause.For(ctx, nodesEvery)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), nodesEvery)
	defer cancel()
	a.saveNodes(ending)
}
