package upstream

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"rempart/internal/pause"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

const (
	probeTimeout = 2 * time.Second
	firstProbe   = 20 * time.Millisecond  // after an upstream went down: most alarms are one lost packet
	minBackoff   = 500 * time.Millisecond // after the first probe left unanswered
	maxBackoff   = 30 * time.Second
	stableAfter  = time.Minute // an upstream that was up for this time is trusted again
)

// Run monitors the upstreams until ctx ends: it probes upstreams that are down until they answer, and detects upstreams that forward queries back to this server.
// When Run returns, every goroutine that Run or Exchange started has ended, every connection is closed, and Exchange returns only errors. It is called once.
func (p *Pool) Run(ctx context.Context) error {
	p.monitor(ctx)
	p.group.end()
	return nil
}

// monitor is Run, except that it does not end the exchanges.
func (p *Pool) monitor(ctx context.Context) {
	var keepers sync.WaitGroup
	for _, m := range p.members {
		keepers.Go(func() { p.keepUp(ctx, m) })
		keepers.Go(func() { p.keepFromLooping(ctx, m) })
	}
	<-ctx.Done()
	keepers.Wait()
}

// keepUp probes one upstream whenever it is down.
func (p *Pool) keepUp(ctx context.Context, m *member) {
	var revived time.Time
	backoff := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.health.wake:
		}
		if time.Since(revived) > stableAfter {
			backoff = 0
		} else {
			backoff = longer(backoff)
		}
		backoff = p.revive(ctx, m, backoff)
		revived = time.Now()
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
}

// revive probes m, ever less often, until it is up again. The first probe follows backoff, or
// soon if that is 0; the backoff it ends with is returned.
func (p *Pool) revive(ctx context.Context, m *member, backoff time.Duration) time.Duration {
	for logged := false; ; {
		if !pause.ForOr(ctx, jitter(max(backoff, firstProbe)), m.nudge) {
			return backoff
		}
		err := p.probe(ctx, m)
		if !m.isDown() {
			if logged {
				p.log.Info("upstream answers again", "upstream", m.name)
			}
			return backoff
		}
		if transport.IsShortage(err) { // the upstream was not asked
			p.shortage.note(p.log, err)
			backoff = max(backoff, minBackoff)
			continue
		}
		if !logged && ctx.Err() == nil {
			logged = true
			text := "upstream does not answer: it is used only if no healthy upstream is left, until it answers again"
			if transport.KindOf(err) == transport.Untrusted {
				text = "the certificate or the key of an upstream was refused, so that it is not used: check its name and its pins"
			}
			p.log.Warn(text, "upstream", m.name, "error", err)
		}
		backoff = longer(backoff)
	}
}

// probe asks m for the name servers of the root: any resolver that works at all knows them.
func (p *Pool) probe(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// A truncated answer shows that UDP works, whether TCP does or not.
	r, err := m.via.Exchange(ctx, &transport.Request{Question: Question{Name: []byte{0}, Type: wire.TypeNS, Class: wire.ClassIN}, Partly: m.health.revived})
	if err != nil {
		m.via.Retire()
		return err
	}
	if !r.Final() {
		return rcodeError(r.Rcode)
	}
	m.health.revived()
	return nil
}

// longer is the backoff after another failure.
func longer(backoff time.Duration) time.Duration {
	return min(max(2*backoff, minBackoff), maxBackoff)
}

// jitter returns d plus or minus up to a quarter, so that many processes do not act at the same moment.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+1)
}

// Nudge immediately probes the upstreams that are down, for example because the network is back. It does not wait for the result.
func (p *Pool) Nudge() {
	for _, m := range p.members {
		select {
		case m.nudge <- struct{}{}:
		default:
		}
	}
}
