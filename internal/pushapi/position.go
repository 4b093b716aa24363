package pushapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
)

// position is the relation of a node's newest record to this journal.
type position string

const (
	positionUnknown   position = ""          // the journal could not be read
	positionFollowing position = "following" // the record is in this journal
	positionOlder     position = "older"     // the record is of an earlier epoch, or the node has none yet
	positionAhead     position = "ahead"     // the record has a later version or epoch than the journal
	positionForked    position = "forked"    // the journal has another record of that version
)

// problem describes a position in which a node refuses published records; "" for the other positions.
func (p position) problem(epoch, version uint64) string {
	switch p {
	case positionAhead:
		return fmt.Sprintf("the server has a later version than this journal, which ends at version %d of epoch %d", version, epoch)
	case positionForked:
		return "the server holds another record of its version than this journal"
	}
	return ""
}

// problem returns the reason why a node does not have the newest version of an epoch, or "". A problem that the node reported before it had that version is
// ignored.
func (n *node) problem(epoch, newest uint64) string {
	if n.isCaughtUpWith(epoch, newest) {
		return "" // its next report shows its record
	}
	if problem := n.position.problem(epoch, newest); problem != "" {
		return problem
	}
	if n.holds(epoch, newest) {
		return ""
	}
	return n.Problem
}

// isCaughtUpWith reports whether a node was ahead of the journal when it reported, and the journal has its version since.
func (n *node) isCaughtUpWith(epoch, newest uint64) bool {
	return n.position == positionAhead && n.Epoch == epoch && n.HashVersion() <= newest
}

// aheadFor is how long a node may be ahead of this control: if several controls publish, a node may receive a record a moment earlier.
const aheadFor = time.Second

// note stores a node's position, and reports whether to log it now. A position is logged once while it lasts.
func (n *node) note(at position, now time.Time) (alarm bool) {
	n.position = at
	switch {
	case at != positionAhead && at != positionForked:
		n.apart, n.logged = time.Time{}, false
	case n.apart.IsZero():
		n.apart = now
	}
	if n.apart.IsZero() || n.logged || at == positionAhead && now.Sub(n.apart) < aheadFor {
		return false
	}
	n.logged = true
	return true
}

// holds reports whether a version of an epoch is in force on a node: by epoch, version and the hash of its record.
func (n *node) holds(epoch, version uint64) bool {
	return n.position == positionFollowing && n.Epoch == epoch && n.Version >= version
}

// hashes caches the hashes of an epoch's records, which many nodes report at once.
type hashes struct {
	mu    sync.Mutex
	epoch uint64
	by    map[uint64]string // by version
	order []uint64          // of versions, the oldest first
}

// maxHashes is how many versions are cached: nodes report one of the last few.
const maxHashes = 1000

func (h *hashes) of(ctx context.Context, c *publish.Control, epoch, version uint64) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.by == nil || h.epoch != epoch {
		h.epoch, h.by, h.order = epoch, map[uint64]string{}, nil
	}
	if hash, ok := h.by[version]; ok {
		return hash, nil
	}
	hash, err := c.HashAt(ctx, version)
	if err != nil {
		return "", err
	}
	h.by[version], h.order = hash, append(h.order, version)
	if len(h.order) > maxHashes {
		delete(h.by, h.order[0])
		h.order = h.order[1:]
	}
	return hash, nil
}

// locate returns the position that a node's report states.
func (a *API) locate(ctx context.Context, st *journal.Status) position {
	own := a.cfg.Control.State()
	switch {
	case st.Epoch < own.Epoch || st.Version == 0:
		return positionOlder
	case st.Epoch > own.Epoch || st.HashVersion() > own.Version:
		return positionAhead
	}
	hash, err := a.hashes.of(ctx, a.cfg.Control, own.Epoch, st.HashVersion())
	switch {
	case errors.Is(err, stream.ErrNone):
		return positionForked
	case err != nil:
		return positionUnknown
	case hash != st.Hash:
		return positionForked
	}
	return positionFollowing
}

// conflict is a node that is ahead of this journal or holds another record of one of its versions.
type conflict struct {
	name  string
	node  *node // nil if there is none
	waits bool  // a node is ahead, possibly only for a moment
}

// conflict searches the nodes for a conflict with this journal.
func (f *fleet) conflict(own *journal.State) (c conflict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for other, n := range f.nodes {
		switch {
		case f.gone(n) || n.apart.IsZero() || n.awaited:
			continue
		case n.isCaughtUpWith(own.Epoch, own.Version): // the node's next report shows its record
			continue
		case n.position == positionAhead && time.Since(n.apart) < aheadFor:
			c.waits = true
			continue
		}
		if c.node == nil || other < c.name {
			copied := *n
			c.name, c.node = other, &copied
		}
	}
	return c
}

// Conflict returns why nothing may be published: a node is ahead of the journal, or holds another record of a version. It wraps
// publish.ErrOlder. It reads memory only.
func (a *API) Conflict() error {
	own := a.cfg.Control.State()
	c := a.fleet.conflict(own)
	n := c.node
	if n == nil {
		return nil
	}
	what := fmt.Sprintf("the server %s has version %d of epoch %d in force, and this journal ends at version %d of epoch %d", c.name, n.HashVersion(), n.Epoch, own.Version, own.Epoch)
	if n.position == positionForked {
		what = fmt.Sprintf("the server %s holds another record of version %d than this journal", c.name, n.HashVersion())
	}
	return fmt.Errorf("nothing is published: %s: the journal was restored from an older backup, and servers would refuse newer records. "+
		"Copy the folder \"edge\" of that server's data folder, and start control once with --recover and the copy. If there is no copy, start it with --new-epoch %d. "+
		"If the server is wrong, revoke its token (%w)", what, max(n.HashVersion(), own.Version), publish.ErrOlder)
}

// startPatience bounds how long a call that publishes waits, after control started, for the nodes that reported before.
const startPatience = 20 * time.Second

// AwaitNodes waits after a start, for startPatience at most, until the known nodes have reported: one of them may be ahead of the journal. It also waits while a node
// is ahead that may only be so for a moment.
func (a *API) AwaitNodes(ctx context.Context) error {
	for {
		reported, awaited := a.fleet.awaits()
		if !a.fleet.conflict(a.cfg.Control.State()).waits && (!awaited || time.Since(a.fleet.begun) > startPatience) {
			return nil
		}
		select {
		case <-reported:
		case <-time.After(aheadFor / 4):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mayPublish returns nil if a call may publish, otherwise the response to that call.
func (a *API) mayPublish(ctx context.Context) error {
	if err := a.AwaitNodes(ctx); err != nil {
		return changeset.Fail("servers have not reported yet", err)
	}
	if err := a.Conflict(); err != nil {
		return problem(http.StatusConflict, "", err.Error())
	}
	if err := a.cfg.Control.Damaged(); err != nil {
		return problem(http.StatusServiceUnavailable, "", err.Error())
	}
	return nil
}

// awaits reports whether a known node has not reported since this control started, and returns a channel that the next report closes.
func (f *fleet) awaits() (reported <-chan struct{}, awaited bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.nodes {
		awaited = awaited || n.awaited && !f.gone(n)
	}
	return f.reported, awaited
}
