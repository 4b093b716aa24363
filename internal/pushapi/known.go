package pushapi

import (
	"context"
	"encoding/json"
	"time"

	"rempart/internal/journal"
)

// savedNode is a node as stored in the bucket of nodes, so that control knows after a restart which nodes should report.
type savedNode struct {
	Status journal.Status `json:"status"`
	First  int64          `json:"first"` // Unix seconds
	Seen   int64          `json:"seen"`  // Unix seconds of a report; later ones are not saved
	Gone   bool           `json:"gone"`  // the node had not reported for a long time
}

// loadNodes reads the nodes that an earlier run of control stored.
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

// saveNodes stores the nodes that are new, gone or report again, and deletes forgotten ones. Most reports change nothing in the bucket.
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
		a.log.Warn("the list of servers that report could not be written, and is written again later", "err", err)
		return
	}
}

// changed returns the values to store, by node, maxSaved at most; the value is nil for a node that was forgotten.
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
			out[name], _ = json.Marshal(savedNode{n.Status, n.first.Unix(), n.seen.Unix(), n.wasGone}) // it cannot fail for these fields
		}
	}
	return out
}

// again makes the next turn store a node.
func (f *fleet) again(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsaved[name] = true
}
