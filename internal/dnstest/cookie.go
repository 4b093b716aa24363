package dnstest

import (
	"strings"

	"github.com/miekg/dns"
)

// clientCookieLen is the length of a client cookie in hexadecimal.
const clientCookieLen = 16

// Cookie returns the client cookie and the server cookie of q in hexadecimal (RFC 7873), "" for each that q does not have.
func (q *Query) Cookie() (client, server string) {
	opt := q.Msg.IsEdns0()
	if opt == nil {
		return "", ""
	}
	for _, o := range opt.Option {
		if c, ok := o.(*dns.EDNS0_COOKIE); ok {
			text := strings.ToLower(c.Cookie)
			n := min(clientCookieLen, len(text))
			return text[:n], text[n:]
		}
	}
	return "", ""
}

// SetCookie gives m, which must have an OPT, a cookie in hexadecimal.
func SetCookie(m *dns.Msg, cookie string) {
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie})
}

// EchoCookie calls h. If the query has a cookie, the answer echoes the client cookie, with the server cookie that server returns, in hexadecimal.
func EchoCookie(server func() string, h Handler) Handler {
	return func(q *Query) {
		client, _ := q.Cookie()
		if client == "" {
			h(q)
			return
		}
		Alter(h, func(m *dns.Msg) { SetCookie(m, client+server()) })(q)
	}
}

// RequireCookie is EchoCookie for an upstream that answers BADCOOKIE, over UDP, to a query with a cookie if its server cookie is not the one that server returns.
func RequireCookie(server func() string, h Handler) Handler {
	return EchoCookie(server, func(q *Query) {
		if client, got := q.Cookie(); q.Network == "udp" && client != "" && got != server() {
			q.Send(q.Reply(dns.RcodeBadCookie))
			return
		}
		h(q)
	})
}
