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
)

// exchanger sends one question to one upstream and returns its answer, final or not. It is
// called concurrently, and returns soon after ctx ends.
type exchanger interface {
	exchange(ctx context.Context, q *Question) (reply, error)
	retire() // the upstream has fallen silent: what is kept open is not to be used for new questions
}

const (
	quirkMemory  = 15 * time.Minute // what an upstream lacks is tried again after this long
	caseStrikes  = 3                // unechoed cases over UDP, that TCP does not confirm, until 0x20 is given up
	dialTimeout  = 3 * time.Second  // TCP and TLS handshakes together
	sessionsKept = 4                // TLS sessions for resumption
)

// Why an answer over UDP is not taken, and the question is asked over TCP.
var (
	errTruncated = errors.New("answer truncated")
	errRecased   = errors.New("case of the question not echoed")
	errFlooded   = errors.New("too many answers that are not to the question")
)

// errHandshake is wrapped by what fails after the TCP connection stands.
var errHandshake = errors.New("TLS handshake")

// quirk is something an upstream was found to lack, believed for a while. The zero value is none.
type quirk struct{ until atomic.Int64 }

func (k *quirk) forget()      { k.until.Store(0) }
func (k *quirk) believe()     { k.until.Store(time.Now().Add(quirkMemory).UnixNano()) }
func (k *quirk) active() bool { return time.Now().UnixNano() < k.until.Load() }

// transport is the exchanger over sockets.
type transport struct {
	datagrams *datagrams // nil but for UDP
	stream    *stream

	noEDNS  quirk // answers FORMERR or NOTIMP to an OPT, and otherwise without
	noMix   quirk // does not echo the case of a question
	strikes atomic.Int32
}

func newTransport(e Endpoint, roots *x509.CertPool, g *group, spend func(free bool) bool, foreign *atomic.Uint64) *transport {
	t := &transport{stream: &stream{dial: dialer(e, roots), group: g, spend: spend, foreign: foreign, pad: e.Transport == TLS}}
	if e.Transport == UDP {
		t.datagrams = newDatagrams(e.Addr, foreign)
	}
	return t
}

// dialer connects to e over TCP, and TLS where it says so.
func dialer(e Endpoint, roots *x509.CertPool) func(context.Context) (net.Conn, error) {
	addr := e.Addr.String()
	plain := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
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
			return nil, fmt.Errorf("%w: %w", errHandshake, err)
		}
		return secure, nil
	}
}

func (t *transport) retire() { t.stream.retire() }

// exchange asks, and asks again without EDNS where the upstream may not understand it. A question
// for DNSSEC records is always tried with EDNS first: what is believed may have been forged, and
// without EDNS they cannot be asked for.
func (t *transport) exchange(ctx context.Context, q *Question) (reply, error) {
	edns := q.DO || !t.noEDNS.active()
	r, err := t.ask(ctx, q, edns)
	if err != nil || !edns || !r.lacksEDNS() {
		return r, err
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

// ask asks once, over TCP if UDP will not do.
func (t *transport) ask(ctx context.Context, q *Question, edns bool) (reply, error) {
	if t.datagrams == nil {
		r, _, err := t.stream.ask(ctx, q, form{edns: edns, pad: t.stream.pad})
		return r, err
	}
	f := form{edns: edns, mix: !t.noMix.active()}
	r, why := t.datagrams.ask(ctx, q, f)
	recased := errors.Is(why, errRecased)
	if !recased && !errors.Is(why, errTruncated) && !errors.Is(why, errFlooded) {
		return r, why
	}
	r, echoed, err := t.stream.ask(ctx, q, f)
	gaveUp := recased && t.recased(err == nil && !echoed)
	switch {
	case err == nil:
		return r, nil
	case gaveUp && ctx.Err() == nil:
		return t.datagrams.ask(ctx, q, form{edns: edns})
	}
	return r, fmt.Errorf("%w; over TCP: %w", why, err)
}

// recased notes that the case of a question did not come back over UDP; certain says that TCP
// does not echo it either. Where TCP does, or cannot be had, the answer may have been forged: it
// takes several to make Rempart give up a protection. It reports whether this one did.
func (t *transport) recased(certain bool) (gaveUp bool) {
	if !certain && t.strikes.Add(1) < caseStrikes {
		return false
	}
	t.strikes.Store(0)
	t.noMix.believe()
	return true
}
