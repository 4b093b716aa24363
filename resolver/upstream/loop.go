package upstream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// ProbeZone is the zone, in text form, of the names with which upstreams are probed for loops. Names below it are forwarded like any other, unless Sighted
// knows one. Resolvers on the way forward them too: example names have no special meaning for them (RFC 6761 section 6.5), as .test names may have.
const ProbeZone = "loop.rempart.example"

// instanceName, in wire format, is the name of class CH whose TXT record is the identity of the server that answers.
const instanceName = "\x08instance\x07rempart\x00"

const (
	firstCheck    = 500 * time.Millisecond // the listeners must be open, or the check finds nothing
	checkTimeout  = 5 * time.Second
	checkInterval = 5 * time.Minute
	minRecheck    = time.Second      // after a check without a result, or of an upstream that forwards back here
	maxRecheck    = 30 * time.Minute // of the latter
	probeMemory   = time.Minute      // how late a probe may arrive and still be known: others see its name too
)

// maxReturns is the number of probes in a row that arrive here without an answer, from an upstream that answers nothing else, after which the upstream is
// refused.
const maxReturns = 3

// sighting is a loop probe that was sent. Its name is not encrypted, and anybody who sees it can send it here, so its arrival proves nothing. The proof is the
// secret, which only a query for the name that arrives here returns: an upstream whose answer to the probe contains it forwards back here.
type sighting struct {
	secret string // text of a TXT record
	sent   time.Time
	back   bool // it arrived here, or somebody who saw it asked
}

// keepFromLooping checks one upstream soon, then every few minutes, and after it was down: it may have been replaced.
func (p *Pool) keepFromLooping(ctx context.Context, m *member) {
	check := time.NewTimer(checkInterval)
	defer check.Stop()
	var due time.Time
	checkIn := func(d time.Duration) {
		d = jitter(d)
		due = time.Now().Add(d)
		check.Reset(d)
	}
	checkIn(firstCheck)
	backoff := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			// Never later than it was due: a loop itself may make the upstream go up and down.
			if time.Until(due) > 2*firstCheck {
				checkIn(firstCheck)
			}
			continue
		case <-check.C:
		}
		switch p.checkLoop(ctx, m) {
		case noLoop:
			backoff = 0
			checkIn(checkInterval)
		case isLoop:
			backoff = min(max(2*backoff, minRecheck), maxRecheck)
			checkIn(backoff)
		case unknown:
			backoff = min(max(2*backoff, minRecheck), checkInterval)
			checkIn(backoff)
		}
	}
}

// loopState is the result of a check.
type loopState uint8

const (
	unknown loopState = iota // no answer, or one that proves nothing
	noLoop
	isLoop
)

// checkLoop detects whether m forwards back to this process, directly or through others, and refuses m if it does. It asks m even if m is down: if every query
// runs in a loop, only the probe gets an answer from m. A check that m does not answer does not change its health.
func (p *Pool) checkLoop(ctx context.Context, m *member) loopState {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	started := time.Now()
	name := p.newProbe()
	self := false
	var asking sync.WaitGroup
	asking.Go(func() { self = p.isSelf(ctx, m) }) // concurrent with the probe, which need not wait for it
	// The probe also offers a cookie, because no client waits for its answer.
	// With CD: a validating resolver on the way would drop the secret, because it is not signed.
	r, err := m.via.Exchange(ctx, &transport.Request{Question: Question{Name: name, Type: wire.TypeTXT, Class: wire.ClassIN, CD: true}, OfferCookie: true})
	asking.Wait()
	if self {
		p.refuse(m, "it is this server itself")
		return isLoop
	}
	sent := p.sightingOf(name)
	// SERVFAIL means that a resolver on the way got no answer: no proof that the probe did not go round.
	answered := err == nil && r.Rcode != wire.ServFail
	switch {
	case answered && hasText(r.Packed, sent.secret, wire.ClassIN):
		m.returns = 0
		p.refuse(m, "it answers a query with what was answered here")
		return isLoop
	case answered:
		m.returns = 0
		if m.looping.CompareAndSwap(true, false) {
			m.health.loopChanged()
			p.log.Info("upstream no longer forwards back to this server: it is used again", "upstream", m.name)
		}
		return noLoop
	case !sent.back || m.health.state().good.After(started):
		return unknown
	}
	if m.returns++; m.returns < maxReturns {
		return unknown
	}
	p.refuse(m, "queries sent to it come back, and it answers none")
	return isLoop
}

// sightingOf returns what is known of a probe.
func (p *Pool) sightingOf(name []byte) sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes[string(name)]
}

// isSelf asks m for its identity. Silence and errors mean nothing: many resolvers refuse the class.
func (p *Pool) isSelf(ctx context.Context, m *member) bool {
	if p.identity == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := m.via.Exchange(ctx, &transport.Request{Question: Question{Name: []byte(instanceName), Type: wire.TypeTXT, Class: wire.ClassCH}})
	return err == nil && hasText(r.Packed, p.identity, wire.ClassCH)
}

// hasText reports whether a TXT record of a class in the answer section is text.
func hasText(msg []byte, text string, class uint16) bool {
	records := wire.ReadRecords(msg)
	var rr wire.Record
	for records.Next(&rr) {
		if rr.Section != wire.SectionAnswer || rr.Type != wire.TypeTXT || rr.Class != class {
			continue
		}
		data := msg[rr.Data:rr.End]
		if len(data) == 1+len(text) && int(data[0]) == len(text) && string(data[1:]) == text {
			return true
		}
	}
	return false
}

// newProbe makes a name that nobody can guess, and its secret, and stores both.
func (p *Pool) newProbe() []byte {
	var random [8 + 16]byte
	rand.Read(random[:])
	name, err := wire.AppendName(nil, hex.EncodeToString(random[:8])+"."+ProbeZone)
	if err != nil {
		panic(err) // ProbeZone is misspelt
	}
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for old, s := range p.probes {
		if now.Sub(s.sent) > probeMemory {
			delete(p.probes, old)
		}
	}
	p.probes[string(name)] = sighting{secret: hex.EncodeToString(random[8:]), sent: now}
	return name
}

// Sighted notes a query for a name below ProbeZone, in canonical wire format. If the name is a probe of this pool, sent at most a minute ago, Sighted returns
// the text of the answer to a TXT query, and the query must not be forwarded: if that text is in the upstream's answer, the loop is proved. For any other name
// the result is "", and the query must be forwarded: it may be the probe of another process.
func (p *Pool) Sighted(name []byte) (secret string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, known := p.probes[string(name)]
	if !known || time.Since(s.sent) > probeMemory {
		return ""
	}
	s.back = true
	p.probes[string(name)] = s
	return s.secret
}

// refuse takes m out of use until a check finds no loop.
func (p *Pool) refuse(m *member, why string) {
	if m.looping.CompareAndSwap(false, true) {
		m.health.loopChanged()
		p.log.Error("upstream refused: it forwards back to this server, which would ask itself without end; configure a resolver that does not forward here",
			"upstream", m.name, "found", why)
	}
}

// rcodeError is an error answer where none was expected.
type rcodeError int

func (e rcodeError) Error() string { return fmt.Sprintf("answered with rcode %d", int(e)) }
