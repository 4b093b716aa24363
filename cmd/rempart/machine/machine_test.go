package machine

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSocketsAreRead(t *testing.T) {
	m := Machine{Root: t.TempDir()}
	if _, err := m.Sockets(53); err == nil {
		t.Error("no error without the files")
	}
	if err := os.MkdirAll(filepath.Join(m.Root, "proc/net"), 0o755); err != nil {
		t.Fatal(err)
	}
	lines := "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
		"  1: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 11 2 0000000000000000 0\n" +
		"  2: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 22 2 0000000000000000 7\n" +
		"nonsense\n"
	if err := os.WriteFile(filepath.Join(m.Root, "proc/net/udp"), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	all, err := m.Sockets(53)
	if err != nil || len(all) != 2 || all[0].At != netip.MustParseAddrPort("127.0.0.53:53") || all[1].Drops != 7 {
		t.Errorf("sockets %+v, %v", all, err)
	}
	s, ok := parseSocket("tcp", "  0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 33 1 0000000000000000 100 0 0 10 0")
	if !ok || s.At != netip.MustParseAddrPort("[::1]:8080") {
		t.Errorf("socket %+v, %v", s, ok)
	}
}

// TestSocketsOfRempartAreHeldBySystemd checks that systemd is no other program where it holds the sockets of Rempart, and is one where it holds others.
func TestSocketsOfRempartAreHeldBySystemd(t *testing.T) {
	m := Machine{Root: t.TempDir()}
	for process, sockets := range map[string][]string{"1 systemd": {"11", "12"}, "20 rempart": {"11"}, "30 systemd-resolve": {"13"}} {
		pid, name, _ := strings.Cut(process, " ")
		dir := filepath.Join(m.Root, "proc", pid)
		if err := os.MkdirAll(filepath.Join(dir, "fd"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "comm"), []byte(name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for i, inode := range sockets {
			if err := os.Symlink("socket:["+inode+"]", filepath.Join(dir, "fd", string(rune('3'+i)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if h := m.Holders([]Socket{{inode: "11"}, {inode: "13"}}); !h.Rempart || !slices.Equal(h.Others, []string{"systemd-resolve (30)"}) {
		t.Errorf("holders %+v", h)
	}
	if h := m.Holders([]Socket{{inode: "12"}}); h.Rempart || !slices.Equal(h.Others, []string{"systemd (1)"}) {
		t.Errorf("holders of a socket of a socket unit: %+v", h)
	}
}
