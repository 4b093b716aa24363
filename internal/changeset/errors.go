package changeset

import (
	"errors"
	"fmt"
	"time"

	"rempart/internal/journal"
)

// Kind says which kind of failure an Error is. The API renders each kind as one HTTP status.
type Kind int

// The kinds.
const (
	Unavailable Kind = iota // the journal, a bucket or a disk did not do its part; the cause is logged
	Damaged                 // the journal is damaged: nothing is published until it is repaired
	InProgress              // another call or another control is processing the change set
	NotFound                // no change set has the ID
	Conflict                // the state of the change set does not allow the step, or another change set has its ID
	Forbidden               // the person or the keys may not take the step
	Invalid                 // the upload can be read, and a field of it is wrong
	Malformed               // the upload cannot be read
	TooLarge                // the upload holds more than is accepted
)

// Error is the one error type by which steps of a change set fail.
type Error struct {
	Kind   Kind
	Field  string        // the field of the request that is wrong, "" for none
	Detail string        // a sentence for the caller
	After  time.Duration // after which to try again, 0 if not known
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

// kindOf returns the kind of an error, if it is an Error.
func kindOf(err error) (Kind, bool) {
	e := (*Error)(nil)
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Kind, true
}

// Fail returns the error of a step that failed because of cause. what says, as a sentence, what was not done.
func Fail(what string, cause error) *Error {
	return &Error{Kind: Unavailable, Detail: what + "; try again", Err: cause}
}

// refuse returns an Error without a cause.
func refuse(kind Kind, field, detail string) *Error {
	return &Error{Kind: kind, Field: field, Detail: detail}
}

// errSpool wraps the reason why an upload could not be written to disk while it is read.
var errSpool = errors.New("the upload could not be written to disk")

// SpoolError returns err as the error of a disk that could not take an upload.
func SpoolError(err error) error { return fmt.Errorf("%w: %w", errSpool, err) }

// IsSpoolError reports whether an error is from SpoolError.
func IsSpoolError(err error) bool { return errors.Is(err, errSpool) }

// errTooMany ends the reading of an upload that has too many changes.
var errTooMany = errors.New("too many changes")

// errID says that a text is not an acceptable ID.
var errID = errors.New("not the id of a change set")

// lineError is an error that affects an upload as a whole, with the line at which it occurred.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// ReadError returns the error of reading an upload as an *Error.
func ReadError(err error) error {
	if _, ok := kindOf(err); ok || err == nil {
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
		return refuse(TooLarge, "body", err.Error())
	case errors.Is(err, errID):
		return refuse(Invalid, "id", err.Error())
	case errors.Is(err, journal.ErrSeal), errors.Is(err, journal.ErrChanges):
		return refuse(Invalid, where, err.Error())
	}
	return refuse(Malformed, where, Shorten(err.Error()))
}
