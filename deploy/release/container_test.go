package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// testRunningImage runs the program of the image as a container engine does that mounts the image read-only: as the user of the image, with its variables, in its
// file system, of which only the volume can be written.
func testRunningImage(t *testing.T, o options) {
	need(t, "unshare", "chroot", "mount")
	if os.Getuid() != 0 {
		unavailable(t, "it needs root")
	}
	image := must(tarball.ImageFromPath(one(t, o.out, "*_linux_amd64.image.tar"), nil))
	config := must(image.ConfigFile()).Config
	root, volume := t.TempDir(), t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o755); err != nil { // the user of the image must reach it
		t.Fatal(err)
	}
	content := must(must(image.Layers())[0].Uncompressed())
	defer content.Close()
	unpack := exec.Command("tar", "-x", "-p", "-C", root)
	unpack.Stdin = content
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chown(volume, imageUser, imageUser); err != nil {
		t.Fatal(err)
	}
	// unshare, the shell and chroot replace themselves by the next program, so that the process is the program itself in the end.
	container := func(args ...string) *exec.Cmd {
		cmd := exec.Command("unshare", append([]string{"--mount", "sh", "-euc",
			`mount --bind "$1" "$1"; mount --bind "$2" "$1$3"; mount -o remount,bind,ro "$1"; user=$4 root=$1; shift 4; exec chroot --userspec="$user" "$root" "$@"`,
			"sh", root, volume, imageData, config.User}, args...)...)
		cmd.Env, cmd.WaitDelay = slices.Clone(config.Env), time.Second
		cmd.Env = append(cmd.Env, "REMPART_LISTEN=127.0.0.1:0", "REMPART_PAGE_LISTEN=127.0.0.1:0", "REMPART_METRICS_LISTEN=none", "REMPART_UPSTREAMS=udp://127.0.0.1:1")
		return cmd
	}
	var said strings.Builder
	server := container(config.Entrypoint...)
	server.Env = append(server.Env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin") // for the shell above
	server.Stdout, server.Stderr = &said, &said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	health := config.Healthcheck.Test[1:]
	run := func(args ...string) (string, error) {
		cmd := container(args...)
		cmd.Env = append(cmd.Env, "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := run(health...)
		if err == nil && out == "ready\n" {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the health check says %q, %v", out, err)
		}
	}
	if out, err := run("/rempart", "check", "phishing.test"); err == nil || !strings.Contains(out, "phishing.test: blocked") {
		t.Errorf("a command in the container: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(volume, "set.snapshot")); err != nil {
		t.Errorf("the volume holds no set: %v", err)
	}
	_ = server.Process.Kill()
	_ = server.Wait()
	if out, err := run(health...); err == nil || !strings.HasPrefix(out, "not ready: ") {
		t.Errorf("without a server, the health check says %q, %v", out, err)
	}
}
