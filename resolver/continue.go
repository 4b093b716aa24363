package resolver

import (
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"rempart/blocklist"
	"rempart/internal/grant"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/grants"
)

// Grants configures how people continue to blocked names after a warning. The zero value turns it off.
type Grants struct {
	Blocks   blocklist.Continuable // the blocks that people may pass
	Duration time.Duration         // of a grant
	Secrets  func() *grant.Secrets // returns the secrets of tokens in use
}

// grantKeeper holds the grants of clients, and counts them.
type grantKeeper struct {
	blocks  blocklist.Continuable
	seconds int64 // of a grant
	secrets func() *grant.Secrets
	table   *grants.Table

	granted, expired, foreign, notAllowed, used atomic.Uint64
}

// newGrantKeeper returns nil if nobody may continue.
func newGrantKeeper(c Config) (*grantKeeper, error) {
	switch {
	case c.Grants.Blocks.IsZero():
		return nil, nil
	case len(c.Probe) <= 1, c.Grants.Secrets == nil, c.Grants.Duration < time.Second:
		return nil, errors.New("continuing after a warning needs a probe zone, secrets and a duration")
	}
	return &grantKeeper{
		blocks: c.Grants.Blocks, seconds: int64(c.Grants.Duration / time.Second), secrets: c.Grants.Secrets, table: grants.New(0),
	}, nil
}

// grantEnd returns when the grant of the client of q for the name ends, in seconds of the monotonic clock; 0 if there is none, or nothing is enforced.
func (r *Resolver) grantEnd(q *wire.Query, view *blocklist.View, now clock) int64 {
	if r.grants == nil || !r.enforces(view) {
		return 0
	}
	return r.grants.table.Until(q.Client, q.Name(), now.mono)
}

// pass returns the verdict for the client of q. v is the verdict without a grant, a block. If the client has a grant, pass ignores the blocks that people may pass, and
// stores the end of the grant in q.
func (r *Resolver) pass(q *wire.Query, v blocklist.Verdict, view *blocklist.View, now clock) blocklist.Verdict {
	end := r.grantEnd(q, view, now)
	if end == 0 {
		return v
	}
	own := view.MatchContinued(q.Name(), r.enforced, &r.grants.blocks, now.unix)
	if own.Action != blocklist.BlockedBy {
		q.GrantEnd = end
	}
	return own
}

// judgeFor is pass for the targets of an answer: t is the result without a grant, a block.
func (r *Resolver) judgeFor(q *wire.Query, t target, e *cache.Answer, view *blocklist.View, now clock) target {
	end := r.grantEnd(q, view, now)
	if end == 0 {
		return t
	}
	own := r.judge(e, view, &r.grants.blocks, now)
	if own.verdict.Action != blocklist.BlockedBy {
		q.GrantEnd = end
	}
	return own
}

// useGrant counts an answer that a grant lets pass, and ends its TTLs with the grant, so that the client's own cache does not make the grant longer.
func (r *Resolver) useGrant(q *wire.Query, now clock) {
	r.grants.used.Add(1)
	left := uint32(max(0, q.GrantEnd-now.mono))
	records := wire.ReadRecords(q.Out)
	for rr := (wire.Record{}); records.Next(&rr); {
		if rr.Type != wire.TypeOPT && rr.TTL > left {
			binary.BigEndian.PutUint32(q.Out[rr.TTLAt:], left)
		}
	}
}

// setGrant answers a query for a name with a token. If the token is valid for the client and people may continue to the name, setGrant sets the grant. The
// answer does not depend on that: it has the address of the warning page's server, which checks the token itself. The duration of a grant begins when its token
// was made, so all queries with one token set the same grant with the same end.
func (r *Resolver) setGrant(q *wire.Query, zoneAt int) {
	c, now := r.grants, r.now()
	_, token, part := r.probe.grants.Split(q.Name())
	name := append(part[:len(part):len(part)], 0)
	switch result, expiry := c.secrets().Check(token, name, q.Client, now.unix); {
	case result == grant.Expired:
		c.expired.Add(1)
	case result != grant.Valid:
		c.foreign.Add(1)
	case !r.MayContinue(name):
		c.notAllowed.Add(1)
	default:
		made := min(expiry-int64(grant.Lifetime/time.Second), now.unix)
		c.table.Grant(q.Client, name, now.mono+made+c.seconds-now.unix, now.mono)
		c.granted.Add(1)
	}
	r.answerProbe(q, zoneAt)
}

// MayContinue reports whether queries for a canonical name are blocked now, and people may continue to it. It considers blocks of the name itself and of the
// targets of its cached answers. It asks no upstream.
func (r *Resolver) MayContinue(name []byte) bool {
	if r.grants == nil {
		return false
	}
	now, view, blocks := r.now(), r.set.View(), &r.grants.blocks
	if !r.enforces(view) {
		return false
	}
	switch view.Match(name, r.enforced, now.unix).Action {
	case blocklist.Allowed:
		return false
	case blocklist.BlockedBy:
		return view.MatchContinued(name, r.enforced, blocks, now.unix).Action != blocklist.BlockedBy
	}
	for _, typ := range explainTypes {
		for flags := range 4 {
			key := cache.Key{Name: name, Type: typ, Class: wire.ClassIN, DO: flags&1 != 0, CD: flags&2 != 0}
			e := r.cache.Get(&key)
			if e == nil || !e.Servable(now.mono) {
				continue
			}
			if r.judge(e, view, nil, now).verdict.Action == blocklist.BlockedBy && r.judge(e, view, blocks, now).verdict.Action != blocklist.BlockedBy {
				return true
			}
		}
	}
	return false
}
