package bounded

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestClipJSON checks that ClipJSON changes only the length of texts and blanks, for all sizes of reads.
func TestClipJSON(t *testing.T) {
	const plain = `{"a\"\\\u0022":[1.5e3, true ,null,"]{"],"b":{"c":"\n"}}`
	for _, r := range []io.Reader{strings.NewReader(plain), iotest.OneByteReader(strings.NewReader(plain)), iotest.DataErrReader(strings.NewReader(plain))} {
		if got, err := io.ReadAll(ClipJSON(r)); err != nil || string(got) != plain {
			t.Errorf("ClipJSON: %s, %v; want the unchanged text %s", got, err, plain)
		}
	}
	for _, unit := range []string{"x", `\"`, `\\`, `\u0022`, "é"} {
		long := `["` + strings.Repeat(unit, maxText) + `"]`
		got, err := io.ReadAll(ClipJSON(strings.NewReader(long)))
		if n := len(got) - len(`[""]`); err != nil || n < maxText-len(unit) || n > maxText+len(`\u0022`) || !strings.HasSuffix(string(got), `"]`) {
			t.Errorf("%q: %d bytes, %v", unit, n, err)
		}
	}
}
