package setup

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// recorder is a contextDialer that returns an error with the requested address.
type recorder struct{ called string }

func (r recorder) DialContext(_ context.Context, _, address string) (net.Conn, error) {
	return nil, errors.New(r.called + " asked for " + address)
}

// TestPublisherHostsAreLookedUpInOrder checks that hosts are looked up in the hosts file first, and then at the resolvers to which queries for them are
// forwarded.
func TestPublisherHostsAreLookedUpInOrder(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	hosts := filepath.Join(t.TempDir(), "hosts")
	writeFile(t, hosts, "# hosts", "127.0.0.1 localhost", "127.0.0.1\tlists.here.example  Lists # ours", "0.0.0.0 blocked.example", "nonsense lists.far.example")
	p := &publisherDialer{hosts: hosts, main: recorder{"main"}, zones: []zoneDialer{
		{"\x06corp-a\x07example\x00", recorder{"corp-a"}}, {"\x03sub\x06corp-a\x07example\x00", recorder{"sub"}},
	}}
	for host, want := range map[string]string{
		"lists.here.example": "", "LISTS.here.example.": "", "lists": "", "127.0.0.1": "",
		"lists.corp-a.example": "corp-a", "corp-a.example.": "corp-a", "x.SUB.corp-a.example": "sub", "xcorp-a.example": "main",
		"lists.far.example": "main", "blocked.example": "main",
	} {
		conn, err := p.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			conn.Close()
		}
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want+" asked for")) {
			t.Errorf("%s: %v, want %q", host, err, want)
		}
	}
	p.hosts = filepath.Join(t.TempDir(), "none")
	if _, err := p.DialContext(t.Context(), "tcp", "lists.here.example:1"); err == nil || !strings.HasPrefix(err.Error(), "main") {
		t.Errorf("without a hosts file: %v", err)
	}
	if _, err := os.Stat(hostsFile); err == nil && len((&publisherDialer{hosts: hostsFile}).inHostsFile("localhost")) == 0 {
		t.Log("this machine's hosts file does not name localhost")
	}
}

// writeFile writes lines to a file.
func writeFile(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
