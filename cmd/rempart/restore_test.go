package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// TestRestoredControlRequiresRecover checks a control whose data folder was restored from a backup that is older than the version on a server: control
// publishes nothing, the error names --recover, and after --recover all change sets are in force and listed again.
func TestRestoredControlRequiresRecover(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long under the race detector")
	}
	t.Parallel()
	u, data, backup := dnstest.NewUpstream(t, nil), t.TempDir(), filepath.Join(t.TempDir(), "backup")
	listen := "REMPART_PUSH_LISTEN=" + dnstest.FreeAddr(t) // the server finds control at the same address after each restart
	control := startControl(t, "REMPART_DATA_DIR="+data, listen)
	ada := newToken(t, control, "ada", "publisher")
	edge := startEdge(t, control, "paris", upstreams(u))
	push := func(name string) (stdout, stderr string, code int) {
		list := filepath.Join(t.TempDir(), "names.txt")
		write(t, list, name+".example")
		return operator(t, control, ada, "push", list, "--id", name, "--wait")
	}
	if stdout, stderr, code := push("before"); code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	restart := func(from string, args ...string) {
		t.Helper()
		control.Stop(t)
		if from != "" {
			if err := os.RemoveAll(data); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(data, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		control = startControlArgs(t, args, "REMPART_DATA_DIR="+data, listen)
	}
	control.Stop(t)
	if err := os.CopyFS(backup, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	control = startControl(t, "REMPART_DATA_DIR="+data, listen)
	if stdout, stderr, code := push("lost"); code != 0 || !strings.Contains(stdout, "in force on 1 of 1 server") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}

	restart(backup)
	stdout, stderr, code := push("fork")
	if code != 2 || !strings.Contains(stderr, "--recover") || !strings.Contains(stderr, "paris") {
		t.Errorf("a push to the restored control: exit code %d\n%s%s", code, stdout, stderr)
	}
	if stdout, _, code := operator(t, control, ada, "nodes"); code != 1 || !strings.Contains(stdout, "later version than this journal") {
		t.Errorf("nodes: exit code %d\n%s", code, stdout)
	}

	edges := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(edges, os.DirFS(filepath.Join(edge.DataDir, "edge"))); err != nil {
		t.Fatal(err)
	}
	restart("", "--recover", edges)
	if stdout, stderr, code := push("after"); code != 0 || !strings.Contains(stdout, "in force on 1 of 1 server") {
		t.Errorf("a push after --recover: exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, name := range []string{"before", "lost", "after"} {
		if got := address(ask(t, edge, name+".example")); got != page {
			t.Errorf("%s.example: %s", name, got)
		}
	}
	if list := must(t, control, ada, "changesets"); !strings.Contains(list, "lost ") || !strings.Contains(list, "recovered") {
		t.Errorf("the recovered change set is not listed:\n%s", list)
	}
	must(t, control, ada, "undo", "lost", "--wait")
	if got := address(ask(t, edge, "lost.example")); got != origin {
		t.Errorf("lost.example after its undo: %s", got)
	}
}

// startControlArgs is startControl with arguments for the command.
func startControlArgs(t *testing.T, args []string, env ...string) *dnstest.Program {
	t.Helper()
	return dnstest.StartProgram(t, exec.Command("rempart", append([]string{"control"}, args...)...), append([]string{"REMPART_METRICS_LISTEN=none"}, env...)...)
}
