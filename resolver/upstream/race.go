package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

const (
	maxTries = 2 // how often a question is sent to one upstream, unless its answers to others pay for more
	maxSends = 8 // the same over UDP if its answers pay: at a loss of one packet in five, one question in 400,000 loses all packets

	maxPause    = 600 * time.Millisecond // before a question is sent again to an upstream that did not answer it
	resendAfter = time.Second            // how often a race that can send nothing looks again
)

var (
	errOver  = errors.New("another upstream answered first")
	errEnded = errors.New("the pool has ended")
)

// race is one question on its way to one upstream, then to more, until one answers.
type race struct {
	pool     *Pool
	question Question
	sent     *transport.Datagram // the datagram that was sent for it before the race; nil if there is none
	lanes    []lane
	attempts []*attempt
	ended    chan *attempt // has room for every attempt, so that none waits for a race that has ended
	running  int
	over     atomic.Bool

	best   *attempt // the attempt with the best error answer
	err    error    // of the attempt that failed last
	wait   time.Duration
	hedge  bool // whether the next step, after wait, is a hedge; otherwise a failover
	denied bool
}

// lane is one upstream in a race.
type lane struct {
	member  *member
	good    time.Time     // its last good answer
	mean    time.Duration // its mean round-trip time
	tries   int
	settled bool // it has answered, or failed at once: it is not asked again (see note)
}

// attempt is one sending of the question.
type attempt struct {
	lane    *lane
	sent    time.Time
	silence time.Duration
	overdue time.Duration
	cancel  context.CancelCauseFunc
	partly  atomic.Bool // answered over UDP, and being asked over TCP: asking over UDP again is useless

	// Its end; read after it arrived through race.ended.
	over  bool
	reply transport.Reply
	err   error
}

func newRace(p *Pool, q Question, lanes []lane) *race {
	return &race{pool: p, question: q, lanes: lanes, ended: make(chan *attempt, maxSends*len(lanes))}
}

// run sends the question and returns the first answer that settles it.
func (r *race) run(client context.Context) (Answer, error) {
	ctx, cancel := context.WithTimeout(client, r.pool.timeout)
	defer cancel()
	if ctx.Err() != nil {
		return r.giveUp(ctx)
	}
	r.start(&r.lanes[0])
	r.plan()
	timer := time.NewTimer(r.wait)
	defer timer.Stop()
	for {
		select {
		case a := <-r.ended:
			r.running--
			a.over = true
			if a.err == nil && a.reply.Final() {
				r.finish()
				return a.answer(), nil
			}
			r.note(a)
			if r.running > 0 {
				continue // the timer keeps running for those
			}
			r.hedge = false
			if r.waitsForResources(a) {
				break
			}
			if !r.resend() && r.hopeless() {
				return r.giveUp(ctx)
			}
		case <-timer.C:
			r.judge()
			if !r.resend() && r.hopeless() {
				return r.giveUp(ctx)
			}
		case <-ctx.Done():
			return r.giveUp(ctx)
		}
		timer.Reset(r.wait)
	}
}

// start sends the question over l. If this is a repetition, allowed has taken a place among the repetitions, and the end of the attempt frees the place.
func (r *race) start(l *lane) {
	l.tries++
	r.running++
	m := l.member
	ctx, cancel := context.WithCancelCause(r.pool.group.ctx)
	sent := time.Now()
	if r.sent != nil && len(r.attempts) == 0 {
		sent = r.sent.At
	}
	a := &attempt{lane: l, sent: sent, silence: m.health.silence(), overdue: m.health.overdue(), cancel: cancel}
	r.attempts = append(r.attempts, a)
	q := transport.Request{Question: r.question, Partly: func() { a.partly.Store(true); m.health.hear() }}
	if len(r.attempts) == 1 {
		q.Sent = r.sent // that datagram belongs to the first attempt
	}
	repeat := int64(min(len(r.attempts)-1, 1))
	if !r.pool.group.start(func() {
		defer r.pool.repeats.Add(-repeat)
		defer cancel(nil)
		watch := time.AfterFunc(a.silence-time.Since(a.sent), func() {
			r.pool.silent(m, a.sent)
			if r.over.Load() {
				cancel(errOver)
			}
		})
		defer watch.Stop()
		a.reply, a.err = r.pool.ask(ctx, m, &q, a.sent)
		r.ended <- a
	}) {
		r.pool.repeats.Add(-repeat)
		cancel(nil)
		a.err = errEnded
		r.ended <- a
	}
}

