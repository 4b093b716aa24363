package tomlfile

import (
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	for text, want := range map[string]string{
		"name = 'a'":                        "",
		"":                                  "",
		"name = 'a'\ncolour = 'red'":        "colour",
		"name = 3":                          "line 1",
		"name = 'a'\nname = ":               "line 2",
		"#" + strings.Repeat("x", MaxSize):  "more than",
		"name = 'a'\n[other]\nname = 'b'\n": "other",
	} {
		var file struct{ Name string }
		err := Decode([]byte(text), &file)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want an error with %q", text, err, want)
		}
	}
}
