package operate

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

// The formats of a file of changes.
const (
	formatPlain  = "plain"
	formatNDJSON = "ndjson"
	formatCSV    = "csv"
)

// normalizer reads changes in any format and writes them as NDJSON, with defaults for fields that a line does not set. A change has the same line
// number in the output as in the input (the first line of its input, if there are several), so that a refusal shows the right line. The normalizer does not
// validate changes. Its memory is bounded.
type normalizer struct {
	out      *bufio.Writer
	defaults map[string]json.RawMessage // by field
	at       int                        // number of lines written
	changes  int
	note     func(column string) // called for each column of a table that is ignored
}

// normalize reads the changes of r, writes them to w as NDJSON, and returns the number of changes. formatName is the format; if it is "", normalize detects the
// format. It ignores each column that is not a column of a change, and calls note with the title of the column.
func normalize(w io.Writer, r io.Reader, formatName string, defaults map[string]json.RawMessage, note func(column string)) (int, error) {
	n := &normalizer{out: bufio.NewWriterSize(w, 64<<10), defaults: defaults, note: note}
	text, err := format.Text(r)
	if err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(&newlines{r: text}, journal.MaxLine+2)
	head, err := in.Peek(journal.MaxLine)
	if err != nil && err != io.EOF {
		return 0, err
	}
	detected, comma := detectFormat(head)
	if formatName == "" {
		formatName = detected
	}
	switch formatName {
	case formatCSV:
		err = n.writeTable(in, comma)
	case formatNDJSON:
		err = n.eachLine(in, n.writeObject)
	case formatPlain:
		err = n.eachLine(in, n.writeName)
	default:
		err = fmt.Errorf("--format %s: the formats are %s, %s and %s", formatName, formatPlain, formatNDJSON, formatCSV)
	}
	if err != nil {
		return n.changes, err
	}
	if err := n.out.Flush(); err != nil {
		return n.changes, err
	}
	if n.changes == 0 {
		return 0, errors.New("no change found")
	}
	return n.changes, nil
}

// detectFormat returns the format of a file from its beginning, and the separator of its columns if the format is CSV.
func detectFormat(head []byte) (formatName string, comma rune) {
	for line := range strings.Lines(string(head)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '{' {
			return formatNDJSON, 0
		}
		if comma := changeset.Delimiter(line, format.Grammar{}); comma != 0 {
			return formatCSV, comma
		}
		if strings.Contains(line, ",") {
			return formatCSV, ','
		}
		if strings.Contains(line, ";") {
			return formatCSV, ';'
		}
		break
	}
	return formatPlain, ','
}

// eachLine calls convert with each line. convert writes one line of output.
func (n *normalizer) eachLine(in *bufio.Reader, convert func(line []byte) error) error {
	for {
		line, err := journal.ReadLine(in, journal.MaxLine)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = convert(bytes.TrimSpace(line))
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n.at+1, err)
		}
	}
}

// writeName writes the change for a line of a plain list.
func (n *normalizer) writeName(line []byte) error {
	if line = format.CutComment(line); len(line) == 0 {
		return n.writeBlank()
	}
	text, err := json.Marshal(string(line))
	if err != nil {
		return err
	}
	return n.writeChange(map[string]json.RawMessage{"name": text})
}

// writeObject writes the change for a line of NDJSON. A line that is not a JSON object is written unchanged; control refuses the line and returns the reason.
func (n *normalizer) writeObject(line []byte) error {
	if len(line) == 0 {
		return n.writeBlank()
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(line, &fields) != nil || fields == nil || !renameKeys(fields) && len(n.defaults) == 0 {
		n.changes++
		return n.writeLine(line)
	}
	return n.writeChange(fields)
}

// writeTable writes the changes of a table. comma separates its cells.
func (n *normalizer) writeTable(in *bufio.Reader, comma rune) error {
	if comma == 0 {
		comma = ','
	}
	t := changeset.NewTable(in, comma, '#')
	titles, err := t.Next()
	if err != nil {
		return fmt.Errorf("reading the titles of the columns: %w", err)
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
			if err := n.writeBlank(); err != nil {
				return err
			}
		}
		if err := n.writeChange(fields); err != nil {
			return fmt.Errorf("line %d: %w", row.Line, err)
		}
	}
}

// writeChange writes a change, with defaults for the fields that it does not set.
func (n *normalizer) writeChange(fields map[string]json.RawMessage) error {
	isSet := map[string]bool{}
	for field, value := range fields { // null in JSON sets no field, and Go's decoder ignores case
		isSet[strings.ToLower(field)] = string(value) != "null"
	}
	for field, value := range n.defaults {
		if !isSet[field] {
			fields[field] = value
		}
	}
	line, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if len(line) > journal.MaxLine {
		return fmt.Errorf("the change is longer than %d bytes", journal.MaxLine)
	}
	n.changes++
	return n.writeLine(line)
}

func (n *normalizer) writeBlank() error { return n.writeLine(nil) }

func (n *normalizer) writeLine(text []byte) error {
	n.at++
	_, _ = n.out.Write(text) // WriteByte returns this error too
	return n.out.WriteByte('\n')
}

// newlines is a reader that replaces the line ends "\r\n" and "\r" of r by "\n".
type newlines struct {
	r       io.Reader
	afterCR bool // the last byte that was read from r is "\r"
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
