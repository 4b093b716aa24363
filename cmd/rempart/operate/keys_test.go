package operate

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOnlyInitMakesKeys checks that commands about keys create none in a folder without keys, whose name may be a typing error.
func TestOnlyInitMakesKeys(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "keys")
	t.Setenv("REMPART_KEYS", folder)
	run := func(args ...string) error {
		cmd := keysCommand()
		cmd.SetArgs(args)
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		return cmd.Execute()
	}
	for _, args := range [][]string{{"list"}, {"rotate", "control"}, {"revoke", "x+1"}, {"threshold"}} {
		if err := run(args...); err == nil || !strings.Contains(err.Error(), folder) {
			t.Errorf("keys %v: error %v, want one that names the folder", args, err)
		}
		if _, err := os.Stat(folder); err == nil {
			t.Fatalf("keys %v created the folder", args)
		}
	}
	for _, args := range [][]string{{"init"}, {"init"}, {"list"}} {
		if err := run(args...); err != nil {
			t.Errorf("keys %v: %v", args, err)
		}
	}
}
