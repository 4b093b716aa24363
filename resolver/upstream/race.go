package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

// resendAfter is how long every upstream having been asked once is waited for, before one is
// asked again: by then a lost packet is likelier than a slow answer.
const resendAfter = time.Second

var (
	errOver  = errors.New("another upstream answered first")
	errEnded = errors.New("the pool has ended")
)

// race is one question on its way to one upstream, then to more, until one answers.
type race struct {
	pool     *Pool
	question Question
	lanes    []lane
	attempts []*attempt
	results  chan result // has room for every attempt, so that none waits for a race that is over
	running  int
	over     atomic.Bool

	best   *result // an answer with an error, in case nobody has a better one
	err    error   // of the attempt that failed last
	wait   time.Duration
	hedge  bool // what the next step, after wait, is: a hedge or a failover
	denied bool
}

// lane is one upstream as a race sees it.
type lane struct {
	member  *member
	down    bool
	good    time.Time // its last good answer
	tries   int
	settled bool // it has answered, or failed at once: it is not asked again
}

// maxTries is how often a question is sent to one upstream.
const maxTries = 2

// attempt is one sending of the question.
type attempt struct {
	lane    int
	sent    time.Time
	silence time.Duration
	cancel  context.CancelCauseFunc
}

type result struct {
	lane  int
	reply reply
	err   error
}

func newRace(p *Pool, q Question, lanes []lane) *race {
	return &race{pool: p, question: q, lanes: lanes, results: make(chan result, maxTries*len(lanes))}
}

// run sends the question and returns the first answer that settles it.
func (r *race) run(client context.Context) (Answer, error) {
	ctx, cancel := context.WithTimeout(client, r.pool.timeout)
	defer cancel()
	if ctx.Err() != nil {
		return r.giveUp(ctx)
	}
	r.start(0)
	r.plan()
	timer := time.NewTimer(r.wait)
	defer timer.Stop()
	for {
		select {
		case res := <-r.results:
			r.running--
			if res.err == nil && res.reply.final() {
				r.finish()
				return r.answer(&res), nil
			}
			r.note(res)
			if r.running > 0 {
				continue // the timer runs on for those
			}
			r.hedge = false
			if !r.goOn() && r.hopeless() {
				return r.giveUp(ctx)
			}
		case <-timer.C:
			r.judge()
			if !r.goOn() && r.hopeless() {
				return r.giveUp(ctx)
			}
		case <-ctx.Done():
			return r.giveUp(ctx)
		}
		timer.Reset(r.wait)
	}
}

// start sends the question over lane i.
func (r *race) start(i int) {
	l := &r.lanes[i]
	l.tries++
	r.running++
	m := l.member
	ctx, cancel := context.WithCancelCause(r.pool.group.ctx)
	a := &attempt{lane: i, sent: time.Now(), silence: m.health.silence(), cancel: cancel}
	r.attempts = append(r.attempts, a)
	q := r.question
	if !r.pool.group.start(func() {
		defer cancel(nil)
		watch := time.AfterFunc(a.silence, func() {
			r.pool.silent(m, a.sent)
			if r.over.Load() {
				cancel(errOver)
			}
		})
		defer watch.Stop()
		rep, err := r.pool.ask(ctx, m, &q, a.sent)
		r.results <- result{i, rep, err}
	}) {
		cancel(nil)
		r.results <- result{i, reply{}, errEnded}
	}
}

// plan says what to do next, and when, if nothing is heard until then.
func (r *race) plan() {
	first := len(r.attempts) == 1
	last := r.attempts[len(r.attempts)-1]
	h := &r.lanes[last.lane].member.health
	r.wait, r.hedge = h.patience(), false
	if first {
		if after, known := h.hedgeAfter(); known && after < r.wait && r.next(true) >= 0 {
			r.wait, r.hedge = after, true
		}
		return
	}
	if i := r.next(false); len(r.lanes) > 1 && (i < 0 || r.lanes[i].tries > 0) {
		r.wait = max(r.wait, resendAfter)
	}
}

