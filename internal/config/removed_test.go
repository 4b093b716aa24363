package config

import (
	"strings"
	"testing"
)

// TestRemovedVariableIsRefused checks that a variable of an earlier version is refused, and that the error names the new setting.
func TestRemovedVariableIsRefused(t *testing.T) {
	misspelt, others := Unknown(map[string]string{"REMPART_NATS_LISTEN": "127.0.0.1:4222"})
	if len(misspelt) != 1 || len(others) != 0 || !strings.Contains(misspelt[0], "no longer a setting") || !strings.Contains(misspelt[0], "REMPART_CONTROL=https") {
		t.Errorf("Unknown: misspelt %q, others %q; want one that names REMPART_CONTROL", misspelt, others)
	}
}

// TestTokenForClusterIsRefused checks that a token is refused if REMPART_CONTROL names the servers of a NATS cluster, which use no tokens.
func TestTokenForClusterIsRefused(t *testing.T) {
	environ := map[string]string{"REMPART_CONTROL": "nats://nats1.example:4222", "REMPART_CONTROL_KEY": "root+00000000+AA", "REMPART_CONTROL_TOKEN": "secret", "HOME": t.TempDir()}
	if _, err := LoadFrom(environ); err == nil || !strings.Contains(err.Error(), "REMPART_NATS_CREDENTIALS") || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	delete(environ, "REMPART_CONTROL_TOKEN")
	if _, err := LoadFrom(environ); err != nil {
		t.Error(err)
	}
}
