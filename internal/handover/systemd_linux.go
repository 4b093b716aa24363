package handover

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// memory returns a new anonymous file in memory.
func memory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("rempart "+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating a file in memory: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// flushPatience bounds Flush: systemd answers within milliseconds, unless it is busy.
const flushPatience = time.Second

// Flush waits until systemd has received everything, for at most a second. Without it, systemd drops the messages of a process that has ended meanwhile
// (sd_notify_barrier(3)).
func (s *Store) Flush() {
	if !s.Enabled() {
		return
	}
	read, write, err := os.Pipe()
	if err != nil {
		s.log.Warn("systemd may not have received the sockets and the cache", "error", err)
		return
	}
	defer read.Close()
	err = s.send("BARRIER=1", int(write.Fd()))
	write.Close()
	if err == nil {
		err = read.SetReadDeadline(time.Now().Add(flushPatience))
	}
	if err == nil {
		// systemd closes its copy of the other end when it comes to this message.
		if _, err = read.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if err != nil {
		s.log.Warn("systemd may not have received the sockets and the cache", "error", err)
	}
}

// send sends a message with descriptors to systemd.
func (s *Store) send(message string, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendPatience)); err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendmsg(int(fd), []byte(message), rights, nil, unix.MSG_NOSIGNAL)
		return sent != unix.EAGAIN
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.deaf.Store(true)
	}
	if err = errors.Join(err, sent); err != nil {
		return fmt.Errorf("sending to systemd: %w", err)
	}
	return nil
}

const (
	firstPassed = 3    // sd_listen_fds(3)
	maxPassed   = 4096 // more than FileDescriptorStoreMax= of any unit
)

// boundPassed lowers LISTEN_FDS to the number of descriptors that were passed in fact: taking one that the runtime of Go has opened itself would end the process.
// Passed descriptors stay open across exec, and those of the runtime do not.
func boundPassed(log *slog.Logger) {
	named, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return // nothing is taken then
	}
	passed := 0
	for passed < min(named, maxPassed) {
		if flags, err := unix.FcntlInt(uintptr(firstPassed+passed), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			break
		}
		passed++
	}
	if passed < named {
		log.Warn("LISTEN_FDS names more descriptors than were passed: the others are ignored", "named", named, "passed", passed)
		_ = os.Setenv("LISTEN_FDS", strconv.Itoa(passed))
	}
}
