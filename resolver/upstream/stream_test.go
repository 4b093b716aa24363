package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/wire"
)

// piped returns a stream whose connections are pipes in memory, which work under virtual time.
// serve serves a connection; n is 1 for the first connection.
func piped(t *testing.T, serve func(c net.Conn, n int32)) *stream {
	var dialled atomic.Int32
	s := &stream{group: newGroup(), spend: func(bool) bool { return true }, foreign: new(atomic.Uint64)}
	s.dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		n := dialled.Add(1)
		if !s.group.start(func() { defer far.Close(); serve(far, n) }) {
			return nil, net.ErrClosed
		}
		return near, nil
	}
	return s
}

// answerAll answers the queries of c: all queries if only is 0, otherwise as many as only says.
func answerAll(c net.Conn, only int) {
	for n := 1; ; n++ {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		msg := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, msg); err != nil {
			return
		}
		if only != 0 && n > only {
			continue
		}
		wire.SetFlags(msg, wire.FlagQR)
		c.Write(append(size[:], msg...))
	}
}

func pipes(s *stream) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pipes)
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := piped(t, func(c net.Conn, _ int32) { answerAll(c, 0) })
		defer s.group.end()
		q := question(t, "www.example.org")
		for range 3 {
			if _, _, err := s.ask(t.Context(), &q, form{edns: true}); err != nil {
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
		s := piped(t, func(c net.Conn, _ int32) { answerAll(c, 1) })
		defer s.group.end()
		q := question(t, "www.example.org")
		if _, _, err := s.ask(t.Context(), &q, form{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := s.ask(ctx, &q, form{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(stallAfter)
		if got := pipes(s); got != 0 {
			t.Errorf("%d connections, want 0", got)
		}
	})
}

// TestForgottenConnectionIsReplaced checks that a question on a connection that a firewall has forgotten is answered over a new connection.
func TestForgottenConnectionIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := piped(t, func(c net.Conn, n int32) {
			if n == 1 {
				answerAll(c, 1)
				return
			}
			answerAll(c, 0)
		})
		e, err := ParseEndpoint("tcp://192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(Config{Endpoints: []Endpoint{e}, open: func(Endpoint) exchanger { return &transport{stream: s, spend: s.spend} }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.group.end()
		defer p.group.end()
		ask(t, p)
		if took := ask(t, p); took >= 300*time.Millisecond {
			t.Errorf("answered after %v, want less than 300 ms", took)
		}
	})
}

func TestManyQuestionsUseFewConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := piped(t, func(c net.Conn, _ int32) { io.Copy(io.Discard, c) })
		defer s.group.end()
		q := question(t, "www.example.org")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		const more = 10
		full := atomic.Int32{}
		done := make(chan struct{})
		for range maxPipes*maxPending + more {
			go func() {
				defer func() { done <- struct{}{} }()
				if _, _, err := s.ask(ctx, &q, form{}); errors.Is(err, errFull) {
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
			s := piped(t, func(c net.Conn, _ int32) {
				go io.Copy(io.Discard, c)
				c.Write(sent)
			})
			defer s.group.end()
			q := question(t, "www.example.org")
			// The result is not checked: random bytes are an answer if they contain the right ID, which has only two bytes.
			s.ask(t.Context(), &q, form{})
		})
	})
}
