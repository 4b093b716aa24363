package appeal

// ErrorKind is why a step is refused.
type ErrorKind uint8

const (
	Invalid     ErrorKind = iota // a field is wrong
	NotFound                     // no appeal has this number or code
	Conflict                     // the step is not possible in the appeal's state
	Forbidden                    // another person must take the step
	Unavailable                  // the store cannot be read or written now
)

// Error is the refusal of a step.
type Error struct {
	Kind  ErrorKind
	Field string // of Invalid
	Why   string
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Why
	}
	return e.Field + ": " + e.Why
}
