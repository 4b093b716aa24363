package pushapi

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal"
)

// Change is a change as people write it: names in any script, dates as RFC 3339.
type Change struct {
	Do        journal.Act `json:"do,omitempty" enum:"block,allow,withdraw" default:"block" doc:"What to do."`
	Name      string      `json:"name" doc:"The name, in ASCII or Unicode, or as lists hold it: a[.]example, *.a.example, hxxps://a.example/ (which reaches that host only)." example:"login.bank.example"`
	Scope     string      `json:"scope,omitempty" enum:"exact,subtree,below" doc:"Which names it reaches; by default what the name says, which is mostly subtree. Of a withdrawal, by default whatever there is."`
	Category  string      `json:"category,omitempty" enum:"malicious,malware,phishing,scam,botnet,stalkerware"`
	Reason    string      `json:"reason,omitempty" maxLength:"1000"`
	Authority string      `json:"authority,omitempty" maxLength:"200" doc:"Who decided."`
	Decision  string      `json:"decision,omitempty" maxLength:"100" doc:"The decision's number with the authority."`
	Mark      string      `json:"mark,omitempty" enum:"blocked,censored,filtered" doc:"The legal ground: blocked by the operator's own decision (by default), censored by an order from outside, filtered by the subscriber's wish."`
	Start     *time.Time  `json:"start,omitempty" doc:"From when on; at once by default."`
	Expiry    *time.Time  `json:"expiry,omitempty" doc:"Until when; for ever by default."`
	Countries []string    `json:"countries,omitempty" doc:"Where it counts; everywhere by default."`
	Operators []string    `json:"operators,omitempty" doc:"With which operators it counts; with all by default."`
}

// Grammar reads what people write for names, as lists hold them.
type Grammar interface {
	// Indicator returns the canonical wire form of a host as people write it, and the scope that the text says. An error says what is
	// wrong, in a sentence.
	Indicator(text string) (name []byte, scope blocklist.Scope, err error)
	// IsNameColumn reports whether a table's column with this title holds names.
	IsNameColumn(title string) bool
}

