// Package listen receives queries and sends answers: sockets and framing, nothing else.
// UDP has one worker per core, each with its own socket (SO_REUSEPORT), buffers and batch of queries. On Linux a batch is received and sent with one system
// call each; elsewhere a batch is one query. Streams differ in framing and pass shorter batches. Queries that take longer are copied to a bounded pool that all
//
// listeners share.
package listen
