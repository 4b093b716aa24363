package inspect

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAllowAddsToUTF16File checks that names can be added to a file in UTF-16.
func TestAllowAddsToUTF16File(t *testing.T) {
	path := filepath.Join(t.TempDir(), "allow.txt")
	text := []byte{0xff, 0xfe}
	for _, c := range "one.example\r\n" {
		text = append(text, byte(c), 0)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := appendNames(path, []string{"one.example", "two.example"}, "", time.Unix(0, 0).UTC()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "one.example\r\ntwo.example # added by rempart allow on 1970-01-01\n"; err != nil || string(got) != want {
		t.Errorf("%q %v, want %q", got, err, want)
	}
}
