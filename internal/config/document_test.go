package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of settings into deploy/settings.md")

const begin, end = "<!-- settings: written by go test ./internal/config -update -->\n", "<!-- end of settings -->\n"

// TestSettingsDocument checks that the tables of deploy/settings.md list the settings that the program reads.
func TestSettingsDocument(t *testing.T) {
	path := filepath.Join("..", "..", "deploy", "settings.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	tables, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the tables between %q and %q", path, begin, end)
	}
	if tables == Tables() {
		return
	}
	if !*update {
		t.Fatal("the tables of deploy/settings.md differ from the settings that the program reads: run go test ./internal/config -update")
	}
	if err := os.WriteFile(path, []byte(before+begin+Tables()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
