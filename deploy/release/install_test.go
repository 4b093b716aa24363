package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// testInstallation installs, upgrades, removes and purges the .deb in a Debian of its own, whose systemd runs.
func testInstallation(t *testing.T, o options) {
	if testing.Short() {
		t.Skip("it downloads a Debian")
	}
	need(t, "debootstrap", "unshare", "nsenter")
	if os.Getuid() != 0 {
		unavailable(t, "it needs root")
	}
	recent := one(t, o.out, "*_amd64.deb")
	o.version, o.targets = "0.1.0", must(findTargets("linux_amd64"))
	old := one(t, build(t, o), "*_amd64.deb")
	s := newSystem(t)
	for name, path := range map[string]string{"old.deb": old, "recent.deb": recent} {
		if err := os.WriteFile(filepath.Join(s.root, name), must(os.ReadFile(path)), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// In a chroot, no systemd runs.
	before := s.tree(t)
	command(t, ".", "chroot", s.root, "dpkg", "--install", "/old.deb")
	command(t, ".", "chroot", s.root, "dpkg", "--purge", "rempart")
	s.unchanged(t, before)

	s.boot(t)
	began := time.Now()
	s.run(t, "dpkg", "--install", "/old.deb")
	s.run(t, "systemctl", "is-active", "rempart.service")
	s.run(t, "systemctl", "is-enabled", "rempart.service")
	s.run(t, "rempart", "healthcheck")
	s.says(t, "v0.1.0", "rempart", "status")
	s.says(t, "blocked", "sh", "-c", "rempart check phishing.test || test $? = 1")
	if got := strings.TrimSpace(s.run(t, "stat", "--format=%U:%G %a", "/var/lib/rempart")); got != "rempart:rempart 700" {
		t.Errorf("the data belongs to %s", got)
	}
	if code, _ := s.attempt(t, "systemctl", "is-active", "--quiet", "rempart-control.service"); code == 0 {
		t.Error("control runs although nobody configured it")
	}

	t.Logf("from the package to a blocked answer: %v", time.Since(began).Round(time.Millisecond))

	// A household's setup replaces the settings of the package, and proves that the server blocks.
	s.says(t, "It works: the test name phishing.test is blocked", "rempart", "setup", "--yes", "--lists", "none")
	s.says(t, "REMPART_LISTEN=:53", "cat", "/etc/rempart/rempart.env")
	s.says(t, "answers", "sh", "-c", "rempart doctor || test $? = 1")

	s.run(t, "sh", "-c", "echo REMPART_ORGANISATION=mine >> /etc/rempart/rempart.env && rempart allow shop.example || true")
	s.run(t, "dpkg", "--install", "/recent.deb")
	s.says(t, "v"+testVersion, "rempart", "status") // the running server, not the command
	s.says(t, "REMPART_ORGANISATION=mine", "cat", "/etc/rempart/rempart.env")
	s.run(t, "rempart", "healthcheck")
	s.run(t, "systemctl", "reload", "rempart.service")
	testRestarts(t, s)

	testAnycast(t, s)

	s.run(t, "systemctl", "disable", "--now", "rempart.service")
	s.run(t, "dpkg", "--install", "/old.deb") // it allows a downgrade, with a warning
	if code, _ := s.attempt(t, "systemctl", "is-active", "--quiet", "rempart.service"); code == 0 {
		t.Error("an upgrade starts a service that was disabled")
	}
	s.run(t, "systemctl", "enable", "--now", "rempart.service")

	s.run(t, "dpkg", "--remove", "rempart")
	if code, _ := s.attempt(t, "pgrep", "-x", "rempart"); code == 0 {
		t.Error("the server runs after its removal")
	}
	s.says(t, "REMPART_ORGANISATION=mine", "cat", "/etc/rempart/rempart.env")
	s.run(t, "test", "-e", "/var/lib/rempart/set.snapshot")
	s.run(t, "dpkg", "--purge", "rempart")
	s.unchanged(t, before)

	// Another server uses port 53: the installation succeeds, starts nothing, and says what to do.
	s.run(t, "dpkg-deb", "--extract", "/old.deb", "/tmp/other")
	s.run(t, "systemd-run", "--unit=other", "--setenv=REMPART_LISTEN=127.0.0.1:53", "--setenv=REMPART_DATA_DIR=/tmp/other/data", "--setenv=REMPART_PAGE_LISTEN=none", "/tmp/other/usr/bin/rempart")
	s.eventually(t, "grep", "-q", "0100007F:0035", "/proc/net/udp")
	if _, said := s.attempt(t, "dpkg", "--install", "/recent.deb"); !strings.Contains(said, "another program uses port 53") {
		t.Errorf("the installation beside another server says %s", said)
	}
	if code, _ := s.attempt(t, "systemctl", "is-active", "--quiet", "rempart.service"); code == 0 {
		t.Error("the server was started although its port is taken")
	}
	s.run(t, "systemctl", "stop", "other.service")
	s.run(t, "systemctl", "start", "rempart.service")
	s.run(t, "rempart", "healthcheck")
}

// system is a Debian in a folder.
type system struct {
	root string
	pid  int // of its systemd, once it is booted
}

// newSystem installs a minimal Debian with systemd.
func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{root: filepath.Join(t.TempDir(), "root")}
	cmd := exec.CommandContext(t.Context(), "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,procps,iproute2", "bookworm", s.root)
	if out, err := cmd.CombinedOutput(); err != nil {
		unavailable(t, fmt.Sprintf("debootstrap: %v\n%s", err, out[max(0, len(out)-2000):]))
	}
	return s
}

// boot starts the systemd of the system. It is killed at the end of the test, with all its processes.
func (s *system) boot(t *testing.T) {
	t.Helper()
	var said bytes.Buffer
	cmd := exec.Command(filepath.Join("testdata", "boot.sh"), s.root)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(cgroup2(t), fmt.Sprintf("rempart-boot-%d", cmd.Process.Pid))
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // unshare --kill-child takes systemd with it, and the kernel takes the rest
		_ = cmd.Wait()
		removeGroups(group)
	})
	for range 600 { // a minute
		children := must(os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)))
		if _, err := fmt.Sscan(string(children), &s.pid); err == nil {
			if _, out := s.attempt(t, "systemctl", "is-system-running"); strings.TrimSpace(out) == "running" {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	unavailable(t, "systemd cannot be booted here: "+said.String())
}

// cgroup2 returns where version 2 of control groups is mounted.
func cgroup2(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(string(must(os.ReadFile("/proc/mounts")))) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	unavailable(t, "version 2 of control groups is not mounted")
	return ""
}

// removeGroups removes a control group and the groups below it, which the kernel keeps after their processes have ended.
func removeGroups(group string) {
	for range 50 {
		var groups []string
		_ = filepath.WalkDir(group, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				groups = append(groups, path)
			}
			return nil
		})
		slices.Reverse(groups)
		for _, g := range groups {
			_ = os.Remove(g)
		}
		if _, err := os.Stat(group); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond) // its processes are still ending
	}
}