// signed is the change as an author signs it. Its error is a *journal.Field.
func (c *Change) signed(g Grammar) (journal.Change, error) {
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
		return out, &journal.Field{Name: "name", Why: err.Error()}
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

// Media types of change sets.
const (
	TypeJSON   = "application/json"     // a ChangeSet
	TypeNDJSON = "application/x-ndjson" // a Change a line
	TypeCSV    = "text/csv"             // the first line names the columns
	TypeSigned = "application/vnd.rempart.changes"
)

// lineError is what is wrong with an upload as a whole, and where.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// ReadChanges reads changes of an NDJSON or CSV type in bounded memory, and calls each with the number of the line: for one that cannot be
// used, with why. Its error is that the upload as a whole cannot be read, or each's.
func ReadChanges(r io.Reader, mediaType string, g Grammar, each func(line int, c journal.Change, bad error) error) error {
	if mediaType == TypeCSV {
		return readCSV(r, g, each)
	}
	br := bufio.NewReaderSize(r, journal.MaxLine+2)
	for line := 1; ; line++ {
		text, err := journal.ReadLine(br, journal.MaxLine)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &lineError{line, err}
		}
		if text = trimmed(text); len(text) == 0 {
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
		return journal.Change{Name: c.Name}, &journal.Field{Name: "line", Why: "not the JSON of a change: " + err.Error()}
	}
	if _, err := d.Token(); err != io.EOF {
		return journal.Change{Name: c.Name}, &journal.Field{Name: "line", Why: "more than one JSON value"}
	}
	out, err := c.signed(g)
	if out.Name == "" {
		out.Name = c.Name
	}
	return out, err
}

// Columns are the fields of a change as a table names them; countries and operators are separated by spaces in it.
const Columns = "do, name, scope, category, reason, authority, decision, mark, start, expiry, countries, operators"

// Delimiter returns what separates the columns of a table whose first line is head: of comma, semicolon and tab the one by which a column holds
// names, or the comma.
func Delimiter(head string, g Grammar) rune {
	for _, comma := range ",;\t" {
		for column := range strings.SplitSeq(head, string(comma)) {
			if g.IsNameColumn(strings.Trim(column, "\ufeff\" ")) {
				return comma
			}
		}
	}
	return ','
}

// firstLine returns the first line of a table, as far as the reader's buffer holds it, and consumes nothing.
func firstLine(r *bufio.Reader) string {
	head, _ := r.Peek(r.Size())
	line, _, _ := strings.Cut(string(head), "\n")
	return strings.TrimRight(line, "\r")
}

func readCSV(r io.Reader, g Grammar, each func(int, journal.Change, error) error) error {
	text := bufio.NewReader(r)
	in := &rows{r: text, most: journal.MaxLine, long: errLongRow}
	cr := csv.NewReader(in)
	cr.ReuseRecord, cr.TrimLeadingSpace, cr.Comma = true, true, Delimiter(firstLine(text), g)
	in.begin(0)
	head, err := cr.Read()
	if err != nil {
		return &lineError{1, fmt.Errorf("it should name the columns: %w", err)}
	}
	if head, err = ReadColumns(head, g); err != nil {
		return &lineError{1, err}
	}
	for {
		in.begin(cr.InputOffset())
		row, err := cr.Read()
		parse := (*csv.ParseError)(nil)
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, csv.ErrFieldCount):
			line, _ := cr.FieldPos(0)
			err = each(line, journal.Change{}, &journal.Field{Name: "line", Why: "not as many columns as the first line"})
		case errors.As(err, &parse):
			return &lineError{parse.StartLine, parse.Err} // where the next row begins is not known
		case err != nil:
			return err
		default:
			line, _ := cr.FieldPos(0)
			c, bad := csvChange(head, row)
			out := journal.Change{Name: c.Name}
			if bad == nil {
				if out, bad = c.signed(g); out.Name == "" {
					out.Name = c.Name
				}
			}
			err = each(line, out, bad)
		}
		if err != nil {
			return err
		}
	}
}

// ReadColumns returns the fields that the first line of a table names. A column of names may be called as in lists: domain, host, url, fqdn.
func ReadColumns(head []string, g Grammar) ([]string, error) {
	known, out := strings.Split(Columns, ", "), make([]string, len(head))
	for i, h := range head {
		out[i] = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")))
		if g.IsNameColumn(out[i]) {
			out[i] = "name"
		}
		if !slices.Contains(known, out[i]) {
			return nil, fmt.Errorf("column %.100q: the first line names the columns, of %s", h, Columns)
		}
		if slices.Contains(out[:i], out[i]) {
			return nil, fmt.Errorf("two columns are called %s, or hold it under another title: keep one", out[i])
		}
	}
	if !slices.Contains(out, "name") {
		return nil, errors.New(`no column is called "name", "domain", "host" or "url"`)
	}
	return out, nil
}

func csvChange(head, row []string) (c Change, err error) {
	for i, cell := range row {
		cell = strings.Clone(strings.TrimSpace(cell))
		if cell == "" {
			continue
		}
		switch head[i] {
		case "do":
			c.Do = journal.Act(cell)
		case "name":
			c.Name = cell
		case "scope":
			c.Scope = cell
		case "category":
			c.Category = cell
		case "reason":
			c.Reason = cell
		case "authority":
			c.Authority = cell
		case "decision":
			c.Decision = cell
		case "mark":
			c.Mark = cell
		case "countries":
			c.Countries = strings.Fields(cell)
		case "operators":
			c.Operators = strings.Fields(cell)
		case "start", "expiry":
			t, parse := time.Parse(time.RFC3339, cell)
			if parse != nil {
				err = &journal.Field{Name: head[i], Why: "a date like 2026-12-31T23:59:59Z"}
			}
			if head[i] == "start" {
				c.Start = &t
			} else {
				c.Expiry = &t
			}
		}
	}
	return c, err
}
