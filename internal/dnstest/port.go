package dnstest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"testing"
)

// The ports that FreeAddr returns are in this range, below the ports that Linux, the BSDs and macOS give to sockets that ask for any port.
const (
	firstPort = 10_000
	lastPort  = 32_000
)

// FreeAddr returns an address of loopback whose port is unused over UDP and TCP. The test may open the port later, and several times: until the test ends, no
// other call of FreeAddr in any process returns the port, and the kernel does not assign the port to a socket that asks for any port or to a connection.
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

// unused returns an error if the port of a loopback address is in use, on this address or on all addresses.
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
