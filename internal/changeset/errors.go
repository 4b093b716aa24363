package changeset

import (
	"errors"
	"fmt"
	"time"

	"rempart/internal/journal"
	"rempart/internal/signing"
)

// Kind is the kind of failure of an Error. The API renders each kind as one HTTP status.
type Kind int

// The kinds.
const (
	Unavailable Kind = iota // an operation of the journal, a bucket or a disk failed; the cause is logged
	Damaged                 // the journal is damaged: nothing is published until it is repaired
	InProgress              // another call or another control is processing the change set
	NotFound                // no change set has the ID, or no appeal the number
	Conflict                // the state of the change set or the appeal does not allow the step, or another change set has its ID
	Forbidden               // the person or the keys may not take the step
	Invalid                 // the upload can be read, and a field of it is wrong
	Malformed               // the upload cannot be read
	TooLarge                // the upload holds more than is accepted
)

// Error is the type of all errors of the steps of a change set, and of those of an appeal.
type Error struct {
	Kind   Kind
	Field  string        // the field of the request that is wrong, "" for none
	Detail string        // a sentence for the caller
	After  time.Duration // time after which the caller should try again, 0 if unknown
	Err    error         // the cause; it may be nil, and is not shown to the caller
}

// Error returns the detail, and the cause of a failure for the log. The API shows the detail only.
func (e *Error) Error() string {
	if e.Kind == Unavailable && e.Err != nil {
		return e.Detail + ": " + e.Err.Error()
	}
	return e.Detail
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of an error, if it is an Error.
func KindOf(err error) (Kind, bool) {
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Kind, true
}

// Fail returns the error of a step that failed because of cause. what is a sentence about the step that was not done.
func Fail(what string, cause error) *Error {
	return &Error{Kind: Unavailable, Detail: what + "; try again", Err: cause}
}

// NewError returns an Error without a cause.
func NewError(kind Kind, field, detail string) *Error {
	return &Error{Kind: kind, Field: field, Detail: detail}
}

// errSpool wraps the reason why an upload could not be written to disk while it is read.
var errSpool = errors.New("the upload could not be written to disk")

// SpoolError wraps err as the error of a disk to which an upload could not be written.
func SpoolError(err error) error { return fmt.Errorf("%w: %w", errSpool, err) }

// IsSpoolError reports whether an error is from SpoolError.
func IsSpoolError(err error) bool { return errors.Is(err, errSpool) }

// errTooMany is the error of an upload that has too many changes.
var errTooMany = errors.New("too many changes")

// errID is the error of a text that is not a valid ID.
var errID = errors.New("invalid change set ID")

// lineError is an error that affects an upload as a whole, with the line at which it occurred.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// ReadError returns the error of reading an upload as an *Error.
func ReadError(err error) error {
	if _, ok := KindOf(err); ok || err == nil {
		return err
	}
	where, line := "body", (*lineError)(nil)
	if errors.As(err, &line) {
		where = fmt.Sprintf("body.line[%d]", line.line)
	}
	switch {
	case errors.Is(err, errSpool):
		return Fail("the upload was not stored", err)
	case errors.Is(err, errTooMany):
		return NewError(TooLarge, "body", err.Error())
	case errors.Is(err, errID):
		return NewError(Invalid, "id", err.Error())
	case errors.Is(err, signing.ErrSeal), errors.Is(err, journal.ErrChanges):
		return NewError(Invalid, where, err.Error())
	}
	return NewError(Malformed, where, Shorten(err.Error()))
}
