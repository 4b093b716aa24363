package listen

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// oneSocket is Sockets with one descriptor, which has every name.
type oneSocket struct {
	file          *os.File
	dropped, kept []string
}

func (o *oneSocket) Take(string) (f *os.File) { f, o.file = o.file, nil; return f }

func (o *oneSocket) Drop(name string) { o.dropped = append(o.dropped, name) }

func (o *oneSocket) Keep(name string, _ syscall.Conn) { o.kept = append(o.kept, name) }

func (o *oneSocket) Release(func(string) bool) bool { return false }

// fileOf returns a copy of the descriptor of a socket that was opened, and closes the socket.
func fileOf[S interface {
	io.Closer
	File() (*os.File, error)
}](socket S, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	return socket.File()
}

func unixAddr(t *testing.T, network string) *net.UnixAddr {
	return &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: network}
}

// TestDescriptorOfWrongKindIsReplaced checks that a descriptor that is no socket of the expected kind is removed from those that outlive the process, and that a new
// socket is opened.
func TestDescriptorOfWrongKindIsReplaced(t *testing.T) {
	here, elsewhere := net.IPv4(127, 0, 0, 1), net.IPv4(127, 0, 0, 2)
	peer, err := net.ListenTCP("tcp", &net.TCPAddr{IP: here})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	files := map[string]func() (*os.File, error){
		"a file":                          func() (*os.File, error) { return os.Create(filepath.Join(t.TempDir(), "file")) },
		"a TCP socket at another address": func() (*os.File, error) { return fileOf(net.ListenTCP("tcp", &net.TCPAddr{IP: elsewhere})) },
		"a UDP socket at another address": func() (*os.File, error) { return fileOf(net.ListenUDP("udp", &net.UDPAddr{IP: elsewhere})) },
		"a TCP connection":                func() (*os.File, error) { return fileOf(net.DialTCP("tcp", nil, peer.Addr().(*net.TCPAddr))) },
		"a UDP socket of one peer":        func() (*os.File, error) { return fileOf(net.DialUDP("udp", nil, &net.UDPAddr{IP: here, Port: 53})) },
		"a Unix datagram socket":          func() (*os.File, error) { return fileOf(net.ListenUnixgram("unixgram", unixAddr(t, "unixgram"))) },
		"a Unix listener":                 func() (*os.File, error) { return fileOf(net.ListenUnix("unix", unixAddr(t, "unix"))) },
	}
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	for kind, open := range files {
		for use, bind := range map[string]func(Binder) (interface{ Close() error }, error){
			"tcp": func(b Binder) (interface{ Close() error }, error) { return b.Stream("tcp", addr) },
			"udp": func(b Binder) (interface{ Close() error }, error) { return b.sharedPacket("udp", addr) },
		} {
			t.Run(use+" in place of "+kind, func(t *testing.T) {
				f, err := open()
				if err != nil {
					t.Fatal(err)
				}
				o := &oneSocket{file: f}
				socket, err := bind(Binder{o})
				if err != nil {
					t.Fatal(err)
				}
				socket.Close()
				if len(o.dropped) != 1 || len(o.kept) != 1 || o.dropped[0] != o.kept[0] {
					t.Errorf("dropped %q, kept %q", o.dropped, o.kept)
				}
			})
		}
	}
}
