package transport

import (
	"context"
	"errors"
	"os"
)

// Failure is the kind of failure of an attempt at an upstream.
type Failure uint8

// The kinds of failure. KindOf returns all except Rcode.
const (
	Timeout     Failure = iota // no answer in time
	Unreachable                // the network or the host refused, or closed the connection
	Untrusted                  // TLS could not be agreed on, or the certificate is not the one expected
	Malformed                  // it answered something that is no sound answer
	Overload                   // too much is in flight to it already
	Rcode                      // it answered with an error of its own: SERVFAIL, REFUSED and the like
	Failures                   // the number of kinds
)

// String returns the name of the kind in metrics.
func (f Failure) String() string {
	return [...]string{"timeout", "unreachable", "untrusted", "malformed", "overload", "rcode"}[f]
}

// KindOf sorts an error of Transport.Exchange.
func KindOf(err error) Failure {
	switch {
	case errors.Is(err, errFull):
		return Overload
	case errors.Is(err, errMalformed):
		return Malformed
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout
	case errors.Is(err, errHandshake):
		return Untrusted
	}
	return Unreachable
}
