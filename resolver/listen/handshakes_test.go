package listen

import (
	"testing"
	"time"

	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// TestQueriesDuringHandshakeFlood checks that queries over UDP are answered while many clients make handshakes.
func TestQueriesDuringHandshakeFlood(t *testing.T) {
	secure, client := fake.Identity(t)
	s, _ := serve(t, &fake.Handler{}, Config{Addrs: fake.Loopback(), TLS: fake.Loopback(), Secure: secure}, nil)
	end, flood := fake.FloodHandshakes(s.AddrsOf(wire.TLS)[0].String(), client)
	c := fake.Dial(t, "udp", addrOf(s))
	for i := uint16(0); time.Now().Before(end); i++ {
		if m := ask(t, c, i, "a.example"); m.Id != i {
			t.Fatalf("unexpected answer: %v", m)
		}
	}
	flood.Wait()
}
