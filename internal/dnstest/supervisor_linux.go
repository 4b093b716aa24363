package dnstest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Supervisor starts Rempart as systemd starts a service with a file descriptor store (FileDescriptorStoreMax=): it keeps descriptors that the process sends, and passes
// them to the next process (sd_pid_notify_with_fds(3), sd_listen_fds(3)). Its methods are for the goroutine of the test.
type Supervisor struct {
	Program *Program // that runs now

	env    []string
	socket string

	mu    sync.Mutex
	store []stored
}

// stored is a descriptor in the store.
type stored struct {
	name string
	file *os.File
}

// NewSupervisor starts Rempart with the variables in env, "NAME=value" each. It is stopped at the end of the test.
func NewSupervisor(t testing.TB, env ...string) *Supervisor {
	t.Helper()
	s := &Supervisor{socket: filepath.Join(t.TempDir(), "notify")}
	s.env = append(env, "NOTIFY_SOCKET="+s.socket, "REMPART_DATA_DIR="+t.TempDir())
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.socket, Net: "unixgram"})
	if err != nil {
		t.Fatalf("dnstest: %v", err)
	}
	var reading sync.WaitGroup
	reading.Go(func() { s.read(conn) })
	t.Cleanup(func() {
		conn.Close()
		reading.Wait()
		for _, f := range s.store {
			f.file.Close()
		}
	})
	s.Start(t)
	return s
}

// Start starts Rempart with the descriptors in the store, and further variables.
func (s *Supervisor) Start(t testing.TB, env ...string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "export LISTEN_PID=$$; exec rempart")
	var names []string
	s.mu.Lock()
	for _, f := range s.store { // copies, because Rempart may remove one from the store while it is being started
		fd, err := unix.FcntlInt(f.file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Errorf("dnstest: copying a descriptor: %v", err)
			continue
		}
		names = append(names, f.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(fd), f.name))
	}
	s.mu.Unlock()
	env = slices.Concat(s.env, env)
	if len(names) > 0 {
		env = append(env, fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	s.Program = LaunchProgram(t, cmd, env...)
	for _, f := range cmd.ExtraFiles { // otherwise a socket that Rempart removes from the store would stay open
		f.Close()
	}
	s.Program.awaitGreeting(t)
}

// Restart stops Rempart and starts it again, with further variables. The test fails unless Rempart ends with the exit code 0.
func (s *Supervisor) Restart(t testing.TB, env ...string) {
	t.Helper()
	if code := s.Program.Stop(t); code != 0 {
		t.Errorf("rempart ended with exit code %d", code)
	}
	s.Start(t, env...)
}

// Stored returns the names of the descriptors in the store.
func (s *Supervisor) Stored() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.store {
		names = append(names, f.name)
	}
	return names
}

// read handles the messages of Rempart until conn is closed.
func (s *Supervisor) read(conn *net.UnixConn) {
	buf, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(64))
	for {
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, control)
		if err != nil {
			return
		}
		var files []*os.File
		if messages, err := syscall.ParseSocketControlMessage(control[:oobn]); err == nil {
			for _, m := range messages {
				fds, _ := syscall.ParseUnixRights(&m)
				for _, fd := range fds {
					syscall.CloseOnExec(fd)
					files = append(files, os.NewFile(uintptr(fd), ""))
				}
			}
		}
		s.message(strings.Split(string(buf[:n]), "\n"), files)
	}
}

// message handles one message, which consists of assignments. Descriptors that are not stored are closed: the one of BARRIER=1 waits for that.
func (s *Supervisor) message(assignments []string, files []*os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := ""
	for _, a := range assignments {
		if v, ok := strings.CutPrefix(a, "FDNAME="); ok {
			name = v
		}
	}
	if slices.Contains(assignments, "FDSTORE=1") {
		for _, f := range files {
			s.store = append(s.store, stored{name, f})
		}
		return
	}
	for _, f := range files {
		f.Close()
	}
	if slices.Contains(assignments, "FDSTOREREMOVE=1") {
		s.store = slices.DeleteFunc(s.store, func(f stored) bool {
			if f.name == name {
				f.file.Close()
			}
			return f.name == name
		})
	}
}
