package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// MaxChanges is the largest number of changes in one record. A larger change set is published as a snapshot.
	MaxChanges = 5000
	// MaxChangeSet is the largest size of a change set in a record, in bytes.
	MaxChangeSet = 2 << 20
	// MaxLine is the largest length of the line of one change, in bytes.
	MaxLine = 8 << 10
	// MaxAge is how long after its creation a change set may be published.
	MaxAge = 7 * 24 * time.Hour

	// MaxSources is the largest number of sources of a change set.
	MaxSources = 1000
)

// ErrChanges is wrapped by every error that refuses a change set.
var ErrChanges = errors.New("invalid change set")

// ChangeSet is the first line of the bytes that an author signs. One line per change follows.
type ChangeSet struct {
	ID      string       `json:"id"`                // unique: a change set is published once per ID
	Time    int64        `json:"time"`              // of creation, Unix seconds
	Expires int64        `json:"expires,omitempty"` // Unix seconds from which the change set must not be published; 0: MaxAge after Time
	Comment string       `json:"comment,omitempty"`
	Stage   *Stage       `json:"stage,omitempty"`
	Sources []ListSource `json:"sources,omitempty"` // lists only: the sources that changes name in Change.Source
}

// Stage limits a change set to a share of the nodes at first.
type Stage struct {
	Share   float64 `json:"share"`   // of the nodes, between 0 and 1
	Seconds int64   `json:"seconds"` // after which the change set is advanced to all nodes
}

// ListSource describes a list whose listings a change set makes or withdraws.
type ListSource struct {
	Name    string `json:"name"`
	Fetched int64  `json:"fetched,omitempty"` // Unix seconds
	Weight  int    `json:"weight,omitempty"`
	Quorum  int    `json:"quorum,omitempty"`
}

// ParseChangeSet reads the first line of an encoded change set. Unknown fields are an error.
func ParseChangeSet(line []byte) (*ChangeSet, error) {
	var s ChangeSet
	if err := decodeStrict(line, &s); err != nil {
		return nil, fmt.Errorf("%w: first line: %w", ErrChanges, err)
	}
	switch {
	case s.ID == "" || len(s.ID) > 100 || !isPrintable(s.ID):
		return nil, fmt.Errorf("%w: id: 1 to 100 printable ASCII characters", ErrChanges)
	case s.Time <= 0:
		return nil, fmt.Errorf("%w: time: must be the time of creation in Unix seconds", ErrChanges)
	case s.Stage != nil && (!(s.Stage.Share > 0 && s.Stage.Share < 1) || s.Stage.Seconds < 1 || s.Stage.Seconds > 30*24*3600):
		return nil, fmt.Errorf("%w: stage: a share between 0 and 1, and 1 second to 30 days", ErrChanges)
	case len(s.Comment) > 1000 || len(s.Sources) > MaxSources:
		return nil, fmt.Errorf("%w: comment or sources: too long", ErrChanges)
	}
	return &s, nil
}

// Deadline returns the time from which the change set must not be published, in Unix seconds.
func (s *ChangeSet) Deadline() int64 {
	latest := s.Time + int64(MaxAge/time.Second)
	if s.Expires > 0 && s.Expires < latest {
		return s.Expires
	}
	return latest
}

// maxClockSkew is by how many seconds an author's clock may be ahead of control's clock.
const maxClockSkew = 300

// CheckPublishable returns an error if the change set must not be published at that time (Unix seconds).
func (s *ChangeSet) CheckPublishable(at int64) error {
	switch {
	case s.Time > at+maxClockSkew:
		return fmt.Errorf("%w: time: %d s in the future: correct the author's clock", ErrChanges, s.Time-at)
	case at >= s.Deadline():
		return fmt.Errorf("%w: the change set expired at %s: create it again", ErrChanges, time.Unix(s.Deadline(), 0).UTC().Format(time.RFC3339))
	}
	return nil
}

// Encode returns the bytes that an author signs.
func Encode(s *ChangeSet, changes []Change) ([]byte, error) {
	var b bytes.Buffer
	if err := EncodeTo(&b, s, slices.Values(changes)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// EncodeTo writes the bytes that an author signs to w, change by change.
func EncodeTo(w io.Writer, s *ChangeSet, changes func(yield func(Change) bool)) error {
	enc := json.NewEncoder(w) // writes a line end after each value
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return err
	}
	for c := range changes {
		if err := enc.Encode(&c); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads the bytes that Encode returns. It refuses more than MaxChanges changes.
func Decode(payload []byte) (*ChangeSet, []Change, error) {
	if len(payload) > MaxChangeSet {
		return nil, nil, fmt.Errorf("%w: longer than %d bytes", ErrChanges, MaxChangeSet)
	}
	first, rest, ok := bytes.Cut(payload, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("%w: the first line is missing", ErrChanges)
	}
	s, err := ParseChangeSet(first)
	if err != nil {
		return nil, nil, err
	}
	var changes []Change
	for len(rest) > 0 {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, nil, fmt.Errorf("%w: the last line does not end with a line feed", ErrChanges)
		}
		if len(changes) == MaxChanges {
			return nil, nil, fmt.Errorf("%w: more than %d changes", ErrChanges, MaxChanges)
		}
		c, err := ParseChange(line)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: change %d: %w", ErrChanges, len(changes)+1, err)
		}
		changes, rest = append(changes, c), after
	}
	return s, changes, nil
}

// decodeStrict decodes one JSON value into a struct. Unknown fields are an error.
func decodeStrict(line []byte, into any) error {
	if !isBounded(line) {
		return errors.New("a JSON array or object is too long or nested too deeply")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("not valid JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value in a line")
	}
	return nil
}

func isPrintable(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c <= ' ' || c > '~' })
}
