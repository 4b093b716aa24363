// Package dnstap sends a sample of the answers to a collector, in the format of https://dnstap.info. No client address leaves the process as it is.
package dnstap

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	"google.golang.org/protobuf/proto"

	"rempart/internal/wire"
)

// Config configures a Tap.
type Config struct {
	Sink    net.Addr // the collector's address, TCP or a Unix socket
	Every   int      // one answer in so many is sent, at least 1
	Clients Clients  // what is sent of clients' addresses
	Except  []byte   // canonical name of a zone of which nothing is sent; empty: none
	Node    string   // the name of this server
	Version string   // of this program
	Log     *slog.Logger
}

// Handler answers queries, as package listen expects it.
type Handler interface {
	Fast(batch []wire.Query)
	Slow(ctx context.Context, q *wire.Query)
	Shed(q *wire.Query)
	Forward(ctx context.Context, queries []*wire.Query) (left []*wire.Query)
}

// waiting is the number of messages that wait for the collector; above it, messages are dropped.
const waiting = 1000

// Tap sends messages to a collector. Its methods are safe for concurrent use.
type Tap struct {
	config   Config
	hide     hider
	messages chan []byte
	sent     atomic.Uint64
	dropped  atomic.Uint64
}

// New returns a Tap. Run sends the messages.
func New(c Config) *Tap {
	return &Tap{config: c, hide: newHider(c.Clients), messages: make(chan []byte, waiting)}
}

// Run sends messages until ctx ends. A collector that cannot be reached is tried again every few seconds; messages are dropped meanwhile.
func (t *Tap) Run(ctx context.Context) error {
	out, err := dnstap.NewFrameStreamSockOutput(t.config.Sink)
	if err != nil {
		return err
	}
	out.SetTimeout(5 * time.Second)
	out.SetFlushTimeout(time.Second)
	out.SetRetryInterval(5 * time.Second)
	out.SetLogger(&logger{log: t.config.Log})
	go out.RunOutputLoop()
	to := out.GetOutputChannel()
	for {
		select {
		case m := <-t.messages:
			select {
			case to <- m:
				t.sent.Add(1)
			case <-ctx.Done():
			}
		case <-ctx.Done():
			ended := make(chan struct{})
			go func() { // it waits for a collector that does not answer
				out.Close()
				close(ended)
			}()
			select {
			case <-ended:
			case <-time.After(time.Second):
			}
			return nil
		}
	}
}

// logQuiet is the time in which a failure is not logged again.
const logQuiet = time.Minute

// logger logs the failures of the library. One goroutine uses it.
type logger struct {
	log  *slog.Logger
	last time.Time
}

// Printf logs a message that ends with an error; others are about connections that were opened.
func (l *logger) Printf(_ string, v ...any) {
	if len(v) == 0 || time.Since(l.last) < logQuiet {
		return
	}
	if err, is := v[len(v)-1].(error); is {
		l.last = time.Now()
		l.log.Warn("the dnstap collector cannot be reached; messages are dropped until it answers (REMPART_DNSTAP)", "error", err)
	}
}

// Stats returns the number of messages that were passed to the collector's connection and that were dropped.
func (t *Tap) Stats() (sent, dropped uint64) { return t.sent.Load(), t.dropped.Load() }

// Wrap returns a Handler that answers as h and sends a sample of its answers. Like h, it is used by one loop at a time where h is.
func (t *Tap) Wrap(h Handler) Handler { return &tapped{Handler: h, tap: t} }

// tapped is a Handler with a Tap.
type tapped struct {
	Handler
	tap  *Tap
	seen atomic.Uint64
	back *returner // of the queries that were passed to Forward last
}

// Fast answers a batch, and sends what is sampled of it.
func (h *tapped) Fast(batch []wire.Query) {
	h.Handler.Fast(batch)
	for i := range batch {
		if batch[i].Outcome == wire.Answered {
			h.sample(&batch[i])
		}
	}
}

