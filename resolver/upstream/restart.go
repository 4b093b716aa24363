package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"rempart/internal/pause"
	"rempart/resolver/upstream/transport"
)

const (
	restartTime  = 3 * time.Second       // after the last good answer of an upstream, a port that refuses questions is taken for a restart
	restartCheck = 20 * time.Millisecond // between a refusal and the first repetition, and between two looks for an upstream that is up again
)

// settle runs a race for q. If the upstreams refused it because their program is being restarted, the question waits until one of them is up again, and is asked
// again, unless it is Spared. All of this takes at most the timeout of the pool. An upstream that is up and refuses this question, as a firewall that limits a rate does,
// gets it a few times only: the pause before each repetition is twice the one before.
func (p *Pool) settle(ctx context.Context, q Question, lanes []lane, sent *transport.Datagram) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	q.Name = slices.Clone(q.Name) // attempts may outlive a race by a moment
	for wait := restartCheck; ; wait *= 2 {
		r := newRace(p, q, lanes)
		r.sent = sent
		a, err := r.run(ctx)
		if err == nil || q.Spared || !errors.Is(err, syscall.ECONNREFUSED) || !p.awaitRestart(ctx, wait) {
			return a, err
		}
		if lanes, sent = p.order(), nil; len(lanes) == 0 {
			return Answer{}, ErrLoop
		}
	}
}

// awaitRestart waits for the time wait, and then until an upstream is up, and reports whether one is. It does not wait if no upstream gave a good answer a moment ago:
// then the refusal is no restart, and the client should get its answer, which may be a stale one, at once.
func (p *Pool) awaitRestart(ctx context.Context, wait time.Duration) bool {
	if _, lately := p.standing(); !lately || !pause.For(ctx, wait) {
		return false
	}
	select {
	case <-p.restartEnds():
		// Thousands of questions, or of answers, at the same moment would not fit into the buffer of a socket.
		up, _ := p.standing()
		return pause.For(ctx, rand.N(restartCheck)) && up
	case <-ctx.Done():
		return false
	}
}

// restartEnds returns a channel that is closed when an upstream is up, or when the last good answer is too old for a restart. One goroutine checks the
// upstreams for all waiting questions: there may be thousands.
func (p *Pool) restartEnds() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.restart != nil {
		return p.restart
	}
	ended := make(chan struct{})
	if !p.group.start(func() {
		for up, lately := p.standing(); !up && lately && pause.For(p.group.ctx, restartCheck); {
			up, lately = p.standing()
		}
		p.mu.Lock()
		p.restart = nil
		p.mu.Unlock()
		close(ended)
	}) {
		close(ended)
		return ended
	}
	p.restart = ended
	return ended
}

// standing reports whether an upstream is up, and whether one gave a good answer within restartTime.
func (p *Pool) standing() (up, lately bool) {
	for _, m := range p.members {
		state := m.health.state()
		up = up || !state.down && !m.looping.Load()
		lately = lately || time.Since(state.good) <= restartTime
	}
	return up, lately
}
