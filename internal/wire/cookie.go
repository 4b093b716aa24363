package wire

import "encoding/binary"

// Lengths of DNS cookies in bytes (RFC 7873 section 4). The server cookies of this program have the length of RFC 9018 section 4.
const (
	ClientCookieLen = 8
	ServerCookieLen = 16

	minServerCookie = 8
	maxServerCookie = 32
	cookieOptionLen = OptionLen + ClientCookieLen + ServerCookieLen
)

// Cookie is what is known of the DNS cookies of a query (RFC 7873).
type Cookie uint8

const (
	NoCookie        Cookie = iota // no COOKIE option
	MalformedCookie               // a COOKIE option of an impossible length: FORMERR (RFC 7873 section 5.2.2)
	ClientCookie                  // a client cookie alone
	UncheckedCookie               // a client cookie and a server cookie, which nobody has checked
	WrongCookie                   // a server cookie that is not ours, is for another client, or is too old
	ValidCookie                   // a valid server cookie: the client's address is not forged
	Cookies                       // the number of values
)

// String returns the cookie's label in metrics.
func (c Cookie) String() string {
	return [...]string{"none", "malformed", "client", "unchecked", "wrong", "valid"}[c]
}

// ServerCookie is a server cookie in an answer.
type ServerCookie [ServerCookieLen]byte

// parseCookie notes a COOKIE option whose value of size bytes is at that offset of the packet. It returns false if the size is impossible.
func (q *Query) parseCookie(at, size int) bool {
	switch server := size - ClientCookieLen; {
	case server == 0:
		q.Cookie = ClientCookie
	case minServerCookie <= server && server <= maxServerCookie:
		q.Cookie = UncheckedCookie
	default:
		q.Cookie = MalformedCookie
		return false
	}
	q.cookieAt, q.cookieLen = uint16(at), uint8(size)
	return true
}

// ReadCookies returns the client cookie and the server cookie of the query as parts of q.Packet. Both are nil if the query has no sound COOKIE option; server is
// empty if there is no server cookie.
func (q *Query) ReadCookies() (client, server []byte) {
	if q.Cookie <= MalformedCookie {
		return nil, nil
	}
	value := q.Packet[q.cookieAt:][:q.cookieLen]
	return value[:ClientCookieLen], value[ClientCookieLen:]
}

// ServeCookie makes Finish answer with the client cookie of the query and with server. state is what the query's own server cookie was found to be: ClientCookie,
// WrongCookie or ValidCookie.
func (q *Query) ServeCookie(state Cookie, server ServerCookie) {
	q.Cookie, q.server, q.serves = state, server, true
}

// AnswerCookie returns the value of the COOKIE option of the answer; nil if the answer has none.
func (q *Query) AnswerCookie() []byte {
	if !q.serves {
		return nil
	}
	client, _ := q.ReadCookies()
	return append(client[:len(client):len(client)], q.server[:]...)
}

// addCookie appends the COOKIE option of the answer (RFC 7873 section 5.2).
func (q *Query) addCookie() {
	client, _ := q.ReadCookies()
	q.Out = binary.BigEndian.AppendUint16(q.Out, OptionCookie)
	q.Out = append(q.Out, 0, ClientCookieLen+ServerCookieLen)
	q.Out = append(q.Out, client...)
	q.Out = append(q.Out, q.server[:]...)
}
