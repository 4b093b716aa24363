package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClaimFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for range 2 { // the first call makes the folder
		if err := ClaimFolder(dir); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]string{"1\n": "", "2\n": "newer Rempart", "x": "does not hold a number", strings.Repeat("1", 100): "format"} {
		if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ClaimFolder(dir); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := ClaimFolder("/proc/nothing"); err != nil {
		t.Errorf("a folder that cannot be made: %v", err)
	}
}
