package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"rempart/blocklist/feed/format"
	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// The forms of a file of changes.
const (
	formPlain  = "plain"
	formNDJSON = "ndjson"
	formCSV    = "csv"
)

// normal reads changes of any form and writes them as NDJSON, with defaults where a line says nothing. Each stands in the line of the output that
// it began in, so that whoever refuses one names the right line. Whether a change makes sense is for others to say. Memory is bounded.
type normal struct {
	out      *bufio.Writer
	defaults map[string]json.RawMessage // by field
	at       int                        // lines written
	changes  int
	note     func(column string) // called for each column of a table that is ignored
}

// normalise reads the changes of r and writes them to w as NDJSON; form is "" to detect it. It calls note with the title of each column that is not
// one of a change, and ignores the column. It returns how many changes there are.
func normalise(w io.Writer, r io.Reader, form string, defaults map[string]json.RawMessage, note func(column string)) (int, error) {
	n := &normal{out: bufio.NewWriterSize(w, 64<<10), defaults: defaults, note: note}
	text, err := format.Text(r)
	if err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(&newlines{r: text}, journal.MaxLine+2)
	head, err := in.Peek(journal.MaxLine)
	if err != nil && err != io.EOF {
		return 0, err
	}
	found, comma := formOf(head)
	if form == "" {
		form = found
	}
	switch form {
	case formCSV:
		err = n.csv(in, comma)
	case formNDJSON:
		err = n.lines(in, n.object)
	case formPlain:
		err = n.lines(in, n.name)
	default:
		err = fmt.Errorf("--format %s: there are %s, %s and %s", form, formPlain, formNDJSON, formCSV)
	}
	if err == nil {
		err = n.out.Flush()
	}
	if err == nil && n.changes == 0 {
		err = errors.New("it holds no change")
	}
	return n.changes, err
}

// formOf is the form of a file that begins so, and what separates the columns if it has any.
func formOf(head []byte) (form string, comma rune) {
	for line := range strings.Lines(string(head)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '{' {
			return formNDJSON, 0
		}
		if comma := changeset.Delimiter(line, format.Grammar{}); comma != 0 {
			return formCSV, comma
		}
		if strings.Contains(line, ",") {
			return formCSV, ','
		}
		if strings.Contains(line, ";") {
			return formCSV, ';'
		}
		break
	}
	return formPlain, ','
}

// lines hands each line to read, which writes one.
func (n *normal) lines(in *bufio.Reader, read func(line []byte) error) error {
	for {
		line, err := journal.ReadLine(in, journal.MaxLine)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = read(bytes.TrimSpace(line))
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n.at+1, err)
		}
	}
}

// name is a line of a plain list.
func (n *normal) name(line []byte) error {
	if line = format.CutComment(line); len(line) == 0 {
		return n.blank()
	}
	text, err := json.Marshal(string(line))
	if err != nil {
		return err
	}
	return n.write(map[string]json.RawMessage{"name": text})
}

// object is a line of NDJSON. One that is none goes on as it is: who judges it says why.
func (n *normal) object(line []byte) error {
	if len(line) == 0 {
		return n.blank()
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(line, &fields) != nil || fields == nil || !renameKeys(fields) && len(n.defaults) == 0 {
		n.changes++
		return n.line(line)
	}
	return n.write(fields)
}

// csv reads a table. comma separates its cells.
func (n *normal) csv(in *bufio.Reader, comma rune) error {
	if comma == 0 {
		comma = ','
	}
	t := changeset.NewTable(in, comma, '#')
	titles, err := t.Next()
	if err != nil {
		return fmt.Errorf("the line that names the columns: %w", err)
	}
	head, err := n.columns(titles.Cells)
	if err != nil {
		return fmt.Errorf("line 1: %w", err)
	}
	for {
		row, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, changeset.ErrCells) {
			return fmt.Errorf("line %d: %w", row.Line, err)
		}
		if err != nil {
			return err
		}
		fields, err := n.cells(head, row.Cells)
		if err != nil {
			return err
		}
		for n.at < row.Line-1 {
			if err := n.blank(); err != nil {
				return err
			}
		}
		if err := n.write(fields); err != nil {
			return fmt.Errorf("line %d: %w", row.Line, err)
		}
	}
}

// write writes a change, with the defaults of what it does not say.
func (n *normal) write(fields map[string]json.RawMessage) error {
	says := map[string]bool{}
	for field, value := range fields { // JSON's null says nothing, and Go's decoder knows no case
		says[strings.ToLower(field)] = string(value) != "null"
	}
	for field, value := range n.defaults {
		if !says[field] {
			fields[field] = value
		}
	}
	line, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if len(line) > journal.MaxLine {
		return fmt.Errorf("a change of more than %d octets", journal.MaxLine)
	}
	n.changes++
	return n.line(line)
}

func (n *normal) blank() error { return n.line(nil) }

func (n *normal) line(text []byte) error {
	n.at++
	_, _ = n.out.Write(text) // WriteByte tells its error too
	return n.out.WriteByte('\n')
}

// newlines is a reader that ends every line with "\n", be it "\r\n" or "\r" in r.
type newlines struct {
	r       io.Reader
	afterCR bool // the last byte read was "\r"
}

func (l *newlines) Read(p []byte) (int, error) {
	for {
		n, err := l.r.Read(p)
		out := p[:0]
		for _, c := range p[:n] {
			if c != '\n' || !l.afterCR {
				if l.afterCR = c == '\r'; l.afterCR {
					c = '\n'
				}
				out = append(out, c)
				continue
			}
			l.afterCR = false
		}
		if len(out) > 0 || err != nil || len(p) == 0 {
			return len(out), err
		}
	}
}
