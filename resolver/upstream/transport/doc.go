// Package transport asks one upstream resolver over one protocol: UDP (and TCP after truncation), TCP, TLS, HTTPS or QUIC. It knows nothing about other
// upstreams, and does not measure the health of its own: package upstream decides which upstream is asked, when, and how often.
//
// The life of a question:
//
//   - An Endpoint (endpoint.go) holds the address of the upstream and the protocol by which the upstream is asked. New makes a Transport from an Endpoint,
//     and opens no connection yet.
//   - Transport.Exchange (transport.go) writes the question in the format that this upstream understands: with or without EDNS, in mixed or lower case
//     (message.go). The Transport remembers for some time which features the upstream lacks.
//   - Over UDP (udp.go) each query has a socket of its own. If an answer is truncated or may be forged, Exchange sends the question over TCP.
//   - If an upstream echoes DNS cookies (cookie.go), each query over UDP with an OPT carries a cookie, and an answer must echo the cookie.
//     Request.OfferCookie detects such upstreams.
//   - Over TCP and TLS many questions share a connection (stream.go, pipe.go). If the upstream closes a connection, the unanswered questions are sent again
//     over another connection. The Transport learns how many questions the upstream answers per connection (bound.go).
//   - Over HTTPS (https.go) each question is a request. Over QUIC (quic.go) each question has a stream of its own (both: requests.go). The certificate of an encrypted protocol
//     is always verified, or its key is pinned (secure.go). Queries are padded, so that their length does not reveal the name.
//   - Exchange returns a Reply, final or not, or an error. KindOf returns the kind of the error (failure.go).
//   - Post (post.go) sends a batch of questions over an open connection, without a goroutine for each.
//
// Package upstream sends most questions over UDP itself, in batches, over sockets that many questions share. It writes the queries with AppendQuery, MixCase
// and Cookie, and reads the answers with JudgeDatagram, Read and Restore, so that the same rules apply as for a query of Exchange. If the answer does not
// settle such a question, package upstream passes the query that was sent to Exchange as Request.Sent (request.go). Exchange then waits for the answer to
// that query instead of sending another one.
package transport
