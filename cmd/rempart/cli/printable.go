package cli

import (
	"fmt"
	"io"
	"strings"
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
