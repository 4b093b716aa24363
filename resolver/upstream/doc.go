// Package upstream exchanges questions with the resolvers Rempart forwards to: over UDP
// (TCP on truncation), TCP and TLS, with health learned from traffic, failover inside one
// client's patience, hedging, and a refusal of upstreams that lead back to this process.
//
// The life of a question:
//
//   - Pool.Exchange puts the upstreams in order: those that are well as configured, then those that are down. The
//     question becomes a race (race.go), and an upstream a lane of it.
//   - The race sends the question to the first upstream. If its answer takes longer than usual (health.go), or
//     the attempt fails, the question is sent to the next one, or to the same one again: packets get lost. The first
//     answer that settles the question ends the race; an error such as SERVFAIL only if no other upstream does better.
//   - Sending again is limited (budget.go). A failover to an upstream that is well is free. The budget for
//     repeating an overdue question grows with the answers of that upstream, so that a dead upstream is not flooded.
//     Questions that are sent on mere suspicion are limited to a tenth of all questions.
//   - An attempt goes through the upstream's transport (transport.go). It puts the question in the form that this
//     upstream understands: with EDNS or without, in mixed case or lower case; over UDP (udp.go), and over TCP if the
//     answer is truncated or doubtful.
//   - Over TCP and TLS many questions share a connection (stream.go, pipe.go). Questions that were unanswered
//     when the upstream closed their connection are asked again over another one. The number of questions that an
//     upstream takes per connection is learned (bound.go).
//   - The result of each attempt is recorded for its upstream (Pool.ask): an upstream that does not answer is down, and
//     receives questions only if no better one is left. Pool.Run probes it until it answers (probe.go), and finds loops (loop.go).
package upstream
