package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// piped returns a stream whose connections are pipes in memory, which work under virtual time. end closes them.
// serve serves a connection; n is 1 for the first connection.
func piped(t *testing.T, serve func(c net.Conn, n int32)) (s *stream, end func()) {
	t.Helper()
	var dialled atomic.Int32
	g, end := newGroup()
	s = &stream{group: g, spend: func(bool) bool { return true }, foreign: new(atomic.Uint64)}
	s.dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		n := dialled.Add(1)
		if !s.group.start(func() { defer far.Close(); serve(far, n) }) {
			return nil, net.ErrClosed
		}
		return near, nil
	}
	return s, end
}

// answerAll answers the queries of c: all queries if only is 0, otherwise as many as only says.
func answerAll(c net.Conn, only int) {
	for n := 1; only == 0 || n <= only; n++ {
		if !answerNext(c) {
			return
		}
	}
	io.Copy(io.Discard, c)
}

// answerNext answers the next query of c, and reports whether there was one.
func answerNext(c net.Conn) bool {
	msg, err := dnstest.ReadFrame(c)
	if err != nil {
		return false
	}
	wire.SetFlags(msg, wire.FlagQR)
	c.Write(dnstest.Framed(msg))
	return true
}

func pipes(s *stream) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pipes)
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, end := piped(t, func(c net.Conn, _ int32) { answerAll(c, 0) })
		defer end()
		q := question(t, "www.example.org")
		for range 3 {
			if _, _, err := s.ask(t.Context(), &q, Form{EDNS: true}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(idleAfter - time.Second)
			if got := pipes(s); got != 1 {
				t.Fatalf("%d connections before the idle time is over, want 1", got)
			}
		}
		time.Sleep(2 * time.Second)
		if got := pipes(s); got != 0 {
			t.Errorf("%d connections after the idle time, want 0", got)
		}
	})
}

func TestStalledConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, end := piped(t, func(c net.Conn, _ int32) { answerAll(c, 1) })
		defer end()
		q := question(t, "www.example.org")
		if _, _, err := s.ask(t.Context(), &q, Form{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.ask(ctx, &q, Form{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(stallAfter)
		if got := pipes(s); got != 0 {
			t.Errorf("%d connections, want 0", got)
		}
	})
}

func TestManyQuestionsUseFewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, end := piped(t, func(c net.Conn, _ int32) { io.Copy(io.Discard, c) })
		defer end()
		q := question(t, "www.example.org")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		const more = 10
		full := atomic.Int32{}
		done := make(chan struct{})
		for range maxPipes*maxPending + more {
			go func() {
				defer func() { done <- struct{}{} }()
				if _, _, err := s.ask(ctx, &q, Form{}); errors.Is(err, errFull) {
					full.Add(1)
				}
			}()
		}
		synctest.Wait()
		if got := pipes(s); got != maxPipes {
			t.Errorf("%d connections, want %d", got, maxPipes)
		}
		for range maxPipes*maxPending + more {
			<-done
		}
		if got := full.Load(); got != more {
			t.Errorf("%d questions were refused, want %d", got, more)
		}
	})
}

func FuzzStream(f *testing.F) {
	f.Add([]byte("\x00\x0cabcdefghijkl"))
	f.Add([]byte("\x00\x01a"))
	f.Add([]byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		synctest.Test(t, func(t *testing.T) {
			s, end := piped(t, func(c net.Conn, _ int32) {
				go io.Copy(io.Discard, c)
				c.Write(sent)
			})
			defer end()
			q := question(t, "www.example.org")
			// The result is not checked: random bytes are an answer if they contain the right ID, which has only two bytes.
			s.ask(t.Context(), &q, Form{})
		})
	})
}
