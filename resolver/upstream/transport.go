package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"rempart/internal/pause"
)

// exchanger sends one question to one upstream and returns its answer, final or not. It is
// called concurrently, and returns soon after ctx ends.
type exchanger interface {
	exchange(ctx context.Context, q *Question) (reply, error)
	retire() // called when the upstream no longer answers: open connections and sockets are not used for new questions
}

const (
	quirkMemory  = 15 * time.Minute // after this time, a feature that an upstream lacks is tried again
	caseStrikes  = 3                // unechoed cases over UDP, while TCP gives no answer, until 0x20 is given up
	dialTimeout  = 3 * time.Second  // TCP and TLS handshakes together
	sessionsKept = 4                // TLS sessions for resumption

	// An upstream, or a box before it, may drop queries with EDNS. The question is also sent without EDNS if it was not
	// answered for this time: before the first answer with EDNS; once EDNS is proven to work; for a question with DO.
	plainAfterFirst  = 250 * time.Millisecond
	plainAfterProven = time.Second
	plainAfterDO     = 1500 * time.Millisecond
	plainGrace       = 50 * time.Millisecond // during which an answer with EDNS may still arrive
	ednsStrikes      = 3                     // answers in a row to the question without EDNS only, until EDNS is given up
)

// Reasons for which an answer over UDP is not accepted, so that the question is sent over TCP.
var (
	errTruncated = errors.New("answer truncated")
	errRecased   = errors.New("case of the question not echoed")
	errFlooded   = errors.New("too many answers that are not to the question")

	errQuestionless = errors.New("answer without its question")
)

// wantsTCP reports whether err says that the question has to be asked over TCP.
func wantsTCP(err error) bool {
	return errors.Is(err, errTruncated) || errors.Is(err, errRecased) || errors.Is(err, errFlooded) || errors.Is(err, errQuestionless)
}

// errPlain ends the wait for an answer with EDNS: the question was answered without.
var errPlain = errors.New("answered without EDNS")

// errHandshake is wrapped by errors that occur after the TCP connection was established.
var errHandshake = errors.New("TLS handshake")

// quirk records that an upstream lacks a feature. It is valid for a limited time. The zero value is no quirk.
type quirk struct{ until atomic.Int64 }

func (k *quirk) forget()      { k.until.Store(0) }
func (k *quirk) believe()     { k.until.Store(time.Now().Add(quirkMemory).UnixNano()) }
func (k *quirk) active() bool { return time.Now().UnixNano() < k.until.Load() }

// transport is the exchanger over sockets.
type transport struct {
	datagrams *datagrams // nil except for UDP
	stream    *stream

	noEDNS   quirk // answers FORMERR or NOTIMP to an OPT, and otherwise without
	dropEDNS quirk // leaves queries with an OPT unanswered
	hasEDNS  quirk // answers queries with an OPT
	noMix    quirk // does not echo the case of a question

	strikes     atomic.Int32 // towards noMix
	ednsStrikes atomic.Int32 // towards dropEDNS
	spend       func(free bool) bool

	plain time.Duration // what plainAfter returns, in tests; 0: as the question and the upstream are
}

func newTransport(e Endpoint, roots *x509.CertPool, dial dialFunc, g *group, spend func(free bool) bool, foreign *atomic.Uint64) *transport {
	t := &transport{spend: spend, stream: &stream{dial: dialer(e, roots, dial), group: g, spend: spend, foreign: foreign, pad: e.Transport == TLS}}
	if e.Transport == UDP {
		t.datagrams = newDatagrams(e.Addr, dial, foreign)
	}
	return t
}

// dialFunc is the type of Config.Dial.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer connects to e over TCP, and TLS where it says so.
func dialer(e Endpoint, roots *x509.CertPool, dial dialFunc) func(context.Context) (net.Conn, error) {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	addr := e.Addr.String()
	plain := func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", addr) }
	if e.Transport != TLS {
		return plain
	}
	config := &tls.Config{
		RootCAs: roots, ServerName: e.Name, MinVersion: tls.VersionTLS12, NextProtos: []string{"dot"},
		ClientSessionCache: tls.NewLRUClientSessionCache(sessionsKept),
	}
	if e.Name == "" {
		config.ServerName = e.Addr.Addr().WithZone("").String()
	}
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := plain(ctx)
		if err != nil {
			return nil, err
		}
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			if e.Name == "" && errors.As(err, new(x509.HostnameError)) {
				err = fmt.Errorf("%w; give the name on the certificate after #, as in %s#dns.example", err, e)
			}
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		return secure, nil
	}
}

func (t *transport) retire() { t.stream.retire() }

