package listen

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestUnauthorizedConnectionsUseNoSharedPlaces checks that connections of unauthorized clients are few and short, and use no places that other clients need.
func TestUnauthorizedConnectionsUseNoSharedPlaces(t *testing.T) {
	outsider := netip.MustParseAddr("127.0.0.66")
	config := Config{Serves: func(a netip.Addr) bool { return a != outsider }}
	s, _ := serve(t, &fakeHandler{}, config, func(s *Server) {
		s.streams.limits.conns = 2
		s.streams.limits.idle, s.streams.limits.unauthorized = deadline, deadline // no connection times out before all are open
	})
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: outsider.AsSlice()}}
	open := func(s *Server) net.Conn {
		t.Helper()
		c, err := from.Dial("tcp", addrOf(s))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(deadline))
		return c
	}
	idle := make([]net.Conn, maxUnauthorized)
	for i := range idle {
		idle[i] = open(s)
	}
	if _, err := dnstest.ExchangePacked("tcp", addrOf(s), query(t, 1, "a.example")); err != nil {
		t.Errorf("an authorized client is not served: %v", err)
	}
	eventually(t, "every unauthorized connection was accepted", func() bool {
		return s.streams.admission.Len(unauthorized) == maxUnauthorized
	})
	if _, err := open(s).Read(make([]byte, 1)); err == nil {
		t.Error("a connection above the limit of unauthorized connections was served")
	}
	packet := query(t, 2, "a.example")
	if _, err := idle[0].Write(append([]byte{0, byte(len(packet))}, packet...)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(idle[0]); err != nil || len(b) < 14 {
		t.Errorf("the query of an unauthorized client got %d bytes and error %v, want an answer and the end of the connection", len(b), err)
	}
	short, _ := serve(t, &fakeHandler{}, config, nil)
	if _, err := open(short).Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection of an idle unauthorized client is not closed: %v", err)
	}
}

// TestIdleConnectionFreesLargeAnswers checks that the memory of an idle connection does not depend on the size of the answers that were sent over it.
func TestIdleConnectionFreesLargeAnswers(t *testing.T) {
	st := &stream{}
	buf := make([]byte, 0, 60000)
	if got := st.shrink(buf[:10]); cap(got) > keptRoom || len(got) != 10 {
		t.Errorf("kept a buffer of %d bytes for %d bytes of data", cap(got), len(got))
	}
	if got := st.shrink(buf[:9000]); len(got) != 9000 {
		t.Errorf("%d bytes that were read are missing", 9000-len(got))
	}
}
