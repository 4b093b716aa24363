package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"rempart/internal/dnstest"
	"rempart/resolver/upstream/transport"
)

// logLines collects the lines of a log.
type logLines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logLines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// with returns the lines that contain text.
func (l *logLines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// noDescriptors makes the process unable to open files and sockets until free is called, or the test ends.
func noDescriptors(t testing.TB) (free func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(soft uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: soft, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
	}
	free = sync.OnceFunc(func() { set(limit.Cur) })
	t.Cleanup(free)
	set(0)
	if f, err := os.Open("/dev/null"); !errors.Is(err, syscall.EMFILE) {
		f.Close()
		t.Fatalf("opening a file: %v, want EMFILE", err)
	}
	return free
}

// askAll sends questions one after the other, those that Send leaves by Exchange, and returns the first error.
func askAll(t testing.TB, p *Pool, s *Sender, e *ended, all []*Pending) error {
	t.Helper()
	before := e.count()
	for i, q := range all {
		for _, q := range s.Send([]*Pending{q}) {
			q.Answer, q.Err = p.Exchange(t.Context(), q.Question)
			e.receive([]*Pending{q})
		}
		e.wait(t, before+i+1)
		if err := e.ownAnswer(q); err != nil {
			return err
		}
	}
	return nil
}

// TestOldPortsServeWithoutFreeDescriptors checks that questions are sent over worn ports while no descriptor is free, that one log line says so, and that the
// ports are replaced when descriptors are free again.
func TestOldPortsServeWithoutFreeDescriptors(t *testing.T) {
	const most = 20
	var mu sync.Mutex
	used := map[uint16]int{}
	u := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
		mu.Lock()
		used[from.Port()]++
		mu.Unlock()
		u.reply(query, from)
	})
	ports := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(used)
	}
	var lines logLines
	p := newPoolOf(t, Config{Log: lines.logger(), patience: defaultTimeout, plainAfter: defaultTimeout}, "udp://"+u.addr.String())
	e := &ended{all: map[string][]*Pending{}}
	s := senderOf(p, e)
	s.line.most = most
	all := pendings(t, 1000)
	if err := askAll(t, p, s, e, all[:2]); err != nil {
		t.Fatal(err)
	}
	before := ports()
	s.line.ports[0][0].close(time.Minute) // a port that takes no more questions is not used, although no other is free at its place
	if before == 1 {
		if _, err := s.line.openPort(p.members[0]); err != nil {
			t.Fatal(err)
		}
		fresh, err := s.line.openPort(p.members[0])
		if err != nil {
			t.Fatal(err)
		}
		s.line.ports[0] = append(s.line.ports[0], fresh)
	}
	free := noDescriptors(t)
	if err := askAll(t, p, s, e, all[2:500]); err != nil {
		t.Error(err)
	}
	if n := ports(); n > 2 {
		t.Errorf("%d ports were used, want the two open ones", n)
	}
	free()
	began := time.Now()
	if err := askAll(t, p, s, e, all[500:]); err != nil {
		t.Error(err)
	}
	t.Logf("%d questions after descriptors were free took %v", len(all)-500, time.Since(began))
	if n := ports(); n < 500/most/2 {
		t.Errorf("%d ports were used for 500 questions after descriptors were free, want about %d", n, 500/most)
	}
	if got := lines.with("LimitNOFILE"); len(got) != 1 || !strings.Contains(got[0], "ulimit -n") {
		t.Errorf("%d log lines say that the limit was reached, want one: %q", len(got), got)
	}
	if st := p.Stats().Upstreams[0]; !st.Healthy {
		t.Errorf("the upstream is down: %+v", st)
	}
}

// TestQuestionsWaitForFreeDescriptors checks that questions that need a socket are answered when descriptors become free before the client gives up.
func TestQuestionsWaitForFreeDescriptors(t *testing.T) {
	const questions = 50
	u := newRawUpstream(t, answering)
	var lines logLines
	p := newPoolOf(t, Config{Log: lines.logger()}, "udp://"+u.addr.String())
	free := noDescriptors(t)
	var asking sync.WaitGroup
	var failed atomic.Int64
	for _, q := range pendings(t, questions) {
		asking.Go(func() {
			if _, err := p.Exchange(t.Context(), q.Question); err != nil {
				failed.Add(1)
				t.Logf("%v", err)
			}
		})
	}
	dnstest.Eventually(t, "all questions failed to open a socket once", func() bool { return p.Stats().Upstreams[0].Failures[transport.Local] >= questions })
	free()
	began := time.Now()
	asking.Wait()
	t.Logf("all questions ended %v after descriptors were free", time.Since(began))
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d questions failed", n, questions)
	}
	st := p.Stats().Upstreams[0]
	if !st.Healthy || st.Failures[transport.Unreachable] > 0 {
		t.Errorf("the upstream was taken for unreachable: %+v", st)
	}
	if got := lines.with("LimitNOFILE"); len(got) != 1 {
		t.Errorf("%d log lines say that the limit was reached, want one: %q", len(got), got)
	}
}

