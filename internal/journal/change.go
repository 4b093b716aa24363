package journal

import (
	"fmt"
	"net/netip"
	"slices"

	"rempart/blocklist"
)

// Change is one block, allow or withdrawal of one name.
type Change struct {
	Do        Act      `json:"do"`
	Name      string   `json:"name,omitempty"`     // ASCII, in canonical form
	Prefix    string   `json:"prefix,omitempty"`   // lists only, instead of a name
	Scope     string   `json:"scope,omitempty"`    // "exact", "subtree" or "below"; "" is "subtree", and in a withdrawal all scopes
	Category  string   `json:"category,omitempty"` // "" is malicious
	Mark      string   `json:"mark,omitempty"`     // "blocked", "censored" or "filtered"; "" is "blocked"
	Reason    string   `json:"reason,omitempty"`
	Authority string   `json:"authority,omitempty"`
	Decision  string   `json:"decision,omitempty"`  // the authority's reference of the decision
	Start     int64    `json:"start,omitempty"`     // Unix seconds; 0: in effect at once
	Expiry    int64    `json:"expiry,omitempty"`    // Unix seconds; 0: no expiry
	Countries []string `json:"countries,omitempty"` // in which the change applies; empty: all
	Operators []string `json:"operators,omitempty"` // whose nodes the change applies to; empty: all
	Source    string   `json:"source,omitempty"`    // lists only: name of the list
	Was       Act      `json:"was,omitempty"`       // lists' withdrawals only: the act that is withdrawn
	Since     int64    `json:"since,omitempty"`     // lists only: date of the first listing, Unix seconds
}

// Act is the kind of a change.
type Act string

// The acts. Except is a list's own exception.
const (
	Block    Act = "block"
	Allow    Act = "allow"
	Withdraw Act = "withdraw"
	Except   Act = "except"
)

// Operator is the name of the source of all operators' changes in a view.
const Operator = "operator"

// ParseChange reads one line. Unknown fields are an error.
func ParseChange(line []byte) (Change, error) {
	var c Change
	if len(line) > MaxLine {
		return c, fmt.Errorf("longer than %d bytes", MaxLine)
	}
	if err := decodeStrict(line, &c); err != nil {
		return c, err
	}
	_, err := c.Listing()
	return c, err
}

// FieldError is the error of one field of a change.
type FieldError struct{ Name, Why string }

func (f *FieldError) Error() string { return f.Name + ": " + f.Why }

// Listing returns the listing that the change makes or withdraws. A withdrawal without Was is returned as a block. An error is a *FieldError.
func (c *Change) Listing() (blocklist.Listing, error) {
	l := blocklist.Listing{Scope: blocklist.Subtree, Start: c.Start, Expiry: c.Expiry, ID: c.Decision, Since: c.Since}
	if err := c.parseAct(&l); err != nil {
		return blocklist.Listing{}, err
	}
	if err := c.parseSubject(&l); err != nil {
		return blocklist.Listing{}, err
	}
	if err := c.parseAttributes(&l); err != nil {
		return blocklist.Listing{}, err
	}
	if err := c.checkBounds(); err != nil {
		return blocklist.Listing{}, err
	}
	return l, nil
}

// parseAct sets the decision of l.
func (c *Change) parseAct(l *blocklist.Listing) error {
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
		return &FieldError{"do", `one of "block", "allow" and "withdraw"`}
	}
	if c.Source == "" && (c.Prefix != "" || c.Was != "" || c.Since != 0 || c.Do == Except) {
		return &FieldError{"do", "prefix, was, since and except are for lists: give a name to block, allow or withdraw"}
	}
	return nil
}

// parseSubject sets the name or the address prefix of l.
func (c *Change) parseSubject(l *blocklist.Listing) (err error) {
	if c.Prefix != "" {
		if l.Prefix, err = netip.ParsePrefix(c.Prefix); err != nil {
			return &FieldError{"prefix", err.Error()}
		}
		return nil
	}
	if l.Name, err = blocklist.AppendName(nil, c.Name); err != nil {
		return &FieldError{"name", err.Error()}
	}
	if len(l.Name) == 1 {
		return &FieldError{"name", "empty: give a domain name"}
	}
	return nil
}

// parseAttributes sets the scope, the category and the mark of l.
func (c *Change) parseAttributes(l *blocklist.Listing) error {
	ok := true
	if c.Scope != "" {
		if l.Scope, ok = blocklist.ParseScope(c.Scope); !ok {
			return &FieldError{"scope", `"exact", "subtree" or "below"`}
		}
	}
	if c.Category != "" {
		if l.Category, ok = blocklist.ParseCategory(c.Category); !ok {
			return &FieldError{"category", "unknown category; use malicious, malware, phishing, scam, botnet or stalkerware"}
		}
	}
	mark := slices.Index(markTexts[:], c.Mark)
	if c.Mark != "" && mark < 0 {
		return &FieldError{"mark", `"blocked", "censored" or "filtered"`}
	}
	l.Mark = blocklist.Mark(max(0, mark))
	return nil
}

// checkBounds returns an error if a field is too long or contradicts another field.
func (c *Change) checkBounds() error {
	switch {
	case c.Start < 0 || c.Expiry < 0 || c.Expiry != 0 && c.Expiry <= c.Start:
		return &FieldError{"expiry", "Unix seconds, expiry after start"}
	case len(c.Decision) > 100:
		return &FieldError{"decision", "at most 100 bytes"}
	case len(c.Reason) > 1000:
		return &FieldError{"reason", "at most 1000 bytes"}
	case len(c.Authority) > 200:
		return &FieldError{"authority", "at most 200 bytes"}
	case c.Do == Withdraw && !c.AppliesEverywhere():
		return &FieldError{"countries", "a withdrawal applies everywhere: remove countries and operators"}
	case len(c.Countries) > 300:
		return &FieldError{"countries", "at most 300"}
	case len(c.Operators) > 100:
		return &FieldError{"operators", "at most 100"}
	}
	return nil
}

var markTexts = [...]string{blocklist.Blocked: "blocked", blocklist.Censored: "censored", blocklist.Filtered: "filtered"}

// MarkText returns the text of a mark in a change.
func MarkText(m blocklist.Mark) string { return markTexts[min(int(m), len(markTexts)-1)] }

// AppliesTo reports whether the change applies to a node of that country and operator.
func (c *Change) AppliesTo(country, operator string) bool {
	return (len(c.Countries) == 0 || slices.Contains(c.Countries, country)) &&
		(len(c.Operators) == 0 || slices.Contains(c.Operators, operator))
}

// AppliesEverywhere reports whether the change applies to all nodes.
func (c *Change) AppliesEverywhere() bool { return len(c.Countries) == 0 && len(c.Operators) == 0 }
