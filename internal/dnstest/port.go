package dnstest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// Ports that FreeAddr hands out are in this range, below the ports that Linux, the BSDs and macOS give to sockets that ask for any port.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

// FreeAddr returns an address of loopback whose port nobody uses, over UDP or TCP. The test may begin to use it later, and again and again: until the test
// ends no other call returns it, in any process, and the kernel gives it to no socket that asks for any port, nor to a connection as its own end.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var last error
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		held, err := reserve(port)
		if err != nil {
			last = err
			continue
		}
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		if err := unused(addr); err != nil {
			held.Close()
			last = err
			continue
		}
		t.Cleanup(func() { held.Close() })
		return addr
	}
	t.Fatalf("dnstest: no free port: %v", last)
	return ""
}

// reserve holds a port against other calls of FreeAddr until the result is closed or the process ends. It binds an abstract Unix socket of the port's number,
// which leaves the port itself free on every address. Only Linux has abstract sockets: elsewhere two calls differ by chance alone.
func reserve(port int) (io.Closer, error) {
	if runtime.GOOS != "linux" {
		return io.NopCloser(nil), nil
	}
	return net.Listen("unix", fmt.Sprintf("@rempart-test-port-%d", port))
}

// unused returns nil if nobody uses the port of an address of loopback, on that address or on all.
func unused(addr string) error {
	stream, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	defer stream.Close()
	packet, err := net.ListenPacket("udp4", addr)
	if err != nil {
		return err
	}
	return packet.Close()
}
