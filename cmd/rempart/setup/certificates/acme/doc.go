// Package acme gets certificates from an authority by ACME (RFC 8555) and renews them. certmagic stores and renews the certificates, acmez speaks the protocol.
// The package opens no socket for challenges: the program's own listeners answer them.
package acme
