package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"rempart/internal/pause"
	"rempart/internal/wire"
)

const (
	quirkMemory = 15 * time.Minute // after this time, a feature that an upstream lacks is tried again
	caseStrikes = 3                // questions whose case is not echoed over UDP, and that TCP does not answer, until 0x20 is given up
	dialTimeout = 3 * time.Second  // TCP and TLS handshakes together

	// An upstream, or a firewall before it, may drop queries with EDNS. A question that stays unanswered for this time is also sent without EDNS. The time
	// depends on what is known: before the first answer with EDNS; after an answer with EDNS; for a question with DO.
	plainAfterFirst  = 250 * time.Millisecond
	plainAfterProven = time.Second
	plainAfterDO     = 1500 * time.Millisecond
	plainGrace       = 50 * time.Millisecond // how long an answer with EDNS is still preferred to an answer without
	ednsStrikes      = 3                     // questions in a row that are answered only without EDNS, until EDNS is given up
)

// Reasons for which an answer over UDP is not accepted, so that the question is sent over TCP.
var (
	errTruncated = errors.New("answer truncated")
	errRecased   = errors.New("case of the question not echoed")

	errQuestionless = errors.New("answer without its question")
)

// ErrFlooded is another such reason: a socket received MaxForeign datagrams that answer no question.
var ErrFlooded = errors.New("too many datagrams that do not answer the question")

// wantsTCP reports whether err says that the question has to be asked over TCP.
func wantsTCP(err error) bool {
	return errors.Is(err, errTruncated) || errors.Is(err, errRecased) || errors.Is(err, ErrFlooded) || errors.Is(err, errQuestionless) ||
		errors.Is(err, errCookieless) || errors.Is(err, errBadCookie)
}

// errConnecting is wrapped by the errors of connections that could not be opened.
var errConnecting = errors.New("connecting")

// errPlain ends the wait for an answer with EDNS: the question was answered without.
var errPlain = errors.New("answered without EDNS")

// quirk records something that was learned about an upstream, mostly that it lacks a feature. A quirk is forgotten after quirkMemory. The zero value means
// that nothing was learned.
type quirk struct{ until atomic.Int64 }

func (k *quirk) forget()      { k.until.Store(0) }
func (k *quirk) believe()     { k.until.Store(time.Now().Add(quirkMemory).UnixNano()) }
func (k *quirk) active() bool { return time.Now().UnixNano() < k.until.Load() }

// group starts the goroutines of a Transport. Its fields are Context and Start of the Config.
type group struct {
	ctx   context.Context     // ends when the Transport has to end
	start func(f func()) bool // runs f in a goroutine; false if none may start any more
}

// Config configures a Transport. All fields without a default must be set.
type Config struct {
	Endpoint Endpoint
	RootCAs  *x509.CertPool // for encrypted protocols; nil: the system's

	// Dial opens every connection except those of QUIC. The network is "udp" or "tcp"; TLS and HTTPS use "tcp". Over "udp" one Write sends one datagram, and
	// one Read receives one. nil: sockets of this machine.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Context context.Context      // every connection is closed when it ends
	Start   func(f func()) bool  // runs f in a goroutine, and reports false if it does not because Context has ended
	Spend   func(free bool) bool // notes that a question is sent again and, unless free, takes a token from the budget; false if there is none
	Foreign *atomic.Uint64       // counts messages that answer no question

	PlainAfter time.Duration // after this time an unanswered question with EDNS is also sent without EDNS; 0: as learned
}

// Transport asks one upstream. Its methods may be called concurrently.
type Transport struct {
	datagrams *datagrams // nil except for UDP
	stream    asker
	group     group
	pad       bool // queries are padded, because the transport is encrypted

	noEDNS   quirk // answers FORMERR or NOTIMP to a query with an OPT, and another rcode to one without
	dropEDNS quirk // leaves queries with an OPT unanswered
	hasEDNS  quirk // answers queries with an OPT
	noMix    quirk // does not echo the case of a question
	cookies  cookies

	strikes     atomic.Int32 // questions in a row towards caseStrikes
	ednsStrikes atomic.Int32 // questions in a row towards the constant ednsStrikes
	spend       func(free bool) bool

	plain time.Duration // Config.PlainAfter
}

