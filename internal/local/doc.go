// Package local is the socket by which the commands of a machine's owner ask the server that runs there: HTTP over a Unix socket that
// only the server's user and root can open. It cannot be reached over a network.
package local
