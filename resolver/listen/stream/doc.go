// Package stream serves DNS over connections: TCP (RFC 7766), TLS (RFC 7858), HTTPS (RFC 8484, over HTTP/2 and HTTP/3) and QUIC (RFC 9250). It frames messages, bounds
// what clients can make the server hold, and calls a Handler with batches of queries.
package stream