// plan sets the next step, and its time if nothing arrives until then.
func (r *race) plan() {
	first := len(r.attempts) == 1
	last := r.attempts[len(r.attempts)-1]
	h := &last.lane.member.health
	r.wait, r.hedge = h.patience(), false
	if first {
		defer func() { r.wait = max(r.wait-time.Since(last.sent), 0) }()
		if after, known := h.hedgeAfter(); known && after < r.wait && len(r.candidates(true)) > 0 {
			r.wait, r.hedge = after, true
		}
		return
	}
	// Before it is sent over a lane again the pause doubles each time: the upstream may be slow.
	if next := r.candidates(false); len(next) > 0 && next[0].tries > 0 {
		r.wait = min(max(r.wait, last.overdue)<<(next[0].tries-1), max(r.wait, maxPause))
	}
}

// candidates returns the lanes over which the question may be sent next, the best first. Healthy lanes come before lanes that are down, which are used only
// after two attempts at a healthy lane. Among equal lanes, the one with the fewest attempts is first.
func (r *race) candidates(hedge bool) []*lane {
	var found []*lane
	rank := func(l *lane) int {
		if l.member.isDown() {
			return l.tries + maxTries
		}
		return l.tries
	}
	for i := range r.lanes {
		if l := &r.lanes[i]; r.eligible(l, hedge) {
			found = append(found, l)
		}
	}
	slices.SortStableFunc(found, func(a, b *lane) int { return rank(a) - rank(b) })
	return found
}

// eligible reports whether it is useful to send the question over l. A hedge goes only to a healthy upstream; so does everything once there is an error answer.
// A question is repeated over UDP, where packets get lost, or over a fresh connection, because the old one of an upstream that went down was retired.
func (r *race) eligible(l *lane, hedge bool) bool {
	switch down := l.member.isDown(); {
	case down && hedge:
		return false
	case l.tries == 0:
		return !down || r.best == nil
	case l.settled || r.best != nil || slices.ContainsFunc(r.attempts, func(a *attempt) bool { return a.lane == l && a.partly.Load() }):
		return false
	case l.member.endpoint.Protocol == transport.UDP:
		return l.tries < maxSends
	default:
		return l.tries < maxTries && down
	}
}

// allowed reports whether the question may be sent over l now. If so, it takes a place among the repetitions, and the token that pays for it.
func (r *race) allowed(l *lane, hedge bool) bool {
	few := r.pool.repeats.Add(1) <= r.pool.maxRepeats
	paid := r.pay(l, hedge, few)
	if !paid {
		r.pool.repeats.Add(-1)
	}
	return paid
}

// pay takes the token that pays for sending the question over l, if it costs one, and reports whether the question may be sent. few says that the number of
// repetitions is below its maximum.
func (r *race) pay(l *lane, hedge, few bool) bool {
	budget := &r.pool.budget
	switch last := r.attempts[len(r.attempts)-1]; {
	case hedge:
		return budget.take(hedgeReserve)
	case !last.over && time.Since(last.sent) < last.overdue: // the answer may be on its way
		return l.tries < maxTries && budget.take(0)
	case !few:
		return l.tries < maxTries && budget.take(0)
	case l.tries == 0 && !l.member.isDown(): // a failover to a healthy upstream
		return true
	}
	return l.member.credit.take(0) || l.tries < maxTries && budget.take(0)
}

// resend sends the question once more, if there is an upstream for it and a token to pay for it, and plans the next step. It reports whether it did.
func (r *race) resend() bool {
	hedge := r.hedge
	next := r.candidates(hedge)
	if len(next) == 0 {
		r.wait, r.hedge = resendAfter, false
		return false
	}
	for _, l := range next {
		if !r.allowed(l, hedge) {
			continue
		}
		if hedge {
			l.member.counters.hedges.Add(1)
		} else {
			l.member.counters.retries.Add(1)
		}
		r.start(l)
		r.plan()
		return true
	}
	if !r.denied {
		r.denied = true
		r.pool.denied.Add(1)
	}
	r.later()
	return false
}

