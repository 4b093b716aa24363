package scenario

import (
	"fmt"
	"net/netip"
	"strings"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// received records a query to an upstream, and answers the query if an entry of a range matches.
func (p *player) received(q *upstreamQuery) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.msg == nil || len(q.msg.Question) != 1 {
		p.fail(fmt.Errorf("a query to %s cannot be read: %x", q.upstream, q.packed))
		return
	}
	p.out = append(p.out, q)
	select {
	case p.news <- struct{}{}:
	default:
	}
	if e := p.entryFor(q); e != nil {
		p.send(q, e)
		return
	}
	q.waiting = !p.silenced[key(q)]
}

// entryFor returns the first entry that answers q in this step, or nil. It is called with mu held.
func (p *player) entryFor(q *upstreamQuery) *entry {
	for _, r := range p.scenario.ranges {
		if p.step < r.first || p.step > r.last || !isFor(r.address, q) {
			continue
		}
		for _, e := range r.entries {
			if e.compare(q.msg, q.transport) == nil {
				return e
			}
		}
	}
	return nil
}

func isFor(address netip.Addr, q *upstreamQuery) bool {
	return !address.IsValid() || address == q.upstream
}

// key identifies equal queries for TIMEOUT steps.
func key(q *upstreamQuery) string {
	return fmt.Sprint(q.upstream, strings.ToLower(q.msg.Question[0].Name), q.msg.Question[0].Qtype)
}

// fail records an error that no step returns. It is called with mu held.
func (p *player) fail(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *player) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// send sends the messages of e as answers to q, one after the other. It is called with mu held.
func (p *player) send(q *upstreamQuery, e *entry) {
	q.waiting = false
	p.network.work.Go(func() {
		for _, k := range e.packets {
			if k.sleep > 0 {
				select {
				case <-time.After(k.sleep):
				case <-p.network.ctx.Done():
					return
				}
			}
			if err := p.sendOne(q, k); err != nil {
				p.mu.Lock()
				p.fail(fmt.Errorf("%s: %w", e.position, err))
				p.mu.Unlock()
			}
		}
	})
}

func (p *player) sendOne(q *upstreamQuery, k *packet) error {
	switch {
	case k.drop:
	case k.shut:
		q.shut()
	case k.loop:
		if b := p.server.Answer(Query{Packed: q.packed, Client: q.upstream, TCP: q.transport == "tcp"}); b != nil {
			q.send(b)
		}
	default:
		b, err := k.answer(q.msg, q.packed)
		if err != nil {
			return err
		}
		q.send(b)
	}
	return nil
}

// skipTo looks for a query to an upstream that matches the step's entry. If there is one, later steps start after that query.
func (p *player) skipTo(st *step) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, q := range p.out[p.passed:] {
		if isFor(st.address, q) && st.entry.compare(q.msg, q.transport) == nil {
			p.passed += i + 1
			return true
		}
	}
	return false
}

// reply answers the oldest waiting query to an upstream, and reports whether there was one.
func (p *player) reply(st *step) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.out {
		if q.waiting && isFor(st.address, q) {
			p.send(q, st.entry)
			return true
		}
	}
	return false
}

// silence leaves all waiting queries unanswered, and later queries that repeat them. It reports whether there was one.
func (p *player) silence() (any bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.out {
		if q.waiting {
			any, q.waiting = true, false
			p.silenced[key(q)] = true
		}
	}
	return any
}

// count compares want with the number of queries to upstreams since the last call of count.
func (p *player) count(want int) error {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.out[p.counted:]
	p.counted = len(p.out)
	if len(sent) == want {
		return nil
	}
	var b strings.Builder
	for _, q := range sent {
		fmt.Fprintf(&b, "\n\t%s", q)
	}
	return fmt.Errorf("%d queries to upstreams, want %d:%s", len(sent), want, b.String())
}

// unanswered returns the queries to upstreams that wait for an answer, one per line, or "".
func (p *player) unanswered() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, q := range p.out {
		if q.waiting {
			fmt.Fprintf(&b, "\n\t%s", q)
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "no range or step answers these queries to upstreams:" + b.String()
}

func (q *upstreamQuery) String() string {
	text := fmt.Sprintf("%s %s to %s over %s, flags %s", q.msg.Question[0].Name, dns.Type(q.msg.Question[0].Qtype), q.upstream, q.transport, flagsOf(q.msg.MsgHdr))
	if opt := q.msg.IsEdns0(); opt != nil {
		text += fmt.Sprintf(", OPT with DO %v", opt.Do())
	}
	return text
}
