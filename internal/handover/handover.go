// Package handover passes sockets and memory on to the process that systemd starts after this one, through systemd's file descriptor store
// (sd_pid_notify_with_fds(3), FileDescriptorStoreMax= in systemd.service(5)). Queries that arrive while no process runs wait in the sockets. The memory is in
// anonymous files, never on a disk.
package handover

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
)

// prefix distinguishes the names of stored descriptors from the names of socket units.
const prefix = "kept "

// Store holds the descriptors that this process received from systemd, and passes others on. Without systemd it holds none and passes none on. Its methods may be
// called concurrently.
type Store struct {
	log       *slog.Logger
	activated []*os.File
	conn      *net.UnixConn // to systemd; nil without systemd
	deaf      atomic.Bool   // systemd did not read a message in time: it gets no more

	mu   sync.Mutex
	kept map[string]*os.File // by name, with prefix
}

// sendPatience bounds the time of a message to systemd, which reads within milliseconds unless it is busy. A supervisor that sets NOTIFY_SOCKET and never reads must
// keep no process from starting and from ending.
const sendPatience = 2 * time.Second

// Notify sends the state of this process to systemd (sd_notify(3)). Without systemd it does nothing.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(sendPatience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}

// Open returns the store of this process. It removes the variables with which systemd described the descriptors, so call it once.
func Open(log *slog.Logger) *Store {
	s := &Store{log: log, kept: map[string]*os.File{}}
	if path := os.Getenv("NOTIFY_SOCKET"); path != "" {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			log.Warn("systemd cannot be reached, so a restart will lose queries", "error", err)
		} else {
			s.conn = conn
		}
	}
	boundPassed(log)
	for _, f := range activation.Files(true) {
		switch name := f.Name(); {
		case !strings.HasPrefix(name, prefix):
			s.activated = append(s.activated, f)
		case s.kept[name] != nil:
			f.Close() // a second one of the same name, which nobody would find
		default:
			s.kept[name] = f
		}
	}
	return s
}

// Activated returns the sockets of socket units (systemd.socket(5)). The caller closes them.
func (s *Store) Activated() []*os.File { return s.activated }

// Enabled reports whether something receives what this process passes on.
func (s *Store) Enabled() bool { return s.conn != nil && !s.deaf.Load() }

// Take returns the descriptor that an earlier process passed on under a name, and that nobody took yet; nil if there is none. The caller closes it. It stays in
// systemd's store.
func (s *Store) Take(name string) *os.File {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.kept[prefix+name]
	delete(s.kept, prefix+name)
	return f
}

// Drop removes the descriptors of a name from systemd's store: they are useless.
func (s *Store) Drop(name string) { s.remove(prefix + name) }

// Keep passes a copy of a socket on under a name, which has no colon. A failure is logged: the socket is in use anyway.
func (s *Store) Keep(name string, socket syscall.Conn) {
	if !s.Enabled() {
		return
	}
	if err := s.keep(name, socket); err != nil {
		s.log.Warn("a socket could not be passed to systemd, so a restart will lose queries on it", "socket", name, "error", err)
	}
}

func (s *Store) keep(name string, socket syscall.Conn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) { sent = s.store(name, int(fd)) })
	return errors.Join(err, sent)
}

// store makes systemd keep a descriptor. Without FDPOLL=0, systemd would drop a socket on which an error is pending, such as one that ICMP reported.
func (s *Store) store(name string, fd int) error {
	return s.send("FDSTORE=1\nFDPOLL=0\nFDNAME="+prefix+name, fd)
}

// Write passes bytes on under a name, which has no colon. Flush must follow.
func (s *Store) Write(name string, write func(io.Writer) error) error {
	if !s.Enabled() {
		return nil
	}
	f, err := memory(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	return s.store(name, int(f.Fd()))
}

// Read returns the bytes that the process before this one passed on under a name, and removes them from the store; nil if there are none. The caller closes the file.
func (s *Store) Read(name string) *os.File {
	f := s.Take(name)
	if f == nil {
		return nil
	}
	s.remove(prefix + name)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		s.log.Warn("the file that the process before this one passed on cannot be read", "name", name, "error", err)
		f.Close()
		return nil
	}
	return f
}

// Discard closes the descriptors that this process has not taken, and removes them from the store. There are some, for example, after a change of the settings'
// addresses.
func (s *Store) Discard() { s.discard(func(string) bool { return true }) }

// Release discards the descriptors with names for which is returns true. It waits until the supervisor has closed them as well, and reports whether there were any.
func (s *Store) Release(is func(name string) bool) bool {
	if s.discard(is) == 0 {
		return false
	}
	s.Flush()
	return true
}

func (s *Store) discard(is func(name string) bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range s.kept {
		if is(strings.TrimPrefix(name, prefix)) {
			s.remove(name)
			f.Close()
			delete(s.kept, name)
			n++
		}
	}
	return n
}

func (s *Store) remove(name string) {
	if !s.Enabled() {
		return
	}
	if err := s.send("FDSTOREREMOVE=1\nFDNAME=" + name); err != nil {
		s.log.Warn("systemd keeps a descriptor that is no longer used", "name", name, "error", err)
	}
}
