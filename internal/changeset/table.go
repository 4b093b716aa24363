package changeset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rempart/internal/journal"
)

// Columns are the fields of a change as a table names them; countries and operators are separated by spaces in it.
const Columns = "do, name, scope, category, reason, authority, decision, mark, start, expiry, countries, operators"

// Delimiter returns the character that separates the columns of a table whose first line is head: of comma, semicolon and tab the
// first one with which a column holds names. It returns 0 if there is none.
func Delimiter(head string, g Grammar) rune {
	for _, comma := range ",;\t" {
		for column := range strings.SplitSeq(head, string(comma)) {
			if g.IsNameColumn(strings.Trim(column, "\ufeff\" ")) {
				return comma
			}
		}
	}
	return 0
}

// firstLine returns the first line of a table, or the part of it that fits into the reader's buffer, and does not advance the reader.
func firstLine(r *bufio.Reader) string {
	head, _ := r.Peek(r.Size())
	line, _, _ := strings.Cut(string(head), "\n")
	return strings.TrimRight(line, "\r")
}

// Table reads the rows of a CSV table of changes in bounded memory.
type Table struct {
	csv   *csv.Reader
	bound *BoundedReader
}

// Row is a row of a table. Its cells are valid until the next call of Next.
type Row struct {
	Line  int // at which the row begins, from 1
	Cells []string
}

// ErrCells is the error of a row that has more or fewer cells than the first one. The rows after it can be read.
var ErrCells = errors.New("the number of columns differs from the first line")

// NewTable returns a reader of a table. comma separates cells; lines that begin with comment are skipped, 0 for none.
func NewTable(r io.Reader, comma, comment rune) *Table {
	t := &Table{bound: &BoundedReader{R: r, Most: journal.MaxLine, Long: errLongRow}}
	t.csv = csv.NewReader(t.bound)
	t.csv.ReuseRecord, t.csv.TrimLeadingSpace, t.csv.Comma, t.csv.Comment = true, true, comma, comment
	return t
}

// Next returns the next row. At the end its error is io.EOF; with ErrCells it returns the row's line.
func (t *Table) Next() (Row, error) {
	t.bound.Allow(t.csv.InputOffset())
	cells, err := t.csv.Read()
	parse := (*csv.ParseError)(nil)
	switch {
	case errors.Is(err, csv.ErrFieldCount):
		err = ErrCells
	case errors.As(err, &parse):
		return Row{}, &lineError{parse.StartLine, parse.Err} // the beginning of the next row is not known
	case err != nil:
		return Row{}, err
	}
	line, _ := t.csv.FieldPos(0)
	return Row{Line: line, Cells: cells}, err
}

// ReadTable reads changes as CSV in bounded memory. The first line names the columns. Errors are returned as by ReadLines.
func ReadTable(r io.Reader, g Grammar, each ChangeFunc) error {
	text := bufio.NewReader(r)
	comma := Delimiter(firstLine(text), g)
	if comma == 0 {
		comma = ','
	}
	t := NewTable(text, comma, 0)
	titles, err := t.Next()
	if err != nil {
		return &lineError{1, fmt.Errorf("the first line must name the columns: %w", err)}
	}
	fields, err := ReadColumns(titles.Cells, g)
	if err != nil {
		return &lineError{1, err}
	}
	for {
		row, err := t.Next()
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, ErrCells):
			err = each(row.Line, journal.Change{}, &journal.FieldError{Name: "line", Why: err.Error()})
		case err == nil:
			c, bad := parseRow(fields, row.Cells)
			out := journal.Change{Name: c.Name}
			if bad == nil {
				out, bad = c.Canonical(g)
			}
			err = each(row.Line, out, bad)
		}
		if err != nil {
			return err
		}
	}
}

// ReadColumns returns the fields that the first line of a table names. A column of names may have a title that lists use: domain,
// host, url, fqdn.
func ReadColumns(titles []string, g Grammar) ([]string, error) {
	known, out := strings.Split(Columns, ", "), make([]string, len(titles))
	for i, title := range titles {
		out[i] = strings.ToLower(strings.TrimSpace(strings.TrimPrefix(title, "\ufeff")))
		if g.IsNameColumn(out[i]) {
			out[i] = "name"
		}
		if !slices.Contains(known, out[i]) {
			return nil, fmt.Errorf("column %.100q: the first line must name columns of these: %s", title, Columns)
		}
		if slices.Contains(out[:i], out[i]) {
			return nil, fmt.Errorf("two columns hold the field %s: keep one of them", out[i])
		}
	}
	if !slices.Contains(out, "name") {
		return nil, errors.New(`no column is called "name", "domain", "host" or "url"`)
	}
	return out, nil
}

// parseRow returns the change of a row; fields are those of its columns.
func parseRow(fields, cells []string) (c Change, err error) {
	for i, cell := range cells {
		cell = strings.Clone(strings.TrimSpace(cell))
		if cell == "" {
			continue
		}
		switch fields[i] {
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
			t, bad := time.Parse(time.RFC3339, cell)
			if bad != nil {
				err = &journal.FieldError{Name: fields[i], Why: "a date like 2026-12-31T23:59:59Z is needed"}
			}
			if fields[i] == "start" {
				c.Start = &t
			} else {
				c.Expiry = &t
			}
		}
	}
	return c, err
}
