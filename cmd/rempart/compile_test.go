package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// TestCompileDoesNotWriteIntoFolderOfServer checks that "rempart compile" does not write into the data folder of a running server, even if that server has
// other settings.
func TestCompileDoesNotWriteIntoFolderOfServer(t *testing.T) {
	t.Parallel()
	p := start(t, upstreams(dnstest.NewUpstream(t, nil)))
	cmd := exec.Command("rempart", "compile", "-o", filepath.Join(p.DataDir, "set.snapshot"))
	cmd.Env = append(cmd.Environ(), "REMPART_DATA_DIR="+t.TempDir(), "REMPART_LISTS="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in the data folder of a running server") {
		t.Errorf("compile: %v: %s; want a refusal to write into the data folder of a running server", err, out)
	}
}
