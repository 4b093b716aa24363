package dnstest

import (
	"os"
	"strings"
	"testing"
)

// CheckTable compares a measured table with the one in a document, which is between the lines "<!-- NAME: written by COMMAND -->" and "<!-- end of NAME -->".
// If they differ, the test fails and names the command; with update, the table is written into the document instead.
func CheckTable(t testing.TB, path, name, command, table string, update bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+name+": written by "+command+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, found := strings.Cut(string(text), begin)
	written, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("dnstest: %s has no place for the table between %q and %q", path, begin, end)
	}
	if written == table {
		return
	}
	if !update {
		t.Fatalf("dnstest: the table %q in %s differs: if the change is intended, run %s\n%s", name, path, command, table)
	}
	if err := os.WriteFile(path, []byte(before+begin+table+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