// attempt runs a command in the booted system, and returns its exit code and its output.
func (s *system) attempt(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "nsenter", append([]string{"--target", fmt.Sprint(s.pid), "--all"}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"}
	said, _ := cmd.CombinedOutput() // ProcessState holds the exit code
	if cmd.ProcessState == nil {
		t.Fatalf("%q could not be run", args)
	}
	return cmd.ProcessState.ExitCode(), string(said)
}

// run runs a command that must succeed, and returns its output.
func (s *system) run(t *testing.T, args ...string) string {
	t.Helper()
	code, out := s.attempt(t, args...)
	if code != 0 {
		_, log := s.attempt(t, "journalctl", "--no-pager", "--lines=30")
		t.Fatalf("%q: exit code %d\n%s\n%s", args, code, out, log)
	}
	return out
}

// says runs a command that must succeed and print part.
func (s *system) says(t *testing.T, part string, args ...string) {
	t.Helper()
	if out := s.run(t, args...); !strings.Contains(out, part) {
		t.Errorf("%q does not say %q:\n%s", args, part, out)
	}
}

// eventually runs a command until it succeeds.
func (s *system) eventually(t *testing.T, args ...string) {
	t.Helper()
	for range 200 {
		if code, _ := s.attempt(t, args...); code == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%q does not succeed", args)
}

// tree returns the paths of the files that a package could leave.
func (s *system) tree(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, folder := range []string{"etc", "usr", "var/lib"} {
		err := filepath.WalkDir(filepath.Join(s.root, folder), func(path string, _ os.DirEntry, err error) error {
			paths = append(paths, strings.TrimPrefix(path, s.root))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// unchanged checks that the system has no other files than before.
func (s *system) unchanged(t *testing.T, before []string) {
	t.Helper()
	known := map[string]bool{}
	for _, path := range before {
		known[path] = true
	}
	for _, path := range s.tree(t) {
		own := strings.HasPrefix(path, "/var/lib/systemd/") || strings.HasPrefix(path, "/var/lib/dpkg/") && !strings.Contains(path, "rempart")
		if base := filepath.Base(path); !known[path] && !own && !slices.Contains([]string{"passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock", "machine-id"}, base) {
			t.Errorf("the package leaves %s", path)
		}
	}
}
