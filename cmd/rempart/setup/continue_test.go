package setup

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/config"
)

// TestContinue checks what the settings mean, and that without them nobody may continue.
func TestContinue(t *testing.T) {
	log := slog.New(slog.NewTextHandler(&bytes.Buffer{}, nil))
	c := &config.Config{}
	c.Probe, c.Continue = "probe.rempart.internal", time.Hour
	off, err := NewContinue(c, log)
	if err != nil || !off.Grants().Blocks.IsZero() || off.Links(nil) != nil || off.Files().Run(t.Context()) != nil {
		t.Fatalf("without settings: %+v, %v", off, err)
	}
	c.ContinueCategories, c.ContinueOrders = config.List{"scam", "phishing"}, 7*24*time.Hour
	on, err := NewContinue(c, log)
	if err != nil {
		t.Fatal(err)
	}
	want := blocklist.Continuable{Categories: 1<<blocklist.Scam | 1<<blocklist.Phishing, Orders: 7 * 24 * 3600}
	if g := on.Grants(); g.Blocks != want || g.Duration != time.Hour || g.Secrets() == nil || string(on.Probe()) != "\x05probe\x07rempart\x08internal\x00" {
		t.Errorf("grants %+v in zone %q", g, on.Probe())
	}
	if on.Links(func([]byte) bool { return true }) == nil {
		t.Error("the page has no links")
	}
	c.ContinueKeyFile = filepath.Join(t.TempDir(), "links")
	writeFile(t, c.ContinueKeyFile, "secret\n")
	if _, err := NewContinue(c, log); err == nil || !strings.Contains(err.Error(), "REMPART_CONTINUE_KEY_FILE") {
		t.Errorf("a file without a secret: %v", err)
	}
	writeFile(t, c.ContinueKeyFile, "e5e973e5a6b2a43f48e7dc849e37bfcf\n")
	shared, err := NewContinue(c, log)
	if err != nil {
		t.Fatal(err)
	}
	before := shared.Grants().Secrets()
	writeFile(t, c.ContinueKeyFile, "445536bcd2513298075a5d379663c962\n")
	if shared.Files().Reload(); shared.Grants().Secrets() == before {
		t.Error("the changed file does not apply")
	}
	c.ContinueCategories = config.List{"scam", "fraud"}
	if _, err := NewContinue(c, log); err == nil || !strings.Contains(err.Error(), `REMPART_CONTINUE_CATEGORIES="fraud"`) || !strings.Contains(err.Error(), "stalkerware") {
		t.Errorf("an unknown category: %v", err)
	}
}