// refusedAgain reports whether the attempt a, which failed, is a repetition over UDP that was refused while an earlier attempt over the same lane is
// unanswered: the upstream is restarting, and lost the earlier datagram. The question is sent again later.
func (r *race) refusedAgain(a *attempt) bool {
	return a.err != nil && a.lane.member.endpoint.Protocol == transport.UDP && transport.KindOf(a.err) == transport.Unreachable &&
		slices.ContainsFunc(r.attempts, func(o *attempt) bool { return o.lane == a.lane && !o.over })
}

// waitsForResources reports whether the next try should wait, and plans it: the attempt a failed because this machine lacks a descriptor, memory or a port, and
// every upstream was asked. An upstream that was not asked yet may have an open connection, and is asked at once.
func (r *race) waitsForResources(a *attempt) bool {
	if !transport.IsShortage(a.err) {
		return false
	}
	if next := r.candidates(false); len(next) == 0 || next[0].tries == 0 {
		return false
	}
	r.wait = min(minPatience<<(a.lane.tries-1), maxPause)
	return true
}

// later plans the next try of a race that may not send now: when the upstream's time is up or the answer is
// overdue, or soon, since other queries earn tokens meanwhile.
func (r *race) later() {
	last := r.attempts[len(r.attempts)-1]
	waited := time.Since(last.sent)
	r.wait, r.hedge = minPatience, false
	for _, due := range [...]time.Duration{last.lane.member.health.patience(), last.overdue} {
		if due > waited {
			r.wait = max(due-waited, minPatience)
			return
		}
	}
}

// note records the result of an attempt that did not settle the question.
func (r *race) note(a *attempt) {
	a.lane.settled = !transport.IsShortage(a.err) && !r.refusedAgain(a)
	if a.err != nil {
		r.err = fmt.Errorf("%s: %w", a.lane.member.name, a.err)
		return
	}
	// SERVFAIL is about the name, REFUSED and the like only about the upstream.
	if r.best == nil || r.best.reply.Rcode != wire.ServFail && a.reply.Rcode == wire.ServFail {
		r.best = a
	}
}

// hopeless reports, after nothing more could be sent, whether waiting is useless.
func (r *race) hopeless() bool {
	if r.best != nil {
		// There is an error answer: only healthy upstreams are waited for.
		for _, l := range r.lanes {
			if l.tries > 0 && !l.settled && !l.member.isDown() {
				return false
			}
		}
		return true
	}
	if r.running > 0 {
		return false
	}
	// Nothing is under way. A token is worth waiting for if it allows asking a healthy upstream.
	next := r.candidates(false)
	return len(next) == 0 || next[0].member.isDown()
}

// judge marks upstreams as down that have been silent for long enough: the next step depends on it.
func (r *race) judge() {
	for _, a := range r.attempts {
		if l := a.lane; !l.settled && !a.over && time.Since(a.sent) >= a.silence {
			r.pool.silent(l.member, a.sent)
		}
	}
}

// finish gives up the attempts still running. An attempt at an upstream from which nothing arrived since is kept until its silence is long enough to count; its
// own timer ends it then.
func (r *race) finish() {
	r.over.Store(true)
	for _, a := range r.attempts {
		if a.lane.member.health.state().heard.After(a.sent) || time.Since(a.sent) >= a.silence {
			a.cancel(errOver)
		}
	}
}

func (a *attempt) answer() Answer {
	return Answer{Packed: a.reply.Packed, Authenticated: a.lane.member.trusted && !a.reply.Stripped}
}

// giveUp ends every attempt and returns the best answer.
func (r *race) giveUp(ctx context.Context) (Answer, error) {
	r.over.Store(true)
	cause := ctx.Err()
	for _, a := range r.attempts {
		a.cancel(cause)
	}
	switch {
	case errors.Is(cause, context.Canceled):
		return Answer{}, fmt.Errorf("upstream: %w", cause)
	case r.best != nil:
		return r.best.answer(), nil
	case transport.IsShortage(r.err):
		return Answer{}, fmt.Errorf("upstream: %w: %w", ErrShortage, r.err)
	case r.err != nil:
		return Answer{}, fmt.Errorf("upstream: %w: %w", ErrUnreachable, r.err)
	default:
		return Answer{}, fmt.Errorf("upstream: %w in time", ErrUnreachable)
	}
}