// Slow continues a query. A renewal was sent before.
func (h *tapped) Slow(ctx context.Context, q *wire.Query) {
	renewal := q.Renew
	h.Handler.Slow(ctx, q)
	if q.Outcome == wire.Answered && !renewal {
		h.sample(q)
	}
}

// Forward continues queries, and sees them again when they are answered.
func (h *tapped) Forward(ctx context.Context, queries []*wire.Query) []*wire.Query {
	for _, q := range queries {
		if q.Renew {
			continue
		}
		if h.back == nil || h.back.to != q.Return {
			h.back = &returner{h, q.Return}
		}
		q.Return = h.back
	}
	left := h.Handler.Forward(ctx, queries)
	for _, q := range left {
		if r, is := q.Return.(*returner); is {
			q.Return = r.to
		}
	}
	return left
}

// returner passes an answered query on, after it was sampled.
type returner struct {
	h  *tapped
	to wire.Returner
}

// Return takes back answered queries.
func (r *returner) Return(answered []*wire.Query) {
	for _, q := range answered {
		if q.Outcome == wire.Answered {
			r.h.sample(q)
		}
	}
	r.to.Return(answered)
}

// sample sends one answer in Config.Every.
func (h *tapped) sample(q *wire.Query) {
	if h.seen.Add(1)%uint64(h.tap.config.Every) == 0 && (len(h.tap.config.Except) == 0 || !wire.InZone(q.Name(), h.tap.config.Except)) {
		h.tap.send(q, time.Now())
	}
}

// send passes a message on, or drops it if too many wait.
func (t *Tap) send(q *wire.Query, now time.Time) {
	if len(t.messages) == cap(t.messages) {
		t.dropped.Add(1)
		return
	}
	m := &dnstap.Message{
		Type: dnstap.Message_CLIENT_RESPONSE.Enum(), SocketProtocol: protocols()[q.Transport].Enum(),
		ResponseTimeSec: proto.Uint64(uint64(now.Unix())), ResponseTimeNsec: proto.Uint32(uint32(now.Nanosecond())),
		ResponseMessage: withoutCookie(q),
	}
	if address, ok := t.hide.address(q.Client, now); ok {
		m.QueryAddress, m.SocketFamily = address.AsSlice(), dnstap.SocketFamily_INET.Enum()
		if address.Is6() {
			m.SocketFamily = dnstap.SocketFamily_INET6.Enum()
		}
	}
	frame, err := proto.Marshal(&dnstap.Dnstap{
		Type: dnstap.Dnstap_MESSAGE.Enum(), Identity: []byte(t.config.Node), Version: []byte("rempart " + t.config.Version), Message: m,
	})
	if err != nil {
		t.dropped.Add(1)
		return
	}
	select {
	case t.messages <- frame:
	default:
		t.dropped.Add(1)
	}
}

// protocols returns the protocols of the transports.
func protocols() [wire.Transports]dnstap.SocketProtocol {
	return [...]dnstap.SocketProtocol{
		wire.UDP: dnstap.SocketProtocol_UDP, wire.TCP: dnstap.SocketProtocol_TCP, wire.TLS: dnstap.SocketProtocol_DOT,
		wire.HTTPS: dnstap.SocketProtocol_DOH, wire.QUIC: 7, // DOQ, which the library does not know yet
	}
}

// withoutCookie returns a copy of an answer. If the client sent a cookie, by which it could be recognised, the copy has no OPT. It is the last record of every
// answer.
func withoutCookie(q *wire.Query) []byte {
	answer := append([]byte(nil), q.Out...)
	if q.Cookie == wire.NoCookie {
		return answer
	}
	records := wire.ReadRecords(answer)
	for rr := (wire.Record{}); records.Next(&rr); {
		if rr.Type == wire.TypeOPT {
			answer = answer[:rr.Name]
			wire.SetCount(answer, wire.SectionAdditional, wire.Count(answer, wire.SectionAdditional)-1)
			break
		}
	}
	return answer
}
