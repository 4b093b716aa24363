package listen

import (
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

// TestDescriptorOfWrongKindIsReplaced checks that a descriptor that is no socket of the expected kind is removed from those that outlive the process, and that a new
// socket is opened.
func TestDescriptorOfWrongKindIsReplaced(t *testing.T) {
	files := map[string]func() (*os.File, error){
		"a file": func() (*os.File, error) { return os.Create(filepath.Join(t.TempDir(), "file")) },
		"a TCP socket at another address": func() (*os.File, error) {
			l, err := net.Listen("tcp", "127.0.0.2:0")
			if err != nil {
				return nil, err
			}
			defer l.Close()
			return l.(*net.TCPListener).File()
		},
		"a UDP socket at another address": func() (*os.File, error) {
			c, err := net.ListenPacket("udp", "127.0.0.2:0")
			if err != nil {
				return nil, err
			}
			defer c.Close()
			return c.(*net.UDPConn).File()
		},
		"a TCP connection": func() (*os.File, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return nil, err
			}
			defer c.Close()
			return c.(*net.TCPConn).File()
		},
		"a UDP socket of one peer": func() (*os.File, error) {
			c, err := net.Dial("udp", "127.0.0.1:53")
			if err != nil {
				return nil, err
			}
			defer c.Close()
			return c.(*net.UDPConn).File()
		},
		"a Unix datagram socket": func() (*os.File, error) {
			c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixgram"})
			if err != nil {
				return nil, err
			}
			defer c.Close()
			return c.File()
		},
		"a Unix listener": func() (*os.File, error) {
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				return nil, err
			}
			defer l.Close()
			return l.(*net.UnixListener).File()
		},
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
