package hostile

import (
	"strings"
	"testing"
)

// TestNamesAreUniqueAndStable checks that every behaviour has a label of its own, which is the same each time.
func TestNamesAreUniqueAndStable(t *testing.T) {
	few, all := Behaviours(false), Behaviours(true)
	if len(few) < 600 || len(all) < 4000 {
		t.Errorf("%d behaviours, %d with every value of every parameter", len(few), len(all))
	}
	again := Behaviours(true)
	seen := map[string]bool{}
	for i, b := range all {
		if seen[b.Name] || len(b.Name) > 63 || strings.ToLower(b.Name) != b.Name {
			t.Errorf("%q is not a label of its own in lower case", b.Name)
		}
		seen[b.Name] = true
		if b.Name != again[i].Name {
			t.Errorf("%q is %q the second time", b.Name, again[i].Name)
		}
	}
}
