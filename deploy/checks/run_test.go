package checks

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInstallationRuns runs control and a server with the settings and the mounted files of an installation; only the addresses differ. The server is not ready
// while its token is a placeholder, and becomes ready when the file contains a token.
func TestInstallationRuns(t *testing.T) {
	files, keys := manifests(t), filepath.Join(t.TempDir(), "keys")
	fillSite(t, files, keys)
	c := build(t, files, "/site")
	api, controlMetrics, edgeMetrics := freeAddr(t), freeAddr(t), freeAddr(t)

	settings, mounts := c.settings(t, "control"), c.mounts(t, "control")
	settings["REMPART_PUSH_LISTEN"], settings["REMPART_METRICS_LISTEN"] = api, controlMetrics
	startRempart(t, "control", settings, mounts)
	waitFor(t, controlMetrics, http.StatusOK)

	settings, mounts = c.settings(t, "edge"), c.mounts(t, "edge")
	settings["REMPART_LISTEN"], settings["REMPART_PAGE_LISTEN"], settings["REMPART_METRICS_LISTEN"] = "127.0.0.1:0", "127.0.0.1:0", edgeMetrics
	settings["REMPART_CONTROL"] = strings.Replace(settings["REMPART_CONTROL"], "control.rempart.svc:9254", api, 1)
	settings["REMPART_NODE"] = "node-1"
	startRempart(t, "serve", settings, mounts)
	waitFor(t, edgeMetrics, http.StatusServiceUnavailable)

	folder := mounts["/etc/rempart/control"]
	token := filepath.Join(t.TempDir(), "token")
	out, err := runProgram(t, []string{"token", "create", "kubernetes", "--role", "node", "--root", filepath.Join(keys, "root.key"), "-o", token},
		[]string{"REMPART_API=https://" + api, "REMPART_API_CA=" + filepath.Join(folder, "ca.crt")})
	if err != nil {
		t.Fatalf("rempart token create: %v\n%s", err, out)
	}
	if err := os.Rename(token, filepath.Join(folder, "token")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, edgeMetrics, http.StatusOK)
}

// startRempart runs a command of the program until the end of the test, and checks that it ends with exit code 0.
func startRempart(t *testing.T, command string, settings, mounts map[string]string) {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, command)
	cmd.Env = append(environment(settings, mounts), "HOME="+t.TempDir(), "REMPART_DATA_DIR="+t.TempDir())
	var wrote bytes.Buffer
	cmd.Stdout, cmd.Stderr = &wrote, &wrote
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("rempart %s: %v\n%s", command, err, wrote.String())
		}
	})
}

// waitFor waits until /readyz has a status.
func waitFor(t *testing.T, addr string, status int) {
	t.Helper()
	last := "no answer"
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		answer, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			continue
		}
		answer.Body.Close()
		if answer.StatusCode == status {
			return
		}
		last = answer.Status
	}
	t.Fatalf("/readyz: %s, want %d", last, status)
}

// freeAddr returns an unused address of loopback.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
