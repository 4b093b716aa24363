// Package upstream sends questions to the resolvers to which Rempart forwards, over UDP (and TCP
// after truncation), TCP or TLS. It measures the health of each upstream from its answers, fails
// over to another upstream before the client gives up, hedges slow questions, and does not use
// upstreams that forward back to this process.
//
// The life of a question:
//
//   - Pool.Exchange orders the upstreams: first the healthy ones as configured, then those that are down. The
//     question becomes a race (race.go), in which each upstream is a lane.
//   - The race sends the question to the first upstream. If the answer takes longer than usual (health.go), or
//     the attempt fails, the race sends the question to the next upstream, or again to the same one, because packets get
//     lost. The first answer that settles the question ends the race. An error such as SERVFAIL is returned only if no
//     other upstream returns a better answer.
//   - Repetitions are limited (budget.go). A failover to a healthy upstream is free. An upstream's answers earn
//     repetitions of overdue questions to that upstream, so that a dead upstream is not flooded. Hedges and other
//     repetitions are together limited to a tenth of all questions.
//   - Each attempt uses the upstream's transport (transport.go). The transport writes the question in the format that this
//     upstream understands (with or without EDNS, in mixed or lower case) and sends it over UDP (udp.go), then over
//     TCP if the answer is truncated or may be forged.
//   - Over TCP and TLS many questions share a connection (stream.go, pipe.go). If the upstream closes a connection,
//     the unanswered questions are sent again over another connection. The pool learns how many questions an upstream
//     answers per connection (bound.go).
//   - Pool.ask records the result of each attempt in the health of the upstream. An upstream that does not answer is
//     down: it receives questions only if no better one is left. Pool.Run probes it until it answers (probe.go), and
//     detects loops (loop.go).
package upstream