// New returns a Transport. It opens nothing yet.
func New(c Config) *Transport {
	e := c.Endpoint
	t := &Transport{spend: c.Spend, plain: c.PlainAfter, group: group{c.Context, c.Start}, pad: e.Protocol.Encrypted()}
	if e.Protocol == UDP {
		t.datagrams = newDatagrams(e.Addr, c.Dial, c.Foreign, &t.cookies)
	}
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	switch e.Protocol {
	case HTTPS:
		t.stream = newHTTPSClient(&c, dial)
	case QUIC:
		t.stream = newQUICClient(&c)
	default:
		t.stream = newStream(&c, dial)
	}
	return t
}

// dialFunc is the type of Config.Dial.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// newStream makes the stream for an upstream over TCP or TLS.
func newStream(c *Config, dial dialFunc) *stream {
	e := c.Endpoint
	connect := func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", e.Addr.String()) }
	if e.Protocol == TLS {
		connect = dialTLS(e, tlsConfig(e, c.RootCAs, wire.ALPNTLS), connect)
	}
	return &stream{dial: connect, group: group{c.Context, c.Start}, spend: c.Spend, foreign: c.Foreign}
}

// asker asks one upstream over connections, on which only the upstream can send. echoed reports whether the answer repeated the case of the question.
type asker interface {
	ask(ctx context.Context, q *Question, f Form) (r Reply, echoed bool, err error)
	retire() // makes new questions use other connections
}

// Retire is called when the upstream no longer answers, because this machine may have moved to another network. New questions use other connections, and
// carry no cookies until the upstream echoes an offered one again.
func (t *Transport) Retire() {
	t.cookies.forget()
	t.stream.retire()
}

// UsesEDNS reports whether every question is sent with EDNS first, because the upstream is not known to lack it.
func (t *Transport) UsesEDNS() bool { return !t.noEDNS.active() && !t.dropEDNS.active() }

// MixesCase reports whether names are sent over UDP in random case, because the upstream is not known to change the case.
func (t *Transport) MixesCase() bool { return !t.noMix.active() }

// SendsCookies reports whether queries with an OPT over UDP carry a cookie (RFC 7873), because the upstream is known to echo it.
func (t *Transport) SendsCookies() bool { return t.cookies.active() }

// Cookie returns the value of the COOKIE option for a query with an OPT that is sent from a local address at the time now; nil if the query must have no such
// option. The caller must not change the value.
func (t *Transport) Cookie(local netip.Addr, now time.Time) []byte {
	return t.cookies.use(local, now)
}

// JudgeDatagram judges msg, a datagram of any bytes, as an answer to sent, a query of AppendQuery. mixed says that the query is in random case. cut says that
// the end of the datagram is missing. An error says why the question has to be asked over TCP. The result is Foreign if the datagram may be forged.
// JudgeDatagram stores the server cookie of an answer that echoes the client cookie of the query.
func (t *Transport) JudgeDatagram(msg, sent []byte, mixed, cut bool) (Match, error) {
	return t.cookies.judge(msg, sent, mixed, cut)
}

// NoteEDNS notes that the upstream answered a query with an OPT. Package upstream calls it for queries that Exchange did not send.
func (t *Transport) NoteEDNS() {
	t.ednsStrikes.Store(0)
	t.hasEDNS.believe()
}

// Exchange sends the question of q and returns its answer, final or not, soon after ctx ends at the latest.
//
// Exchange sends the question again without EDNS if the upstream may not understand EDNS, or may drop queries with EDNS. After an answer which shows that the
// upstream does not understand EDNS, a question for DNSSEC records is still sent with EDNS first: that answer may have been forged, and DNSSEC records need
// EDNS. If the upstream has dropped queries with EDNS, every question is sent without EDNS only, because nobody can forge a missing answer.
//
// An error without a question is easier to forge than an answer, because it has to match only the ID and the port. Exchange accepts such an error only after it
// has asked the upstream a second time.
func (t *Transport) Exchange(ctx context.Context, q *Request) (Reply, error) {
	if q.OfferCookie && t.mayOffer() {
		if r, settled := t.offer(ctx, q); settled {
			return r, nil
		}
	}
	if t.dropEDNS.active() || t.noEDNS.active() && !q.DO {
		r, err := t.ask(ctx, q, false)
		if err == nil && r.bare {
			r, err = t.ask(ctx, q, false)
		}
		r.Stripped = q.DO
		return r, err
	}
	r, err := t.askEither(ctx, q)
	switch {
	case err != nil || r.Stripped:
		return r, err
	case r.bare && !r.Declines():
		return t.ask(ctx, q, true)
	case !r.lacksEDNS():
		return r, nil
	}
	if r, err = t.ask(ctx, q, false); err != nil {
		return r, err
	}
	r.Stripped = q.DO
	if !r.Declines() { // otherwise the upstream does not understand the question itself
		t.noEDNS.believe()
	}
	return r, nil
}

