package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"rempart/blocklist"
)

const (
	// MaxChanges is how many changes one record holds; more travel as a snapshot.
	MaxChanges = 5000
	// MaxSet is how many octets a change set has in a record.
	MaxChangeSet = 2 << 20
	// MaxLine is how long the line of one change may be.
	MaxLine = 8 << 10
	// MaxAge is how long after an author made a change set it may be published.
	MaxAge = 7 * 24 * time.Hour

	maxSources = 1000
)

// ErrChanges is what wraps the refusal of a change set.
var ErrChanges = errors.New("not a sound change set")

// Set is what is said once of a change set: the first line of the octets an author signs. A line each change follows.
type ChangeSet struct {
	ID      string       `json:"id"`                // unique: pushed again, nothing happens again
	Time    int64        `json:"time"`              // Unix seconds at which it was made
	Expires int64        `json:"expires,omitempty"` // Unix seconds from which it must not be published any more; 0: MaxAge after Time
	Comment string       `json:"comment,omitempty"`
	Stage   *Stage       `json:"stage,omitempty"`
	Sources []ListSource `json:"sources,omitempty"` // of lists: what Change.Source speaks of
}

// Stage has a change set go to a share of the nodes first.
type Stage struct {
	Share   float64 `json:"share"`   // of the nodes, above 0, below 1
	Seconds int64   `json:"seconds"` // after which it goes on by itself
}

// List is one whose listings a change set of lists brings.
type ListSource struct {
	Name    string `json:"name"`
	Fetched int64  `json:"fetched,omitempty"` // Unix seconds
	Weight  int    `json:"weight,omitempty"`
	Quorum  int    `json:"quorum,omitempty"`
}

// Change is one act about one name.
type Change struct {
	Do        Act      `json:"do"`
	Name      string   `json:"name,omitempty"`     // ASCII, canonical
	Prefix    string   `json:"prefix,omitempty"`   // of lists only, instead of a name
	Scope     string   `json:"scope,omitempty"`    // "exact", "subtree" (also ""), "below"; of a withdrawal, "" is whatever there is
	Category  string   `json:"category,omitempty"` // "" is malicious
	Mark      string   `json:"mark,omitempty"`     // "blocked" (also ""), "censored", "filtered"
	Reason    string   `json:"reason,omitempty"`
	Authority string   `json:"authority,omitempty"`
	Decision  string   `json:"decision,omitempty"`  // its number with the authority
	Start     int64    `json:"start,omitempty"`     // Unix seconds; 0 is at once
	Expiry    int64    `json:"expiry,omitempty"`    // Unix seconds; 0 is never
	Countries []string `json:"countries,omitempty"` // where it counts; empty: everywhere
	Operators []string `json:"operators,omitempty"` // with whom; empty: with all
	Source    string   `json:"source,omitempty"`    // of lists only: which one says so
	Was       Act      `json:"was,omitempty"`       // of lists' withdrawals: what is withdrawn, exactly
	Since     int64    `json:"since,omitempty"`     // of lists only
}

// Act is what a change does.
type Act string

// The acts. Except is of lists only: a list's own exception.
const (
	Block    Act = "block"
	Allow    Act = "allow"
	Withdraw Act = "withdraw"
	Except   Act = "except"
)

// Operator is the source of what operators push, as entries name it.
const Operator = "operator"

// ParseSet reads the first line.
func ParseChangeSet(line []byte) (*ChangeSet, error) {
	var s ChangeSet
	if err := decodeStrict(line, &s); err != nil {
		return nil, fmt.Errorf("%w: its first line: %w", ErrChanges, err)
	}
	switch {
	case s.ID == "" || len(s.ID) > 100 || !isPrintable(s.ID):
		return nil, fmt.Errorf("%w: id: 1 to 100 printable ASCII characters", ErrChanges)
	case s.Time <= 0:
		return nil, fmt.Errorf("%w: time: when it was made, in Unix seconds", ErrChanges)
	case s.Stage != nil && (!(s.Stage.Share > 0 && s.Stage.Share < 1) || s.Stage.Seconds < 1 || s.Stage.Seconds > 30*24*3600):
		return nil, fmt.Errorf("%w: stage: a share between 0 and 1, and 1 second to 30 days", ErrChanges)
	case len(s.Comment) > 1000 || len(s.Sources) > maxSources:
		return nil, fmt.Errorf("%w: comment or sources: too long", ErrChanges)
	}
	return &s, nil
}

// End is when it may not be published any more, in Unix seconds.
func (s *ChangeSet) Deadline() int64 {
	latest := s.Time + int64(MaxAge/time.Second)
	if s.Expires > 0 && s.Expires < latest {
		return s.Expires
	}
	return latest
}

// clockSkew is by how much an author's clock may be ahead of control's.
const maxClockSkew = 300

// Publishable says why it may not be published at that time (Unix seconds).
func (s *ChangeSet) CheckPublishable(at int64) error {
	switch {
	case s.Time > at+maxClockSkew:
		return fmt.Errorf("%w: time: it was made %d s from now: set the author's clock right", ErrChanges, s.Time-at)
	case at >= s.Deadline():
		return fmt.Errorf("%w: it expired at %s: make it again", ErrChanges, time.Unix(s.Deadline(), 0).UTC().Format(time.RFC3339))
	}
	return nil
}

