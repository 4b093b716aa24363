package listen

import (
	"net"
	"net/netip"
	"testing"

	"rempart/resolver/listen/fake"

	"golang.org/x/sys/unix"
)

// TestAnswersAreNeverFragmented checks that every UDP socket, also one that the server receives from its caller, sends with DF
// set and ignores messages about the MTU of the path (RFC 9715 section 3.1).
func TestAnswersAreNeverFragmented(t *testing.T) {
	handed, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := serve(t, &fake.Handler{}, Config{
		Addrs:   []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0"), netip.MustParseAddrPort("[::1]:0")},
		Packets: []net.PacketConn{handed},
	}, nil)
	for _, w := range s.workers {
		level, opt, want := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
		if w.conn.LocalAddr().(*net.UDPAddr).IP.To4() == nil {
			level, opt, want = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
		}
		err := w.raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), level, opt); err != nil || got != want {
				t.Errorf("%s: path MTU discovery is %d (%v), want %d", w.conn.LocalAddr(), got, err, want)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}
