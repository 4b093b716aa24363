package public

import (
	"os"
	"path/filepath"
	"testing"

	"rempart/internal/appeal"
	"rempart/internal/web/authority"
	"rempart/internal/web/texts"
)

// TestExampleFiles checks that the example files of deploy are valid.
func TestExampleFiles(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	table, err := authority.Parse(read("authorities.toml"))
	if err != nil || table.Of("example-authority-2026-3") == nil || !table.Of("another-2026-114").IPv4.IsValid() {
		t.Errorf("authorities.toml: %+v, %v", table, err)
	}
	if _, err := texts.ParseHelp(read("help.toml")); err != nil {
		t.Errorf("help.toml: %v", err)
	}
	if p, err := appeal.ParsePolicy(read("appeals.toml")); err != nil || p.Service == "" {
		t.Errorf("appeals.toml: %+v, %v", p, err)
	}
}
