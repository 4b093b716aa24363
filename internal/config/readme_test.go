package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of variables into the README")

const begin, end = "<!-- variables: written by go test ./internal/config -update -->\n", "<!-- end of variables -->\n"

// TestReadmeTable keeps the README's table of variables equal to the struct.
func TestReadmeTable(t *testing.T) {
	path := filepath.Join("..", "..", "README.md")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("the README has no place for the table between %q and %q", begin, end)
	}
	if table == Table() {
		return
	}
	if !*update {
		t.Fatal("the README's table of variables is not what the program reads: run go test ./internal/config -update")
	}
	if err := os.WriteFile(path, []byte(before+begin+Table()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
