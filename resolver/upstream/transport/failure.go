package transport

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
)

// Failure is the kind of failure of an attempt at an upstream.
type Failure uint8

// The kinds of failure. KindOf returns all except Rcode.
const (
	Timeout     Failure = iota // no answer in time
	Unreachable                // the network or the host refused, or closed the connection
	Untrusted                  // the TLS handshake failed, for example because the certificate is not valid for the upstream
	Malformed                  // the upstream sent a message that is no valid answer
	Overload                   // too many questions are in flight to the upstream
	Local                      // this machine lacks a descriptor, memory or a port for the attempt: the upstream is not at fault
	Rcode                      // the upstream answered with an error: SERVFAIL, REFUSED and the like
	Failures                   // the number of kinds
)

// String returns the name of the kind in metrics.
func (f Failure) String() string {
	return [...]string{"timeout", "unreachable", "untrusted", "malformed", "overload", "local", "rcode"}[f]
}

// KindOf returns the kind of an error of Transport.Exchange.
func KindOf(err error) Failure {
	switch {
	case errors.Is(err, errFull):
		return Overload
	case IsShortage(err):
		return Local
	case errors.Is(err, errMalformed):
		return Malformed
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, errHandshake):
		return Untrusted
	}
	return Unreachable
}

// shortages are the errors of system calls on a machine that lacks a descriptor (EMFILE, ENFILE), memory or room in a buffer (ENOBUFS, ENOMEM), a local
// port or room in the buffer of a socket (EAGAIN). EADDRNOTAVAIL is not one of them: a machine without an IPv6 address returns it for every upstream over IPv6.
var shortages = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN}

// IsShortage reports whether err is caused by a lack of descriptors, memory, ports or room in a buffer on this machine.
func IsShortage(err error) bool {
	return slices.ContainsFunc(shortages, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}