// ParseChange reads one line, strictly: what it does not understand is an error, never passed over.
func ParseChange(line []byte) (Change, error) {
	var c Change
	if len(line) > MaxLine {
		return c, fmt.Errorf("longer than %d octets", MaxLine)
	}
	if err := decodeStrict(line, &c); err != nil {
		return c, err
	}
	_, err := c.listing()
	return c, err
}

// Field is the error of one field of a change.
type FieldError struct{ Name, Why string }

func (f *FieldError) Error() string { return f.Name + ": " + f.Why }

// Listing is what the change says of its name, Withdraw's as a block. Its error is a *Field.
func (c *Change) Listing() (blocklist.Listing, error) { return c.listing() }

func (c *Change) listing() (l blocklist.Listing, err error) {
	field := func(name, why string) (blocklist.Listing, error) { return l, &FieldError{name, why} }
	act := c.Do
	if act == Withdraw && c.Was != "" {
		act = c.Was
	}
	switch act {
	case Block, Withdraw:
		l.Decision = blocklist.Block
	case Allow:
		l.Decision = blocklist.Allow
	case Except:
		l.Decision = blocklist.Except
	default:
		return field("do", `one of "block", "allow" and "withdraw"`)
	}
	if c.Source == "" && (c.Prefix != "" || c.Was != "" || c.Since != 0 || c.Do == Except) {
		return field("do", "prefix, was, since and except are for lists: name a name to block, allow or withdraw")
	}
	if c.Prefix != "" {
		if l.Prefix, err = netip.ParsePrefix(c.Prefix); err != nil {
			return field("prefix", err.Error())
		}
	} else if l.Name, err = blocklist.AppendName(nil, c.Name); err != nil {
		return field("name", err.Error())
	} else if len(l.Name) == 1 {
		return field("name", "empty: name the name")
	}
	l.Scope = blocklist.Subtree
	if c.Scope != "" {
		ok := false
		if l.Scope, ok = blocklist.ParseScope(c.Scope); !ok {
			return field("scope", `"exact", "subtree" or "below"`)
		}
	}
	if c.Category != "" {
		ok := false
		if l.Category, ok = blocklist.ParseCategory(c.Category); !ok {
			return field("category", "malicious, malware, phishing, scam, botnet or stalkerware")
		}
	}
	mark := slices.Index(markTexts[:], c.Mark)
	if c.Mark != "" && mark < 0 {
		return field("mark", `"blocked", "censored" or "filtered"`)
	}
	l.Mark = blocklist.Mark(max(0, mark))
	l.Start, l.Expiry, l.ID, l.Since = c.Start, c.Expiry, c.Decision, c.Since
	switch {
	case c.Start < 0 || c.Expiry < 0 || c.Expiry != 0 && c.Expiry <= c.Start:
		return field("expiry", "Unix seconds, expiry after start")
	case len(c.Decision) > 100:
		return field("decision", "at most 100 octets")
	case len(c.Reason) > 1000:
		return field("reason", "at most 1000 octets")
	case len(c.Authority) > 200:
		return field("authority", "at most 200 octets")
	case c.Do == Withdraw && !c.AppliesEverywhere():
		return field("countries", "a withdrawal counts everywhere: take countries and operators out")
	case len(c.Countries) > 300:
		return field("countries", "at most 300")
	case len(c.Operators) > 100:
		return field("operators", "at most 100")
	}
	return l, nil
}

var markTexts = [...]string{blocklist.Blocked: "blocked", blocklist.Censored: "censored", blocklist.Filtered: "filtered"}

// MarkText is a mark as a change writes it.
func MarkText(m blocklist.Mark) string { return markTexts[min(int(m), len(markTexts)-1)] }

// For reports whether the change counts for a node there.
func (c *Change) AppliesTo(country, operator string) bool {
	return (len(c.Countries) == 0 || slices.Contains(c.Countries, country)) &&
		(len(c.Operators) == 0 || slices.Contains(c.Operators, operator))
}

// Everywhere reports whether it counts for every node.
func (c *Change) AppliesEverywhere() bool { return len(c.Countries) == 0 && len(c.Operators) == 0 }

// Encode is the octets to be signed.
func Encode(s *ChangeSet, changes []Change) ([]byte, error) {
	var b bytes.Buffer
	if err := EncodeTo(&b, s, slices.Values(changes)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// EncodeTo writes the same as it goes.
func EncodeTo(w io.Writer, s *ChangeSet, changes func(yield func(Change) bool)) error {
	enc := json.NewEncoder(w) // ends each value with a line end
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

// Decode reads what Encode wrote, all of it, of at most MaxChanges.
func Decode(payload []byte) (*ChangeSet, []Change, error) {
	if len(payload) > MaxChangeSet {
		return nil, nil, fmt.Errorf("%w: longer than %d octets", ErrChanges, MaxChangeSet)
	}
	first, rest, ok := bytes.Cut(payload, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("%w: it has no line of its own", ErrChanges)
	}
	s, err := ParseChangeSet(first)
	if err != nil {
		return nil, nil, err
	}
	var changes []Change
	for len(rest) > 0 {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, nil, fmt.Errorf("%w: its last line does not end", ErrChanges)
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

// strict decodes one JSON value that has no field we do not know.
func decodeStrict(line []byte, into any) error {
	if !isBounded(line) {
		return errors.New("too long or too deep a list in it")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("not the JSON of one: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value in a line")
	}
	return nil
}

func isPrintable(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c <= ' ' || c > '~' })
}
