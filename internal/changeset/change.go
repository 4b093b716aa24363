package changeset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
)

// Change is a change in the format of uploads: its name may be in any script, and dates are in the format of RFC 3339.
type Change struct {
	Do        journal.Act `json:"do,omitempty" enum:"block,allow,withdraw" default:"block" doc:"The action. Withdraw removes the operators' earlier block or allow of the name."`
	Name      string      `json:"name" doc:"The name, in ASCII or Unicode, or as lists write names: a[.]example, *.a.example, hxxps://a.example/ (which applies to that host only)." example:"login.bank.example"`
	Scope     string      `json:"scope,omitempty" enum:"exact,subtree,below" doc:"The names to which the change applies: the name itself (exact), the name and all names below it (subtree), or only the names below it (below). If absent, the way the name is written decides, in most cases subtree; a withdrawal then applies to every scope."`
	Category  string      `json:"category,omitempty" enum:"malicious,malware,phishing,scam,botnet,stalkerware" doc:"The category of the threat. If absent, the category malicious."`
	Reason    string      `json:"reason,omitempty" maxLength:"1000" doc:"The reason for the change."`
	Authority string      `json:"authority,omitempty" maxLength:"200" doc:"The authority that decided."`
	Decision  string      `json:"decision,omitempty" maxLength:"100" doc:"The number that the authority gave its decision."`
	Mark      string      `json:"mark,omitempty" enum:"blocked,censored,filtered" doc:"The legal ground: blocked by the operator's own decision (the default), censored by an external order, filtered because the subscriber requested it."`
	Start     *time.Time  `json:"start,omitempty" doc:"The time from which on the change is in effect. If absent, the change is in effect at once."`
	Expiry    *time.Time  `json:"expiry,omitempty" doc:"The time until which the change is in effect. If absent, the change does not expire."`
	Countries []string    `json:"countries,omitempty" doc:"The countries whose servers apply the change. If absent, all servers apply it."`
	Operators []string    `json:"operators,omitempty" doc:"The operators whose servers apply the change. If absent, those of all operators apply it."`
}

// Grammar reads names in the notations that people and lists use.
type Grammar interface {
	// Indicator returns the canonical wire form of a host, and the scope that the text implies. Its error is a sentence with the reason
	// why the text is not a name.
	Indicator(text string) (name []byte, scope blocklist.Scope, err error)
	// IsNameColumn reports whether a table's column with this title holds names.
	IsNameColumn(title string) bool
}

// Canonical returns the change in the format that an author signs. Its error is a *journal.Field. If the error is about the name, the
// returned change has the name as it was written.
func (c *Change) Canonical(g Grammar) (journal.Change, error) {
	out, err := c.canonical(g)
	if out.Name == "" {
		out.Name = c.Name
	}
	return out, err
}

func (c *Change) canonical(g Grammar) (journal.Change, error) {
	out := journal.Change{
		Do: c.Do, Scope: c.Scope, Category: c.Category, Reason: c.Reason, Authority: c.Authority, Decision: c.Decision, Mark: c.Mark,
		Countries: c.Countries, Operators: c.Operators,
	}
	if out.Do == "" {
		out.Do = journal.Block
	}
	for i, code := range out.Countries {
		if i == 0 {
			out.Countries = slices.Clone(out.Countries)
		}
		out.Countries[i] = strings.ToUpper(code)
	}
	wire, scope, err := g.Indicator(c.Name)
	if err != nil {
		return out, &journal.FieldError{Name: "name", Why: err.Error()}
	}
	out.Name = blocklist.NameText(wire)
	if out.Scope == "" && out.Do != journal.Withdraw && scope != blocklist.Subtree {
		out.Scope = scope.String()
	}
	if c.Start != nil {
		out.Start = c.Start.Unix()
	}
	if c.Expiry != nil {
		out.Expiry = c.Expiry.Unix()
	}
	_, err = out.Listing()
	return out, err
}

// A ChangeFunc receives the changes of an upload one by one, each with its line. bad is the reason why a change cannot be used,
// nil for none. An error ends the reading.
type ChangeFunc func(line int, c journal.Change, bad error) error

// ReadLines reads changes as NDJSON, one JSON object per line, in bounded memory. It returns the first error of each, or the
// error because of which the upload as a whole cannot be read.
func ReadLines(r io.Reader, g Grammar, each ChangeFunc) error {
	br := bufio.NewReaderSize(r, journal.MaxLine+2)
	for line := 1; ; line++ {
		text, err := journal.ReadLine(br, journal.MaxLine)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &lineError{line, err}
		}
		text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff")))
		if len(text) == 0 {
			continue
		}
		c, bad := parseLine(text, g)
		if err := each(line, c, bad); err != nil {
			return err
		}
	}
}

func parseLine(text []byte, g Grammar) (journal.Change, error) {
	var c Change
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return journal.Change{Name: c.Name}, &journal.FieldError{Name: "line", Why: "not a change in JSON: " + err.Error()}
	}
	if _, err := d.Token(); err != io.EOF {
		return journal.Change{Name: c.Name}, &journal.FieldError{Name: "line", Why: "more than one JSON value"}
	}
	return c.Canonical(g)
}
