package upstream

import (
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestQueriesOfSameLengthAreJoined checks which datagrams of a batch become one message.
func TestQueriesOfSameLengthAreJoined(t *testing.T) {
	var b datagramBatch
	var s segments
	b.init()
	for i, length := range []int{40, 40, 40, 41, 50, 50} {
		b.set(i, make([]byte, length))
	}
	if n := s.join(&b, 0, 6); n != 3 || s.first[0] != 0 || s.first[1] != 3 || s.first[2] != 4 || s.first[3] != 6 {
		t.Errorf("%d messages, the first datagrams are %v; want 3 messages, with the first datagrams 0, 3 and 4", n, s.first[:n+1])
	}
	for i, want := range []uint64{3, 1, 2} {
		if h := s.headers[i].Hdr; uint64(h.Iovlen) != want || (h.Control != nil) != (want > 1) {
			t.Errorf("message %d has %d datagrams, control message %v", i, h.Iovlen, h.Control != nil)
		}
	}
	s.off = true
	if n := s.join(&b, 1, 6); n != 5 || s.first[0] != 1 || s.first[5] != 6 {
		t.Errorf("without joining: %d messages, the first datagrams are %v; want 5 messages, one for each datagram", n, s.first[:n+1])
	}
}

// TestQueriesAreSentSeparatelyWhereTheyCannotBeJoined checks that every question is asked if the kernel refuses to divide a message, as it does without checksums.
func TestQueriesAreSentSeparatelyWhereTheyCannotBeJoined(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint(refuse), func(t *testing.T) {
			var received atomic.Int32
			u := newRawUpstream(t, func(u *rawUpstream, query []byte, from netip.AddrPort) {
				received.Add(1)
				u.reply(query, from)
			})
			p := newPool(t, nil, "udp://"+u.addr.String())
			e := &ended{all: map[string][]*Pending{}}
			s := p.NewSender(time.Minute, e.receive)
			for range 200 { // opens all ports
				s.Send([]*Pending{{Question: question(t, "first.example")}})
			}
			e.wait(t, 200)
			for _, o := range s.line.open {
				if err := setNoCheck(o.(*port).raw, refuse); err != nil {
					t.Fatal(err)
				}
			}
			var all []*Pending
			for i := range 200 {
				all = append(all, &Pending{Question: question(t, fmt.Sprintf("%s%d.example", strings.Repeat("n", 1+i%7), i))})
			}
			if left := s.Send(all); len(left) > 0 {
				t.Errorf("%d questions could not be sent", len(left))
			}
			e.wait(t, 400)
			if s.line.joined.off != refuse {
				t.Errorf("datagrams are joined: %v, want %v", !s.line.joined.off, !refuse)
			}
			if n := received.Load(); n < 400 {
				t.Errorf("the upstream received %d queries, want 400", n)
			}
		})
	}
}

// setNoCheck makes a socket send datagrams with a checksum, or without.
func setNoCheck(raw syscall.RawConn, on bool) (err error) {
	value := 0
	if on {
		value = 1
	}
	failed := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, value) })
	if failed != nil {
		return failed
	}
	return err
}
