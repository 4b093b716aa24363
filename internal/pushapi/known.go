package pushapi

import (
	"context"
	"encoding/json"
	"time"

	"rempart/internal/journal"
)

// savedNode is a node as the bucket of nodes holds it: so that control knows after a restart who is to report.
type savedNode struct {
	Status journal.Status `json:"status"`
	First  int64          `json:"first"` // Unix seconds
	Seen   int64          `json:"seen"`  // Unix seconds of a report; later ones are not saved
	Gone   bool           `json:"gone"`  // it had not reported for long
}

// load reads the nodes that are known from before.
func (a *API) loadNodes(ctx context.Context) error {
	f := &a.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	return a.nodes.Each(ctx, func(name string, value []byte) error {
		var s savedNode
		if json.Unmarshal(value, &s) != nil || len(f.nodes) >= maxNodes {
			return nil
		}
		n := f.join(name, time.Unix(s.First, 0))
		n.Status, n.seen, n.awaited, n.wasGone = s.Status, time.Unix(s.Seen, 0), true, s.Gone
		return nil
	})
}

// maxSaved bounds how many nodes are saved in one turn: each takes a write to disk.
const maxSaved = 100

// saveNodes writes what changed of who is to report: nodes that are new, gone, back or forgotten. Most reports change nothing of that.
func (a *API) saveNodes(ctx context.Context) {
	for name, value := range a.fleet.changed() {
		var err error
		if value == nil {
			err = a.nodes.Delete(ctx, name)
		} else {
			_, err = a.nodes.Put(ctx, name, value)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		a.fleet.again(name)
		a.log.Warn("which servers report could not be written; it is tried again", "err", err)
		return
	}
}

// changed returns what is to be written of some nodes; nil for one that was forgotten.
func (f *fleet) changed() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, n := range f.nodes {
		if gone := f.gone(n); gone && !n.wasGone {
			n.wasGone = true
			f.unsaved[name] = true
		}
	}
	out := map[string][]byte{}
	for name := range f.unsaved {
		if len(out) == maxSaved {
			break
		}
		delete(f.unsaved, name)
		out[name] = nil
		if n := f.nodes[name]; n != nil {
			out[name], _ = json.Marshal(savedNode{n.Status, n.first.Unix(), n.seen.Unix(), n.wasGone}) // of plain fields: it cannot fail
		}
	}
	return out
}

// again has a node written at the next turn.
func (f *fleet) again(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsaved[name] = true
}
