package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
)

// TestJSONHasNoControlCharacters checks that JSON holds no character that controls a terminal, and that it reads back as it was.
func TestJSONHasNoControlCharacters(t *testing.T) {
	var out strings.Builder
	const text = "a\x1b]0;x\x07\u009b2J\x7f é"
	if err := JSON(&out).Encode(text); err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal([]byte(out.String()), &back); err != nil || back != text || strings.ContainsFunc(strings.TrimSpace(out.String()), unicode.IsControl) {
		t.Errorf("%q reads back as %q, %v", out.String(), back, err)
	}
}
