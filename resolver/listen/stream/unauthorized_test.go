package stream

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// TestUnauthorizedConnectionsUseNoSharedPlaces checks that connections of unauthorized clients are few and short, and use no places that other clients need.
func TestUnauthorizedConnectionsUseNoSharedPlaces(t *testing.T) {
	outsider := netip.MustParseAddr("127.0.0.66")
	config := setup{Serves: func(a netip.Addr) bool { return a != outsider }}
	s, _ := serve(t, &fake.Handler{}, config, func(s *Server) {
		s.limits.conns = 2
		s.limits.idle, s.limits.unauthorized = fake.Deadline, fake.Deadline // no connection times out before all are open
	})
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: outsider.AsSlice()}}
	open := func(s *Server) net.Conn {
		t.Helper()
		c, err := from.Dial("tcp", s.addrsOf(wire.TCP)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(fake.Deadline))
		return c
	}
	idle := make([]net.Conn, maxUnauthorized)
	for i := range idle {
		idle[i] = open(s)
	}
	if _, err := dnstest.ExchangePacked("tcp", s.addrsOf(wire.TCP)[0].String(), fake.Query(t, 1, "a.example")); err != nil {
		t.Errorf("an authorized client is not served: %v", err)
	}
	fake.Eventually(t, "every unauthorized connection was accepted", func() bool {
		return s.admission.Len(unauthorized) == maxUnauthorized
	})
	if _, err := open(s).Read(make([]byte, 1)); err == nil {
		t.Error("a connection above the limit of unauthorized connections was served")
	}
	packet := fake.Query(t, 2, "a.example")
	if _, err := idle[0].Write(append([]byte{0, byte(len(packet))}, packet...)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(idle[0]); err != nil || len(b) < 14 {
		t.Errorf("the query of an unauthorized client got %d bytes and error %v, want an answer and the end of the connection", len(b), err)
	}
	short, _ := serve(t, &fake.Handler{}, config, nil)
	if _, err := open(short).Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection of an idle unauthorized client is not closed: %v", err)
	}
}

// TestIdleConnectionHoldsNoMemory checks that a connection gives its workspace back, without the memory that large messages needed.
func TestIdleConnectionHoldsNoMemory(t *testing.T) {
	c := &connection{}
	c.server = &Server{}
	c.from = &c.server.workspaces
	c.ws = c.from.take()
	c.ws.in = append(make([]byte, 0, 60000), "the beginning of a message"...)
	c.ws.out = make([]byte, 0, 2*pieceRoom)
	c.ws.batch = c.ws.batch[:1]
	c.ws.batch[0].Out = make([]byte, 0, 60000)
	ws := c.ws
	c.used(4)
	if got := string(c.ws.in); got != "beginning of a message" || cap(c.ws.in) > inRoom {
		t.Errorf("the connection holds %q in %d bytes", got, cap(c.ws.in))
	}
	if c.release(); c.ws == nil {
		t.Fatal("a workspace with data was given back")
	}
	c.used(len(c.ws.in))
	if c.release(); c.ws != nil {
		t.Error("a workspace without data is held")
	}
	if kept := cap(ws.in) + cap(ws.out) + cap(ws.batch[:1][0].Out); kept > inRoom+pieceRoom+keptRoom {
		t.Errorf("the workspace keeps %d bytes", kept)
	}
}
