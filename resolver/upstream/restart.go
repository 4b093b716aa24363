package upstream

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"rempart/internal/pause"
	"rempart/resolver/upstream/transport"
)

const (
	restartTime  = 3 * time.Second       // after the last good answer of an upstream, a port that refuses questions is taken for a restart
	restartCheck = 20 * time.Millisecond // how often a question that waits for the end of a restart looks for an upstream that is up again
)

// settle runs a race for q. If the upstreams refused it because their program is being restarted, the question waits until one of them is up again, and is asked
// once more, unless it is Spared.
func (p *Pool) settle(ctx context.Context, q Question, lanes []lane, sent *transport.Datagram) (Answer, error) {
	q.Name = slices.Clone(q.Name) // attempts may outlive a race by a moment
	for {
		r := newRace(p, q, lanes)
		r.sent = sent
		a, err := r.run(ctx)
		if err == nil || q.Spared || !errors.Is(err, syscall.ECONNREFUSED) || !p.awaitRestart(ctx) {
			return a, err
		}
		lanes, sent = p.order(), nil
	}
}

// awaitRestart waits until an upstream is up, and reports whether one is. It does not wait if no upstream gave a good answer a moment ago: then the refusal is no
// restart, and the client should get its answer, which may be a stale one, at once.
func (p *Pool) awaitRestart(ctx context.Context) bool {
	for {
		var last time.Time
		up := false
		for _, m := range p.members {
			state := m.health.state()
			if state.good.After(last) {
				last = state.good
			}
			up = up || !state.down && !m.looping.Load()
		}
		if time.Since(last) > restartTime || !pause.For(ctx, restartCheck) {
			return false
		}
		if up {
			return true
		}
	}
}
