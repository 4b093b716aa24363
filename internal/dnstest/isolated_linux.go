package dnstest

import (
	"flag"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const isolatedVariable = "DNSTEST_ISOLATED"

// Isolated runs the calling test once more, alone, in a process with a network and mounts of its own, and reports whether this is that process. The caller
// returns where it is not. The process gets the flags that the test's package defines. The network is a loopback interface alone; the test may add addresses
// (Command(t, "ip", …)) and mount over files. The test is skipped where the system grants no namespaces. It must not have called t.Parallel before.
func Isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolatedVariable) == t.Name() {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		Command(t, "ip", "link", "set", "lo", "up")
		return true
	}
	Need(t, "ip")
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=5m"}
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") {
			args = append(args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), isolatedVariable+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState == nil:
		t.Skipf("no namespaces can be made here: %v", err)
	case err != nil:
		t.Errorf("isolated: %v\n%s", err, out)
	default:
		t.Logf("isolated:\n%s", out)
	}
	return false
}
