package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/pushapi"
)

// startControl runs a control, without a server, until the test ends.
func startControl(t *testing.T, env ...string) *dnstest.Program {
	t.Helper()
	env = append([]string{"REMPART_PUSH_LISTEN=127.0.0.1:0", "REMPART_METRICS_LISTEN=none"}, env...)
	return dnstest.StartProgram(t, exec.Command("rempart", "control"), env...)
}

// operator runs a command that calls a control, with the token unless it is empty, and returns its output and its exit code.
func operator(t *testing.T, control *dnstest.Program, token string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return operatorEnv(t, []string{"REMPART_API=" + control.API, "REMPART_KEYS=" + keysOf(control), "REMPART_API_TOKEN=" + token}, args...)
}

func operatorEnv(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.Command("rempart", args...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &errs, t.TempDir()
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	_ = cmd.Run() // the exit code is returned below
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func keysOf(control *dnstest.Program) string { return filepath.Join(control.DataDir, "keys") }

// must returns the output of a command that must succeed.
func must(t *testing.T, control *dnstest.Program, token string, args ...string) string {
	t.Helper()
	stdout, stderr, code := operator(t, control, token, args...)
	if code != 0 {
		t.Fatalf("rempart %s: exit code %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

func newToken(t *testing.T, control *dnstest.Program, name, role string) string {
	t.Helper()
	return must(t, control, "", "token", "create", name, "--role", role)
}

func rootOf(t *testing.T, control *dnstest.Program) string {
	t.Helper()
	for line := range strings.Lines(must(t, control, "", "keys", "list")) {
		if fields := strings.Fields(line); fields[0] == "root" {
			return fields[1]
		}
	}
	t.Fatal("the output contains no root key")
	return ""
}

// edgeEnv returns the variables of a program that follows a control.
func edgeEnv(t *testing.T, control *dnstest.Program, name string) []string {
	t.Helper()
	return []string{
		"REMPART_CONTROL=" + control.API + "/v1/journal", "REMPART_CONTROL_KEY=" + rootOf(t, control),
		"REMPART_CONTROL_TOKEN=" + newToken(t, control, name, "node"), "REMPART_NODE=" + name,
	}
}

// startEdge runs a server that follows a control, and waits until control lists it as up to date, because before that "--wait" does not wait for it.
func startEdge(t *testing.T, control *dnstest.Program, name string, env ...string) *dnstest.Program {
	t.Helper()
	edge := start(t, append(edgeEnv(t, control, name), env...)...)
	watch := newToken(t, control, "watch-"+name, "auditor")
	dnstest.Eventually(t, name+" is listed as up to date", func() bool {
		time.Sleep(100 * time.Millisecond) // control limits the rate of calls
		var all struct{ Nodes []pushapi.NodeInfo }
		if err := json.Unmarshal(apiAnswer(t, control, watch, "/v1/nodes"), &all); err != nil {
			t.Fatal(err)
		}
		listed := false
		for _, n := range all.Nodes {
			if n.Behind > 0 || n.Gone || n.Awaited || n.Problem != "" {
				return false
			}
			listed = listed || n.Node == name || strings.HasPrefix(n.Node, name+"/")
		}
		return listed
	})
	return edge
}
