// Package upstream sends questions to the resolvers to which Rempart forwards. It measures the health of each upstream from its answers, fails over to another
// upstream before the client gives up, hedges slow questions, and does not use upstreams that forward back to this process. The strategy of a pool
// (strategy.go) chooses the first upstream of a question among the healthy ones. A Switch replaces the pool when the upstreams change: the system's resolvers,
// or the addresses of a host name (hosts.go).
//
// The life of a question:
//
//   - Pool.Exchange orders the upstreams: first the healthy ones in the order of the strategy, then those that are down. The
//     question becomes a race (race.go), in which each upstream is a lane.
//   - The race sends the question to the first upstream. If the answer takes longer than usual (health.go), or
//     the attempt fails, the race sends the question to the next upstream, or again to the same one, because packets get
//     lost. The first answer that settles the question ends the race. An error such as SERVFAIL is returned only if no
//     other upstream returns a better answer.
//   - Repetitions are limited (budget.go). A failover to a healthy upstream is free. An upstream's answers earn
//     repetitions of overdue questions to that upstream, so that a dead upstream is not flooded. Hedges and other
//     repetitions are together limited to a tenth of all questions.
//   - Each attempt uses the upstream's transport, of package transport. An upstream over UDP is asked over TCP if its answer is truncated or may be forged.
//     Other upstreams are asked over a connection that many questions share.
//   - Pool.ask records the result of each attempt in the health of the upstream. An upstream that does not answer is
//     down: it receives questions only if no better one is left. Pool.Run probes it until it answers (probe.go), and
//     detects loops and support of DNS cookies (loop.go).
//   - If an attempt fails because this machine lacks descriptors, memory or ports (shortage.go), the health of the upstream does not change. The question
//     waits, and is sent again a few times.
//
// Most questions take a shorter way, without goroutines of their own:
//
//   - Sender.Send takes a batch of questions from one worker (sender.go), and sends it to one healthy upstream.
//   - An upstream over UDP receives the batch from a port: one of a few sockets that the worker shares among its questions (line_linux.go, port_linux.go).
//     Each question is then in the table of its port (table_linux.go), under its ID.
//   - An upstream over TCP or TLS receives the batch over an open connection of its transport that has room (link_linux.go).
//   - Send returns the questions that must be asked by Exchange: if no upstream is healthy, if no connection has room, if the upstream is asked over HTTPS or
//     QUIC or needs another format of queries, and on systems other than Linux.
//   - The goroutine that reads the port or the connection matches each answer with its question: ID, name in the same case, type, class and cookie. An answer
//     that settles its question ends the question. The receiver of the Sender is called once for all questions that one batch of datagrams ends.
//   - A question becomes a race if its answer does not settle it, or is later than usual. The first attempt of the race is the query that was
//     sent already. If there is no room for another race, an unanswered question keeps waiting for its answer until its time ends; a
//     question whose answer does not settle it ends with ErrBusy.
package upstream
