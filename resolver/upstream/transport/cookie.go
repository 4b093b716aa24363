package transport

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

const (
	// Lengths in bytes (RFC 7873 section 4). The option of an answer has a client cookie and a server cookie of 8 to 32 bytes.
	clientCookieLen = 8
	minCookieLen    = clientCookieLen + 8
	maxCookieLen    = clientCookieLen + 32

	cookieLife    = time.Hour   // after this time a client cookie is replaced
	cookieStrikes = 3           // questions in a row that only TCP answers, after which cookies are given up
	offerWait     = time.Second // how long the answer to an offer is waited for
)

// Further reasons for which the question is sent over TCP.
var (
	errCookieless = errors.New("answer without the client cookie")
	errBadCookie  = errors.New("server cookie refused twice")
)

// cookie is a client cookie, with the server cookie that the upstream returned for it last. It never changes.
type cookie struct {
	text  [maxCookieLen]byte // the client cookie, then the server cookie
	size  int                // of text, in bytes; clientCookieLen while there is no server cookie
	local netip.Addr         // the address of this machine from which it is sent; invalid if unknown
	born  time.Time
}

// newCookie returns a random client cookie. It is not the hash of both addresses and a secret that RFC 7873 appendix A.1 describes: behind routers, this
// machine may have the same private address in several networks, and would send the same hash from all of them.
func newCookie(local netip.Addr) *cookie {
	k := &cookie{size: clientCookieLen, local: local, born: time.Now()}
	rand.Read(k.text[:clientCookieLen])
	return k
}

// value returns the value of the option for a query.
func (k *cookie) value() []byte { return k.text[:k.size] }

// with returns k with another server cookie, from an option that echoes k.
func (k *cookie) with(option []byte) *cookie {
	next := &cookie{local: k.local, born: k.born}
	next.size = copy(next.text[:], option)
	return next
}

// cookies holds the cookie of one upstream (RFC 7873). Its methods may be called concurrently. The zero value sends no cookies.
//
// A client cookie identifies this machine to everybody on the path, so it must not follow this machine from one network to another (RFC 9018 section 3). It
// is sent from one local address only and for an hour at most. It is forgotten when the upstream goes down: the network may have changed while the local
// address is the same.
type cookies struct {
	current atomic.Pointer[cookie] // nil: the upstream is not known to echo cookies
	strikes atomic.Int32           // questions in a row towards cookieStrikes
	lost    quirk                  // the upstream echoed cookies, and no longer does
}

// active reports whether queries carry cookies, and answers must.
func (c *cookies) active() bool { return c.current.Load() != nil }

// use returns the value of the option for a query that is sent from a local address at the time now; nil if queries carry no cookies. The value must not be
// changed.
func (c *cookies) use(local netip.Addr, now time.Time) []byte {
	for {
		k := c.current.Load()
		if k == nil {
			return nil
		}
		if k.local == local && now.Sub(k.born) < cookieLife {
			return k.value()
		}
		c.current.CompareAndSwap(k, newCookie(local))
	}
}

// forget makes queries carry no cookies until the upstream echoes an offered one again.
func (c *cookies) forget() { c.current.Store(nil) }

// adopt makes queries carry the offered cookie if an answer to the offer echoes it.
func (c *cookies) adopt(offered *cookie, msg []byte) {
	if option, _ := readCookie(msg); echoes(option, offered.text[:clientCookieLen]) {
		c.strikes.Store(0)
		c.current.Store(offered.with(option))
	}
}

// judge is JudgeDatagram, which also demands that the answer to a query with a cookie echoes the client cookie. It stores the server cookie.
func (c *cookies) judge(msg, sent []byte, mixed, cut bool) (Match, error) {
	m, err := judgeDatagram(msg, sent, mixed, cut)
	if m == Foreign && !errors.Is(err, errRecased) {
		return m, err
	}
	client := clientCookie(sent)
	if client == nil {
		return m, err
	}
	option, rcode := readCookie(msg)
	if !echoes(option, client) {
		return Foreign, errCookieless
	}
	c.store(option)
	if rcode != wire.BadCookie && c.strikes.Load() != 0 {
		c.strikes.Store(0)
	}
	return m, err
}

// store replaces the server cookie by the one in an option that echoes the client cookie of a query. The client cookie may have been replaced since.
func (c *cookies) store(option []byte) {
	k := c.current.Load()
	if k == nil || !bytes.Equal(k.text[:clientCookieLen], option[:clientCookieLen]) || bytes.Equal(k.value(), option) {
		return
	}
	c.current.CompareAndSwap(k, k.with(option)) // if another answer has replaced the cookie meanwhile, that one is as good
}

// strike notes that only TCP answered a question, because the answer over UDP did not echo the client cookie, or refused the server cookie twice. A single such
// answer may be forged. Several in a row are from an upstream that no longer supports cookies, or from another site of its anycast address.
func (c *cookies) strike() {
	if c.strikes.Add(1) >= cookieStrikes {
		c.strikes.Store(0)
		c.lost.believe()
		c.forget()
	}
}

// clientCookie returns the client cookie in a query of AppendQuery, nil if the query has none.
func clientCookie(sent []byte) []byte {
	option := questionEnd(sent) + wire.OPTLen
	at := option + wire.OptionLen
	if len(sent) < at+clientCookieLen || binary.BigEndian.Uint16(sent[option:]) != wire.OptionCookie {
		return nil
	}
	return sent[at : at+clientCookieLen]
}

// readCookie returns the value of the first COOKIE option in a message of any bytes, and the whole rcode of the message. Further COOKIE options have no effect
// (RFC 7873 section 5.3). The value is nil if there is no option.
func readCookie(msg []byte) (option []byte, rcode int) {
	if len(msg) < wire.HeaderLen {
		return nil, 0
	}
	rcode = wire.Rcode(msg)
	records := wire.ReadRecords(msg)
	var rr wire.Record
	for records.Next(&rr) {
		if rr.Type != wire.TypeOPT || rr.Section != wire.SectionAdditional {
			continue
		}
		rcode |= int(rr.TTL>>24) << 4
		for data := msg[rr.Data:rr.End]; ; {
			code, value, rest, ok := wire.NextOption(data)
			if !ok {
				return nil, rcode
			}
			if code == wire.OptionCookie {
				return value, rcode
			}
			data = rest
		}
	}
	return nil, rcode
}

// echoes reports whether the value of an option in an answer is of a valid length (RFC 7873 section 5.3) and starts with the client cookie.
func echoes(option, client []byte) bool {
	return minCookieLen <= len(option) && len(option) <= maxCookieLen && bytes.HasPrefix(option, client)
}

// localAddr returns the address of this machine from which a connection sends; invalid if it is unknown.
func localAddr(conn net.Conn) netip.Addr {
	if a, ok := conn.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}
