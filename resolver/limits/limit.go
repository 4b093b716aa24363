// Package limits limits the UDP answers to client networks. Source addresses of UDP can be forged: without limits, an attacker could make this server send many or
// large answers to other people.
package limits

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

// Limit is what the networks of the clients in a prefix may receive each. 0 means no limit.
type Limit struct {
	Clients netip.Prefix // of several limits, the one with the longest prefix applies, of equal prefixes the last
	Bytes   int64        // per second, of answers that exceed freeFactor times their queries, less paidFactor times their queries; at most this many at once
	Answers int64        // per second; at most this many at once
}

// Action is what happens to an answer above a limit.
type Action uint8

const (
	Truncate  Action = iota // the answer is truncated, and a real client asks again over TCP
	Drop                    // nothing is sent
	Observe                 // the answer is sent, and counted
	AskCookie               // of Truncate, for a client that sent a cookie: BADCOOKIE, and a real client asks again with the server cookie of that answer
	Actions                 // the number of actions
)

// String returns the action's label in metrics.
func (a Action) String() string {
	return [...]string{"truncated", "dropped", "observed", "badcookie"}[a]
}

// Kind is a kind of limit.
type Kind uint8

const (
	Bytes Kind = iota
	Answers
	Kinds // the number of kinds
)

// String returns the kind's label in metrics.
func (k Kind) String() string { return [...]string{"bytes", "answers"}[k] }

// Config configures a Limiter.
type Config struct {
	Limits   []Limit
	IPv4Bits int // prefix length of the network that shares a limit; 0 means 24
	IPv6Bits int // 0 means 56
	Action   Action
}

const (
	defaultIPv4Bits = 24
	defaultIPv6Bits = 56

	// freeFactor is how many times larger than its query a UDP answer may be without being charged, including IP and UDP headers. RFC 9000 section 8.1 sets the
	// same bound for QUIC. A larger answer is charged with what exceeds paidFactor times its query. So whoever sends as many bytes in queries as the limit allows,
	// or more, receives at most freeFactor times as many: some of the answers are charged, and the others are truncated and as small as their queries.
	freeFactor = 3
	paidFactor = 2
	ipHeaders  = 20 + 8

	// chunk is the number of queries whose accounts are read ahead: more than a core can wait for at a time.
	chunk = 16
)

// Limiter limits the answers to client networks. A client with a valid server cookie is not limited: its address is not forged. A nil *Limiter limits nothing. The
// methods may be called concurrently, take no lock and allocate nothing.
type Limiter struct {
	rules    rules
	accounts accounts
	action   Action
	began    time.Time
	limited  [Kinds][Actions]atomic.Uint64
}

// New returns a limiter, or nil if nothing is limited.
func New(c Config) *Limiter {
	if !slices.ContainsFunc(c.Limits, func(l Limit) bool { return l.Bytes > 0 || l.Answers > 0 }) {
		return nil
	}
	if c.IPv4Bits == 0 {
		c.IPv4Bits = defaultIPv4Bits
	}
	if c.IPv6Bits == 0 {
		c.IPv6Bits = defaultIPv6Bits
	}
	return &Limiter{rules: newRules(c), accounts: newAccounts(), action: c.Action, began: time.Now()}
}

// Now returns the time for Count and Weigh. It may be read once for a batch.
func (l *Limiter) Now() time.Duration {
	if l == nil {
		return 0
	}
	return time.Since(l.began)
}

// Count charges one answer to the network of each query that is answered or will be answered on the slow path. If the network has used up its answers, the query is
// answered otherwise, or its outcome becomes Dropped. Count is called once for a query, Weigh after it is answered.
func (l *Limiter) Count(batch []wire.Query, now time.Duration) {
	if l == nil || !l.rules.countAnswers {
		return
	}
	for len(batch) > 0 {
		n := min(len(batch), chunk)
		l.count(batch[:n], now)
		batch = batch[n:]
	}
}

// count finds the accounts of all queries, then reads them, then charges them, so that the reads of memory overlap.
func (l *Limiter) count(batch []wire.Query, now time.Duration) {
	var (
		charges [chunk]charge
		queries [chunk]*wire.Query
	)
	n := 0
	for i := range batch {
		q := &batch[i]
		if q.Cookie == wire.ValidCookie || q.Outcome == wire.Dropped {
			continue
		}
		r, network := l.rules.find(q.Client)
		if r.answerCost == 0 {
			continue
		}
		charges[n], queries[n] = l.accounts.charge(network, Answers, r.answerCost), q
		n++
	}
	for i := range charges[:n] {
		charges[i].set[0].Load() // an atomic read is never left out
	}
	for i := range charges[:n] {
		if !charges[i].pay(now) {
			l.refuse(queries[i], Answers)
		}
	}
}

// Allow charges one answer to the network of a client, and reports whether it had one left, or whether limits are only observed. It also serves
// for other events than answers, in a Limiter of their own.
func (l *Limiter) Allow(client netip.Addr, now time.Duration) bool {
	if l == nil {
		return true
	}
	r, network := l.rules.find(client)
	if r.answerCost == 0 {
		return true
	}
	if c := l.accounts.charge(network, Answers, r.answerCost); c.pay(now) {
		return true
	}
	l.limited[Answers][l.action].Add(1)
	return l.action == Observe
}

// Weigh charges an answer to its client's network by its size. If the network has used up its bytes, the query is answered otherwise, or its outcome becomes Dropped.
func (l *Limiter) Weigh(q *wire.Query, now time.Duration) {
	size, asked := len(q.Out)+ipHeaders, len(q.Packet)+ipHeaders
	if size <= freeFactor*asked || l == nil || q.Cookie == wire.ValidCookie {
		return
	}
	r, network := l.rules.find(q.Client)
	if r.bytes == 0 {
		return
	}
	if c := l.accounts.charge(network, Bytes, r.byteCost(size-paidFactor*asked)); !c.pay(now) {
		l.refuse(q, Bytes)
	}
}

// refuse counts an answer above a limit and replaces it. A client that sent a cookie asks again with the server cookie of the new answer, which is as small as a
// truncated one; others ask again over TCP.
func (l *Limiter) refuse(q *wire.Query, k Kind) {
	action := l.action
	if action == Truncate && (q.Cookie == wire.ClientCookie || q.Cookie == wire.WrongCookie) {
		action = AskCookie
	}
	l.limited[k][action].Add(1)
	switch action {
	case Truncate:
		q.Shorten()
	case AskCookie:
		q.Fail(wire.BadCookie)
	case Drop:
		q.Outcome = wire.Dropped
	}
}

// Stats are the numbers of answers above a limit since the start, by the kind of limit and by what was done.
type Stats [Kinds][Actions]uint64

// Stats returns the numbers, or nil if nothing is limited.
func (l *Limiter) Stats() *Stats {
	if l == nil {
		return nil
	}
	s := &Stats{}
	for k := range s {
		for a := range s[k] {
			s[k][a] = l.limited[k][a].Load()
		}
	}
	return s
}
