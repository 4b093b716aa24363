// Package listen receives queries and sends answers: sockets and framing, nothing else.
//
// UDP has a worker a core, each with a socket of its own (SO_REUSEPORT), its buffers and its batch of
// queries. On Linux a batch is received and sent with one system call each; elsewhere a batch is one query.
// Streams differ in framing and pass shorter batches. Queries that take longer go, copied, to a
// bounded pool that all listeners share.
package listen