// next is the lane to be tried next, -1 if none is left. A hedge goes only to an upstream that
// is well. When all were tried one is asked again: over UDP, where packets get lost, or over a
// fresh connection, its old one having been retired.
func (r *race) next(hedge bool) int {
	for i, l := range r.lanes {
		if l.tries == 0 && !(l.down && (hedge || r.best != nil)) {
			return i
		}
	}
	for i, l := range r.lanes {
		switch {
		case l.tries == 0 || l.tries >= maxTries || l.settled || r.best != nil || hedge && l.down:
		case l.member.endpoint.Transport == UDP:
			return i
		default:
			if down, _, _ := l.member.health.state(); down && !hedge {
				return i
			}
		}
	}
	return -1
}

// goOn sends the question once more, if there is an upstream to send it to and a token to pay
// for it, and plans what follows. It reports whether it did.
func (r *race) goOn() bool {
	hedge := r.hedge
	i := r.next(hedge)
	if i < 0 {
		r.wait, r.hedge = resendAfter, false
		return false
	}
	reserve := int64(0)
	if hedge {
		reserve = hedgeReserve
	}
	if !r.pool.budget.take(reserve) {
		if !r.denied {
			r.denied = true
			r.pool.denied.Add(1)
		}
		// Asked again later: other queries earn tokens meanwhile.
		first := r.attempts[0]
		patience := r.lanes[first.lane].member.health.patience()
		r.wait, r.hedge = max(patience-time.Since(first.sent), minPatience), false
		return false
	}
	c := &r.lanes[i].member.counters
	if hedge {
		c.hedges.Add(1)
	} else {
		c.retries.Add(1)
	}
	r.start(i)
	r.plan()
	return true
}

// note keeps what a lane said that did not settle the question.
func (r *race) note(res result) {
	r.lanes[res.lane].settled = true
	if res.err != nil {
		r.err = fmt.Errorf("%s: %w", r.lanes[res.lane].member.name, res.err)
		return
	}
	// SERVFAIL says something of the name, REFUSED and the like only of the upstream.
	if r.best == nil || r.best.reply.rcode != wire.ServFail && res.reply.rcode == wire.ServFail {
		r.best = &res
	}
}

// hopeless reports, after no more could be sent, whether waiting on is of no use.
func (r *race) hopeless() bool {
	if r.best != nil {
		// An answer is in hand: only who is well is waited for.
		for _, l := range r.lanes {
			if down, _, _ := l.member.health.state(); l.tries > 0 && !l.settled && !down {
				return false
			}
		}
		return true
	}
	if r.running > 0 {
		return false
	}
	// Nothing is under way. A token is worth waiting for if it leads to an upstream that is well.
	i := r.next(false)
	return i < 0 || r.lanes[i].down
}

// judge holds those to be down that have been silent for long enough: what comes next depends on it.
func (r *race) judge() {
	for _, a := range r.attempts {
		if l := &r.lanes[a.lane]; !l.settled && time.Since(a.sent) >= a.silence {
			r.pool.silent(l.member, a.sent)
		}
	}
}

// finish lets go of the attempts still running. One to an upstream nothing was heard from since
// is listened to until its silence says something; its own watch ends it then.
func (r *race) finish() {
	r.over.Store(true)
	for _, a := range r.attempts {
		_, _, heard := r.lanes[a.lane].member.health.state()
		if heard.After(a.sent) || time.Since(a.sent) >= a.silence {
			a.cancel(errOver)
		}
	}
}

func (r *race) answer(res *result) Answer {
	return Answer{Packed: res.reply.packed, Authenticated: r.lanes[res.lane].member.trusted && !res.reply.stripped}
}

// giveUp ends every attempt and returns the best that was heard.
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
		return r.answer(r.best), nil
	case r.err != nil:
		return Answer{}, fmt.Errorf("upstream: %w: %w", ErrUnreachable, r.err)
	default:
		return Answer{}, fmt.Errorf("upstream: %w in time", ErrUnreachable)
	}
}
