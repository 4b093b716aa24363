package upstream

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"rempart/internal/wire"
)

// The questions by which a resolver finds itself behind an upstream, in canonical wire form.
const (
	instanceName = "\x08instance\x07rempart\x00"     // CH TXT: the identity of whoever answers
	loopZone     = "\x04loop\x07rempart\x04test\x00" // IN TXT below it: a name nobody else asks for
)

const (
	firstCheck    = 500 * time.Millisecond // the listeners have to stand, or it finds nothing
	checkTimeout  = 5 * time.Second
	checkInterval = 5 * time.Minute
	minRecheck    = 5 * time.Second  // of a check without a result
	maxRecheck    = 30 * time.Minute // of an upstream that leads back here
	probeMemory   = 10 * time.Minute // how late a probe may come back and still be known
)

// sighting is a loop probe, by whose name a query that came back is known.
type sighting struct {
	member *member
	sent   time.Time
	back   bool // it came back
}

// keepFromLooping checks one upstream soon, then every few minutes, and after it was down: it
// may not be who it was.
func (p *Pool) keepFromLooping(ctx context.Context, m *member) {
	check := time.NewTimer(jitter(firstCheck))
	defer check.Stop()
	backoff := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.changed:
			check.Reset(jitter(firstCheck))
			continue
		case <-check.C:
		}
		next := checkInterval
		switch p.checkLoop(ctx, m) {
		case noLoop:
			backoff = 0
		case isLoop:
			backoff = min(max(2*backoff, minRecheck), maxRecheck)
			next = backoff
		case unknown:
			backoff = min(max(2*backoff, minRecheck), checkInterval)
			next = backoff
		}
		check.Reset(jitter(next))
	}
}

// loopState is what a check found.
type loopState uint8

const (
	unknown loopState = iota // no answer
	noLoop
	isLoop
)

// checkLoop finds out whether m leads back to this process, at once or through others, and
// refuses it then.
func (p *Pool) checkLoop(ctx context.Context, m *member) loopState {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if p.isSelf(ctx, m) {
		p.refuse(m, "it is this resolver itself")
		return isLoop
	}
	name := p.newProbe(m)
	_, err := m.via.exchange(ctx, &Question{Name: name, Type: wire.TypeTXT, Class: wire.ClassIN})
	switch {
	case p.cameBack(name):
		return isLoop // Sighted has refused it
	case err != nil:
		return unknown
	}
	// It has been answered, and not by way of here.
	if m.looping.CompareAndSwap(true, false) {
		p.log.Info("upstream no longer leads back to this resolver: it is used again", "upstream", m.name)
	}
	return noLoop
}

// isSelf asks m who it is. Silence and errors say nothing: many resolvers refuse the class.
func (p *Pool) isSelf(ctx context.Context, m *member) bool {
	if p.identity == "" {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := m.via.exchange(ctx, &Question{Name: []byte(instanceName), Type: wire.TypeTXT, Class: wire.ClassCH})
	return err == nil && hasText(r.packed, p.identity)
}

// hasText reports whether a TXT record of class CH in the answer section is text.
func hasText(msg []byte, text string) bool {
	records := wire.ReadRecords(msg)
	var rr wire.Record
	for records.Next(&rr) {
		if rr.Section != wire.SectionAnswer || rr.Type != wire.TypeTXT || rr.Class != wire.ClassCH {
			continue
		}
		data := msg[rr.Data:rr.End]
		if len(data) == 1+len(text) && int(data[0]) == len(text) && string(data[1:]) == text {
			return true
		}
	}
	return false
}

// newProbe makes a name for m that nobody can guess, and remembers it.
func (p *Pool) newProbe(m *member) []byte {
	var random [8]byte
	rand.Read(random[:])
	label := hex.AppendEncode(nil, random[:])
	name := append(append([]byte{byte(len(label))}, label...), loopZone...)
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for old, s := range p.probes {
		if now.Sub(s.sent) > probeMemory {
			delete(p.probes, old)
		}
	}
	p.probes[string(name)] = sighting{member: m, sent: now}
	return name
}

// Sighted is told of a query's name under loop.rempart.test., in canonical wire form, and reports
// whether it is a probe of this pool: then the upstream it was sent to leads back here, and is
// refused from now on. Such a query must not be forwarded.
func (p *Pool) Sighted(name []byte) bool {
	p.mu.Lock()
	s, known := p.probes[string(name)]
	if known {
		s.back = true
		p.probes[string(name)] = s
	}
	p.mu.Unlock()
	if known {
		p.refuse(s.member, "a query sent to it came back")
	}
	return known
}

// cameBack reports whether the probe name was sighted.
func (p *Pool) cameBack(name []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.probes[string(name)].back
}

// refuse takes m out of use until a check finds it clean.
func (p *Pool) refuse(m *member, why string) {
	if m.looping.CompareAndSwap(false, true) {
		p.log.Error("upstream refused: it leads back to this resolver, which would ask itself without end; configure a resolver that does not forward here",
			"upstream", m.name, "found", why)
	}
}

// rcodeError is an answer with an error where none was expected.
type rcodeError int

func (e rcodeError) Error() string { return fmt.Sprintf("answered with rcode %d", int(e)) }