// mayOffer reports whether a cookie may be offered: the upstream is asked over UDP, and it is not known whether it echoes cookies.
func (t *Transport) mayOffer() bool {
	return t.datagrams != nil && t.UsesEDNS() && !t.cookies.active() && !t.cookies.lost.active()
}

// offer asks with a new client cookie, and makes further queries carry it if the answer echoes it. The option may be the reason for silence or for an error.
// offer therefore returns only an answer that settles the question, and learns nothing from any other: the question must be asked again without the option.
func (t *Transport) offer(ctx context.Context, q *Request) (r Reply, settled bool) {
	ctx, cancel := context.WithTimeout(ctx, offerWait)
	defer cancel()
	r, err := t.datagrams.offer(ctx, &Request{Question: q.Question}, Form{EDNS: true, Mix: t.MixesCase()})
	if err != nil || r.bare || !r.Final() {
		return Reply{}, false
	}
	t.NoteEDNS()
	return r, true
}

// askEither asks with EDNS, and also without EDNS if the question stays unanswered for some time.
func (t *Transport) askEither(ctx context.Context, q *Request) (Reply, error) {
	either, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	plain := make(chan Reply, 1)
	after := t.PlainAfter(&q.Question)
	if q.Sent != nil {
		after -= time.Since(q.Sent.At)
	}
	late := time.AfterFunc(after, func() {
		t.group.start(func() {
			// Nobody on the way sees the OPT in an encrypted query, and without it the query is not padded. An upstream is known to understand EDNS if it echoes
			// cookies, and an answer without EDNS has no cookie by which a forged one is recognized.
			if t.pad || t.cookies.active() || !t.spend(false) {
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
		t.NoteEDNS()
		return r, nil
	}
	select {
	case r = <-plain:
	default:
		return r, err
	}
	if t.ednsStrikes.Add(1) >= ednsStrikes {
		t.ednsStrikes.Store(ednsStrikes - 1) // after dropEDNS was forgotten, one further strike is enough
		t.hasEDNS.forget()
		t.dropEDNS.believe()
	}
	r.Stripped = q.DO
	return r, nil
}

// PlainAfter returns the time after which an unanswered question with EDNS is also sent without EDNS.
func (t *Transport) PlainAfter(q *Question) time.Duration {
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

// ask asks once: over UDP, and over TCP if wantsTCP reports true for the error of UDP, or over the protocol of the endpoint.
func (t *Transport) ask(ctx context.Context, q *Request, edns bool) (Reply, error) {
	if t.datagrams == nil {
		if q.Sent != nil && edns && q.Sent.used.CompareAndSwap(false, true) { // that query has an OPT
			r, err := q.Sent.wait(ctx)
			if !isLost(err) || ctx.Err() != nil || !t.spend(true) {
				return r, err
			}
		}
		r, _, err := t.stream.ask(ctx, &q.Question, Form{EDNS: edns, Pad: t.pad})
		r.bare = false // only the upstream can send on the connection
		return r, err
	}
	f := Form{EDNS: edns, Mix: !t.noMix.active()}
	r, why := t.datagrams.ask(ctx, q, f)
	if !wantsTCP(why) {
		return r, why
	}
	recased := errors.Is(why, errRecased)
	if q.Partly != nil && (recased || errors.Is(why, errTruncated)) {
		q.Partly()
	}
	r, echoed, err := t.stream.ask(ctx, &q.Question, f)
	r.bare = false
	gaveUp := false
	switch {
	case !recased:
	case err == nil && echoed: // the upstream keeps the case: the answer over UDP was forged, or changed in transit
		t.strikes.Store(0)
	default:
		gaveUp = t.recased(err == nil)
	}
	switch {
	case err == nil:
		if errors.Is(why, errCookieless) || errors.Is(why, errBadCookie) {
			t.cookies.strike()
		}
		return r, nil
	case gaveUp && ctx.Err() == nil:
		return t.datagrams.ask(ctx, q, Form{EDNS: edns})
	}
	return r, fmt.Errorf("%w; over TCP: %w", why, err)
}

// recased notes that no answer echoed the case of a question. certain says that the upstream answered over TCP. If it did not, the answer over UDP may be
// forged, and only the last of caseStrikes such questions makes the Transport give up random case. recased reports whether this question did.
func (t *Transport) recased(certain bool) (gaveUp bool) {
	if !certain && t.strikes.Add(1) < caseStrikes {
		return false
	}
	t.strikes.Store(0)
	t.noMix.believe()
	return true
}
