package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHousehold reads deploy/household.env as the program would: every variable is known, every value does,
// and so does every one that stands commented out.
func TestHousehold(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "household.env"))
	if err != nil {
		t.Fatal(err)
	}
	environ := map[string]string{"HOME": "/h"}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "#"), "=")
		if ok && strings.HasPrefix(name, Prefix) {
			environ[name] = value
		}
	}
	c, err := load(environ)
	if err != nil {
		t.Fatal(err)
	}
	if c.Feeds == "" || c.Released == "" || len(c.Lists) != 0 || len(c.Upstreams) != 1 || len(c.Forward) != 2 || len(c.Listen) != 2 || c.Allow == "" {
		t.Errorf("%+v", c)
	}
	if !c.Canary.Firefox || !c.Canary.ICloud || c.SingleLabels != KeepSingleLabels || c.Rebinding != RefuseRebinding ||
		!c.Clients.OnLink || len(c.RebindingAllow) != 2 {
		t.Errorf("what a home needs: %+v, clients %+v", c.Home, c.Clients)
	}
	if names := Unknown(environ); len(names) > 0 {
		t.Errorf("unknown variables: %v", names)
	}
}
