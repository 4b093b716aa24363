// Package transport asks one upstream resolver over one protocol: UDP (and TCP after truncation), TCP, TLS, HTTPS or QUIC. It knows neither other upstreams nor the health of its
// own: package upstream decides which upstream is asked, when, and how often.
//
// The life of a question:
//
//   - An Endpoint (endpoint.go) says where the upstream is, and over which protocol it is asked. New makes a Transport from it, which opens nothing yet.
//   - Transport.Exchange (transport.go) writes the question in the format that this upstream understands (with or without EDNS, in mixed or lower case; message.go),
//     and remembers for some time which features the upstream lacks.
//   - Over UDP (udp.go) each query has a socket of its own. An answer that is truncated or may be forged makes Exchange send the question over TCP.
//   - If an upstream echoes DNS cookies (cookie.go), each query over UDP with an OPT carries one, and an answer must echo it. Request.OfferCookie detects such upstreams.
//   - Over TCP and TLS many questions share a connection (stream.go, pipe.go). If the upstream closes a connection, the unanswered questions are sent again over
//     another connection. The number of questions that an upstream answers per connection is learned (bound.go).
//   - Over HTTPS (https.go) each question is a request, and over QUIC (quic.go) a stream. The certificate of an encrypted protocol is always verified, or its key
//     is pinned (secure.go). Queries are padded, so that their length does not reveal the name.
//   - Exchange returns a Reply, final or not, or an error of which KindOf says the kind (failure.go).
//   - Post (post.go) sends a batch of questions over an open connection, without a goroutine for each.
//
// Package upstream sends most questions over UDP itself, in batches, over sockets that many questions share. It writes them by AppendQuery, MixCase and Cookie, and reads
// the answers by JudgeDatagram, Read and Restore: the same rules apply as for a query of Exchange. If the answer does not settle such a question, Exchange receives the
// query that was sent as Request.Sent (request.go), and waits for its answer instead of sending another one.
package transport
