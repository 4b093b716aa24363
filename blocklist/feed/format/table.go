package format

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// table is what earlier rows of a CSV list say about later ones (RFC 4180, with any delimiter, columns
// named in the first row or in a comment, quotes where they are not needed, and blanks around cells).
type table struct {
	columns []role // nil while unknown
	title   []byte // the line that named them
	comma   byte   // 0 while unknown
	rows    int    // of data
	cells   [][]byte
	open    []byte // lines of a row whose quotes are still open
	first   int    // number of the first of them
	joined  int    // how many

	guessed   bool // columns was guessed from a row: no header is known
	ambiguous bool // no header is known, and several columns hold names
}

const (
	maxColumns  = 1024
	maxRowLines = 16 // lines a quoted cell may span
)

// row reads one line of a CSV list.
func (p *parser) row(raw []byte) {
	t := &p.table
	line := trim(raw)
	if len(t.open) == 0 {
		if len(line) == 0 {
			return
		}
		if line[0] == '#' {
			if t.rows == 0 {
				t.name(line[1:])
			}
			return
		}
		if t.rows == 0 && t.separator(line) {
			return
		}
		if t.rows == 0 && t.name(line) || t.title != nil && bytes.Equal(line, t.title) {
			return
		}
		if t.comma == 0 {
			t.comma = delimiter(line)
		}
	} else {
		line = append(append(t.open, '\n'), raw...)
	}
	cells, open := splitRow(t.cells[:0], line, t.comma)
	t.cells = cells
	switch {
	case !open:
		if t.joined > 0 {
			p.line = t.first
		}
		t.open, t.joined = t.open[:0], 0
		t.rows++
		p.cells(cells)
		p.line = p.stats.Lines
	case t.joined+1 == maxRowLines || len(line) > MaxLine:
		t.joined++
		p.endTable()
	default:
		if t.joined == 0 {
			t.first = p.line
			t.open = append(t.open[:0], line...)
		} else {
			t.open = line
		}
		t.joined++
	}
}

// endTable refuses the lines of a row whose quotes never close.
func (p *parser) endTable() {
	t := &p.table
	for i := range t.joined {
		p.line = t.first + i
		p.refuse(UnknownForm)
	}
	t.open, t.joined = t.open[:0], 0
}

// separator sets the separator of cells if line names one, as spreadsheets write it ("sep=;"). It reports whether line did.
func (t *table) separator(line []byte) bool {
	switch {
	case !hasPrefixFold(line, "sep=") || len(line) > len("sep=;"):
		return false
	case len(line) == len("sep="): // a tab, which was trimmed
		t.comma = '\t'
	default:
		t.comma = line[len(line)-1]
	}
	return true
}

// name sets the columns if line names them. It reports whether line did.
func (t *table) name(line []byte) bool {
	columns, comma, ok := header(line)
	if !ok {
		return false
	}
	t.columns, t.comma, t.title = columns, comma, bytes.Clone(line)
	return true
}

// cells reads one row.
func (p *parser) cells(cells [][]byte) {
	t := &p.table
	if t.columns == nil || t.guessed {
		if why := t.guess(p, cells); why != accepted {
			p.refuse(why)
			return
		}
	}
	p.claim = claim{}
	for i, cell := range cells[:min(len(cells), len(t.columns))] {
		p.claim.set(t.columns[i], cell)
	}
	p.indicators()
	p.claim = claim{}
}

// guess chooses the column of indicators in a table without a known header: the only column that holds a name, or the first column if it holds a
// URL. It returns the reason why a row is refused: the row has no indicator, or several columns hold names. In the latter case the column
// cannot be guessed, because another column may hold the names that malicious names imitate.
func (t *table) guess(p *parser, cells [][]byte) Reason {
	column, found := -1, 0
	for i, cell := range cells {
		cell = trim(cell)
		_, why := appendName(p.name[:0], refang(cell))
		isURL := bytes.Contains(cell, []byte("://"))
		if why == accepted || isURL && (i == 0 || column == 0 && bytes.Contains(cells[0], []byte("://"))) {
			found++
			if column < 0 {
				column = i
			}
		}
	}
	switch {
	case found > 1 || t.ambiguous:
		t.ambiguous = t.ambiguous || t.columns == nil
		return AmbiguousColumn
	case t.columns != nil:
		return accepted
	case found == 0:
		return UnknownForm
	}
	t.columns, t.guessed = slices.Repeat([]role{noRole}, column+1), true
	t.columns[column] = valueRole
	return accepted
}

// header reads the names of columns. It reports false if one is no such name, or if none is
// known to hold indicators.
func header(line []byte) (columns []role, comma byte, ok bool) {
	line = trim(line)
	if comma = delimiter(line); comma == 0 || len(line) > 4096 {
		return nil, 0, false
	}
	cells, open := splitRow(nil, line, comma)
	if open {
		return nil, 0, false
	}
	for _, cell := range cells {
		r := roles[foldKey(cell)]
		if r == noRole && !isColumnName(cell) {
			return nil, 0, false
		}
		ok = ok || r.isName()
		columns = append(columns, r)
	}
	return columns, comma, ok
}

// isColumnName reports whether a cell may be a column's name: a few words in any language, and no host's name.
func isColumnName(cell []byte) bool {
	cell = trim(cell)
	if len(cell) > maxKey {
		return false
	}
	for _, c := range cell {
		if hostByte[c] == 0 && c < utf8.RuneSelf && bytes.IndexByte([]byte(" /:()%#'"), c) < 0 {
			return false
		}
	}
	_, why := appendName(make([]byte, 0, maxWire+1), cell)
	return why != accepted && why != Address || len(cell) == 0
}

// delimiter is the one that occurs most in a line, 0 if none does.
func delimiter(line []byte) (comma byte) {
	most := 0
	for _, c := range []byte(",;\t|") {
		if n := bytes.Count(line, []byte{c}); n > most {
			comma, most = c, n
		}
	}
	return comma
}

// splitRow appends the cells of a row to cells. Doubled quotes in a cell are replaced by single ones in the memory of row. Blanks around a cell
// are removed. It reports whether the last cell's quotes are
// still open.
func splitRow(cells [][]byte, row []byte, comma byte) (_ [][]byte, open bool) {
	for len(cells) < maxColumns {
		for len(row) > 0 && row[0] != comma && isBlank(row[0]) {
			row = row[1:]
		}
		var cell []byte
		if len(row) > 0 && row[0] == '"' {
			if cell, row, open = quoted(row[1:]); open {
				return cells, true
			}
		}
		end := len(row)
		if i := bytes.IndexByte(row, comma); i >= 0 && comma != 0 {
			end = i
		}
		if cell == nil {
			cell = trim(row[:end])
		}
		cells = append(cells, cell)
		if end == len(row) {
			break
		}
		row = row[end+1:]
	}
	return cells, false
}

// quoted reads a cell up to its closing quote. The text between the quote and the next delimiter is not part of the cell; the caller drops it.
func quoted(row []byte) (cell, rest []byte, open bool) {
	for i := 0; i < len(row); i++ {
		if row[i] != '"' {
			continue
		}
		if i+1 == len(row) || row[i+1] != '"' {
			return unquote(row[:i:i]), row[i+1:], false
		}
		i++
	}
	return nil, nil, true
}

// unquote is a cell with single quotes for double ones.
func unquote(cell []byte) []byte {
	if bytes.IndexByte(cell, '"') < 0 {
		return cell
	}
	return bytes.ReplaceAll(cell, []byte(`""`), []byte(`"`))
}
