package format

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Format is the format of a list, by the name that operators use.
type Format string

// The formats. "" is Auto. A line format accepts lines of that format only.
const (
	Auto      Format = "auto"      // detected; formats of lines may be mixed
	Hosts     Format = "hosts"     // "0.0.0.0 name name", or names alone
	Domains   Format = "domains"   // one name per line
	Wildcards Format = "wildcards" // "*.name", ".name" or a name per line
	Adblock   Format = "adblock"   // "||name^"
	Dnsmasq   Format = "dnsmasq"   // "address=/name/"
	Unbound   Format = "unbound"   // "local-zone: name type"
	RPZ       Format = "rpz"       // a response policy zone
	URLs      Format = "urls"      // one URL per line
	CSV       Format = "csv"       // rows of delimited cells
	JSON      Format = "json"      // any JSON format, detected by its keys
	MISP      Format = "misp"      // MISP events
	STIX      Format = "stix"      // STIX 2 bundles
	TAXII     Format = "taxii"     // TAXII 2.1 envelopes
)

// Formats returns all formats, in the order help texts give them.
func Formats() []Format {
	return []Format{Auto, Hosts, Domains, Wildcards, Adblock, Dnsmasq, Unbound,
		RPZ, URLs, CSV, JSON, MISP, STIX, TAXII}
}

// ParseFormat returns the format of that name; the empty name is Auto. The error lists the known names.
func ParseFormat(name string) (Format, error) {
	if name == "" {
		return Auto, nil
	}
	f := Format(strings.ToLower(name))
	if slices.Contains(Formats(), f) {
		return f, nil
	}
	known := make([]string, 0, len(Formats()))
	for _, f := range Formats() {
		known = append(known, string(f))
	}
	return "", fmt.Errorf("list format %q is not known; use one of %s", name, strings.Join(known, ", "))
}

// UnmarshalText is ParseFormat.
func (f *Format) UnmarshalText(text []byte) error {
	parsed, err := ParseFormat(string(text))
	if err != nil {
		return err
	}
	*f = parsed
	return nil
}

// ByLine reports whether the numbers that a Sink receives are line numbers. Otherwise they are the numbers of entries.
func (f Format) ByLine() bool {
	switch f {
	case JSON, MISP, STIX, TAXII:
		return false
	}
	return true
}

// unit returns the unit of Stats.Lines.
func (f Format) unit() string {
	if f.ByLine() {
		return "lines"
	}
	return "entries"
}

var byteOrderMark = []byte("\ufeff")

// sniff detects by the beginning of r whether it is JSON, CSV or, otherwise, lines of any format. It consumes nothing.
func sniff(r *bufio.Reader) Format {
	head, _ := r.Peek(MaxLine)
	head = bytes.TrimPrefix(head, byteOrderMark)
	switch {
	case beginsJSON(head):
		return JSON
	case beginsCSV(head):
		return CSV
	}
	return Auto
}

// beginsJSON reports whether head begins an object with a key, or an array of objects or strings.
// An IPv6 address in brackets and the header of an adblock list are neither.
func beginsJSON(head []byte) bool {
	head = bytes.TrimLeft(head, " \t\r\n")
	if len(head) == 0 {
		return false
	}
	next := bytes.TrimLeft(head[1:], " \t\r\n")
	if len(next) == 0 {
		return false
	}
	switch head[0] {
	case '{':
		return next[0] == '"' || next[0] == '}'
	case '[':
		return next[0] == '"' || next[0] == '{' || next[0] == ']'
	}
	return false
}

// beginsCSV reports whether the first line that is no comment names columns, or a comment before
// it does and it has as many cells.
func beginsCSV(head []byte) bool {
	var comment []byte // the last that names columns
	for line := range bytes.Lines(head) {
		line = trim(clean(bytes.Clone(bytes.TrimRight(line, "\r\n"))))
		if len(line) == 0 || new(table).separator(line) {
			continue
		}
		if line[0] == '#' {
			if _, _, ok := header(line[1:]); ok {
				comment = line[1:]
			}
			continue
		}
		if comment == nil {
			_, _, ok := header(line)
			return ok
		}
		_, comma, _ := header(comment)
		named, _ := splitRow(nil, comment, comma)
		cells, open := splitRow(nil, line, comma)
		return open || len(cells) == len(named)
	}
	return false
}
