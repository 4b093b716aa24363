package secret

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const a, b = "e5e973e5a6b2a43f48e7dc849e37bfcf", "dd3bdf9344b678b185a6f5cb60fca715"
	got, err := Parse([]byte("# made on 2026-12-01\n\n  " + strings.ToUpper(a) + "\r\n" + b))
	if err != nil || len(got) != 2 || got[0][0] != 0xe5 || got[1][0] != 0xdd {
		t.Errorf("read %x, %v", got, err)
	}
	for text, want := range map[string]string{
		"": "there is no secret", "# " + a: "there is no secret", a + "\nx\n": "line 2", a[1:]: "line 1", a + "00": "line 1", a + b: "line 1", a + "\n\n" + a: "line 3 repeats",
		strings.Join([]string{a, b, a[1:] + "0", a[1:] + "1", a[1:] + "2"}, "\n"): "there are 5 secrets, and at most 4",
	} {
		_, err := Parse([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), a[1:]) {
			t.Errorf("the error %v contains a secret", err)
		}
	}
}
