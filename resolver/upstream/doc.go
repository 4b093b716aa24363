// Package upstream exchanges questions with the resolvers Rempart forwards to: over UDP
// (TCP on truncation), TCP and TLS, with health learned from traffic, failover inside one
// client's patience, hedging, and a refusal of upstreams that lead back to this process.
//
// The life of a question:
//
//   - Pool.Exchange puts the upstreams in order: those that are well as configured, then those that are down. The
//     question becomes a race (race.go), and an upstream a lane of it.
//   - The race sends the question to the first. If nothing is heard for longer than is usual for it (health.go), or
//     the attempt fails, the question is sent to the next one, or to the same one again: packets get lost. The first
//     answer that settles the question ends the race; an error such as SERVFAIL only if no other upstream does better.
//   - Sending again is limited (budget.go). A failover to an upstream that is well is free. A repetition of a question
//     that is overdue is paid by the answers of that upstream, so that one that is dead is not flooded. What is sent
//     on mere suspicion shares a tenth of all questions.
//   - An attempt goes through the upstream's transport (transport.go). It puts the question in the form that this
//     upstream understands: with EDNS or without, in mixed case or lower case; over UDP (udp.go), and over TCP if the
//     answer is truncated or doubtful.
//   - Over TCP and TLS many questions share a connection (stream.go, pipe.go). What a connection left unanswered when
//     the upstream closed it is asked again over another; how many questions an upstream takes per connection is
//     learned (bound.go).
//   - What an attempt says of the upstream is noted (Pool.ask): an upstream from which nothing is heard goes down, and
//     receives questions only where no better one is left. Pool.Run probes it until it answers (probe.go), and finds loops (loop.go).
package upstream