// TestShortageIsNotBlamedOnUpstream checks every error that says that this machine lacks something: the question ends with ErrShortage, the upstream stays healthy,
// the failure is counted as local, and another upstream with an open connection is asked.
func TestShortageIsNotBlamedOnUpstream(t *testing.T) {
	u := dnstest.NewUpstream(t, nil)
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EAGAIN} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			short := atomic.Bool{}
			dial := func(ctx context.Context, network, address string) (net.Conn, error) {
				if short.Load() {
					return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("socket", errno)}
				}
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			p := newPoolOf(t, Config{Dial: dial, Timeout: 10 * time.Second}, overUDP(u))
			both := newPoolOf(t, Config{Dial: dial, Timeout: 10 * time.Second}, overUDP(u), overTCP(u))
			if _, err := both.members[1].via.Exchange(t.Context(), &transport.Request{Question: question(t, "open.example")}); err != nil {
				t.Fatal(err)
			}
			short.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := p.Exchange(ctx, question(t, "www.example")); !errors.Is(err, ErrShortage) || !errors.Is(err, errno) {
				t.Errorf("error %v, want ErrShortage with the cause", err)
			}
			if st := p.Stats().Upstreams[0]; !st.Healthy || st.Failures[transport.Local] == 0 || st.Failures[transport.Unreachable]+st.Failures[transport.Timeout] > 0 {
				t.Errorf("%+v; want a healthy upstream with local failures only", st)
			}
			if _, err := both.Exchange(t.Context(), question(t, "www.example")); err != nil {
				t.Errorf("the open connection to the second upstream was not used: %v", err)
			}
			short.Store(false)
			if _, err := p.Exchange(t.Context(), question(t, "www.example")); err != nil {
				t.Errorf("after the shortage: %v", err)
			}
		})
	}
}

// TestFullSendBufferLosesNoQuestion makes sendmmsg(2) fail for lack of room, after it has sent nothing or some datagrams of a batch. Every question is answered, the
// port stays in use, and the upstream stays healthy.
func TestFullSendBufferLosesNoQuestion(t *testing.T) {
	const batches, size = 20, 20
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM} {
		for _, sends := range []int{0, 7} {
			t.Run(fmt.Sprintf("%v after %d", errno, sends), func(t *testing.T) {
				u := newRawUpstream(t, answering)
				var lines logLines
				p := newPoolOf(t, Config{Log: lines.logger(), patience: defaultTimeout, plainAfter: defaultTimeout}, "udp://"+u.addr.String())
				e := &ended{all: map[string][]*Pending{}}
				s := senderOf(p, e)
				all := pendings(t, batches*size)
				var asking sync.WaitGroup
				for i := range batches {
					if i > 0 {
						for _, port := range s.line.ports[0] {
							failFirst(port, errno, sends)
						}
					}
					for _, q := range s.Send(all[i*size : (i+1)*size]) {
						asking.Go(func() {
							q.Answer, q.Err = p.Exchange(t.Context(), q.Question)
							e.receive([]*Pending{q})
						})
					}
				}
				e.wait(t, len(all))
				asking.Wait()
				for _, q := range all {
					if err := e.ownAnswer(q); err != nil {
						t.Fatal(err)
					}
				}
				if st := p.Stats().Upstreams[0]; !st.Healthy {
					t.Errorf("the upstream is down: %+v", st)
				}
				for _, port := range s.line.ports[0] {
					if port.isClosing() {
						t.Error("a port takes no more questions")
					}
				}
				if got := lines.with("lacks memory"); len(got) != 1 {
					t.Errorf("%d log lines, want one: %q", len(got), got)
				}
			})
		}
	}
}

// failFirst makes the next batch over a port fail after sends datagrams.
func failFirst(p *port, errno unix.Errno, sends int) {
	w := &p.writing
	real := w.send
	if sends > 0 {
		w.send = func(fd uintptr) {
			to := w.to
			w.to = min(to, w.from+sends)
			real(fd)
			w.to = to
			w.send = func(uintptr) { w.sent, w.errno, w.send = 0, errno, real }
		}
		return
	}
	w.send = func(uintptr) { w.sent, w.errno, w.send = 0, errno, real }
}

// TestShortageIsLoggedOncePerEpisode checks that failures that follow each other are logged once, however long they continue, and again after a minute without one.
func TestShortageIsLoggedOncePerEpisode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines logLines
		var s shortage
		for range 100 {
			s.note(lines.logger(), syscall.EMFILE)
			s.note(lines.logger(), syscall.ENOBUFS)
			time.Sleep(shortageEnd / 2)
		}
		if got := lines.with("WARN"); len(got) != 2 {
			t.Errorf("got %d lines, want one for each of two shortages: %q", len(got), got)
		}
		time.Sleep(shortageEnd)
		s.note(lines.logger(), syscall.EMFILE)
		if got := lines.with("LimitNOFILE"); len(got) != 2 {
			t.Errorf("got %d lines for two episodes: %q", len(got), got)
		}
	})
}
