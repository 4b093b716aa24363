package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Printable returns text with its control characters, except line ends and tabs, written as \x1b is. Errors contain text of other machines, such as the names in a
// certificate, which must not control the terminal of the person who reads them.
func Printable(text string) string {
	isControl := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if !strings.ContainsFunc(text, isControl) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if isControl(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Plain returns a writer that passes text on to w as Printable returns it. Each call of Write gets whole characters.
func Plain(w io.Writer) io.Writer { return plain{w} }

type plain struct{ w io.Writer }

func (p plain) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.w, Printable(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// JSON returns an encoder that writes to w. It escapes the control characters that encoding/json leaves in strings: DEL and U+0080 to U+009F become \u007f, \u0080
// and so on.
func JSON(w io.Writer) *json.Encoder { return json.NewEncoder(plainJSON{w}) }

// plainJSON escapes these characters. Each call of Write must get whole values, as json.Encoder passes them.
type plainJSON struct{ w io.Writer }

func (p plainJSON) Write(text []byte) (int, error) {
	if !bytes.ContainsFunc(text, isHighControl) {
		return p.w.Write(text)
	}
	var b bytes.Buffer
	for _, r := range string(text) {
		if isHighControl(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	if _, err := p.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}

func isHighControl(r rune) bool { return 0x7f <= r && r <= 0x9f }

// Table returns a writer of a table whose columns are separated by tabs. It writes to w as Plain does. The caller calls Flush at the end.
func Table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(Plain(w), 0, 0, 2, ' ', 0) }