// exchange sends the question, and sends it again without EDNS if the upstream may not understand EDNS or may drop
// it. If an earlier answer said that the upstream does not understand EDNS, a question for DNSSEC records is still sent
// with EDNS first: that answer may have been forged, and DNSSEC records need EDNS. If the upstream has dropped queries
// with EDNS, every question is sent without EDNS only, because nobody can forge a missing answer.
//
// An error without a question can be forged more easily than an answer: it has to match the ID and the port only. It
// is accepted only after the upstream was asked a second time.
func (t *transport) exchange(ctx context.Context, q *Question) (reply, error) {
	if t.dropEDNS.active() || t.noEDNS.active() && !q.DO {
		r, err := t.ask(ctx, q, false)
		if err == nil && r.bare {
			r, err = t.ask(ctx, q, false)
		}
		r.stripped = q.DO
		return r, err
	}
	r, err := t.askEither(ctx, q)
	switch {
	case err != nil || r.stripped:
		return r, err
	case r.bare && !r.declines():
		return t.ask(ctx, q, true)
	case !r.lacksEDNS():
		return r, nil
	}
	if r, err = t.ask(ctx, q, false); err != nil {
		return r, err
	}
	r.stripped = q.DO
	if !r.declines() { // else it is the question that it does not understand
		t.noEDNS.believe()
	}
	return r, nil
}

// askEither asks with EDNS, and without as well if that stays unanswered for some time.
func (t *transport) askEither(ctx context.Context, q *Question) (reply, error) {
	either, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	plain := make(chan reply, 1)
	after := t.plainAfter(q)
	if q.first != nil {
		after -= time.Since(q.first.sent)
	}
	late := time.AfterFunc(after, func() {
		t.stream.group.start(func() {
			if !t.spend(false) {
				return
			}
			if r, err := t.ask(either, q, false); err == nil && !r.bare && pause.For(either, plainGrace) {
				plain <- r
				cancel(errPlain)
			}
		})
	})
	defer late.Stop()
	r, err := t.ask(either, q, true)
	if err == nil {
		t.ednsStrikes.Store(0)
		t.hasEDNS.believe()
		return r, nil
	}
	select {
	case r = <-plain:
	default:
		return r, err
	}
	if t.ednsStrikes.Add(1) >= ednsStrikes {
		t.ednsStrikes.Store(ednsStrikes - 1) // when it was forgotten, one is enough
		t.hasEDNS.forget()
		t.dropEDNS.believe()
	}
	r.stripped = q.DO
	return r, nil
}

// plainAfter returns the time after which an unanswered question with EDNS is also sent without EDNS.
func (t *transport) plainAfter(q *Question) time.Duration {
	switch {
	case t.plain > 0:
		return t.plain
	case q.DO:
		return plainAfterDO
	case t.hasEDNS.active():
		return plainAfterProven
	}
	return plainAfterFirst
}

// ask asks once, over TCP if UDP will not do.
func (t *transport) ask(ctx context.Context, q *Question, edns bool) (reply, error) {
	if t.datagrams == nil {
		r, _, err := t.stream.ask(ctx, q, form{edns: edns, pad: t.stream.pad})
		r.bare = false // on a connection nobody else sends
		return r, err
	}
	f := form{edns: edns, mix: !t.noMix.active()}
	r, why := t.datagrams.ask(ctx, q, f)
	if !wantsTCP(why) {
		return r, why
	}
	recased := errors.Is(why, errRecased)
	if q.partly != nil && (recased || errors.Is(why, errTruncated)) {
		q.partly()
	}
	r, echoed, err := t.stream.ask(ctx, q, f)
	r.bare = false
	gaveUp := false
	switch {
	case !recased:
	case err == nil && echoed: // the answer over UDP was forged, or changed on its way: the upstream keeps the case
		t.strikes.Store(0)
	default:
		gaveUp = t.recased(err == nil)
	}
	switch {
	case err == nil:
		return r, nil
	case gaveUp && ctx.Err() == nil:
		return t.datagrams.ask(ctx, q, form{edns: edns})
	}
	return r, fmt.Errorf("%w; over TCP: %w", why, err)
}

// recased notes that the case of a question did not come back over UDP, and not over TCP either; certain says that TCP answered. Where TCP cannot be
// had, the answer may have been forged: it takes several to make Rempart give up a protection. It reports whether this one did.
func (t *transport) recased(certain bool) (gaveUp bool) {
	if !certain && t.strikes.Add(1) < caseStrikes {
		return false
	}
	t.strikes.Store(0)
	t.noMix.believe()
	return true
}
