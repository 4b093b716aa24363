package doctor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/machine"
	"rempart/internal/config"
	"rempart/internal/local"
)

// fakeMachine returns a machine on which the programs hold the sockets of the lines, which are those of /proc/net/udp.
func fakeMachine(t *testing.T, lines string, programs map[string]string) machine.Machine {
	t.Helper()
	m := machine.Machine{Root: t.TempDir()}
	write := func(path, text string) {
		path = filepath.Join(m.Root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("proc/net/udp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"+lines)
	write("proc/sys/net/core/rmem_max", "212992\n")
	pid := 100
	for inode, name := range programs {
		pid++
		process := filepath.Join("proc", string(rune('0'+pid/100))+string(rune('0'+pid/10%10))+string(rune('0'+pid%10)))
		write(filepath.Join(process, "comm"), name+"\n")
		write(filepath.Join(process, "fd", "0"), "")
		if err := os.Symlink("socket:["+inode+"]", filepath.Join(m.Root, process, "fd", "3")); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

const (
	resolvedSocket = "  1: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 11 2 0000000000000000 0\n" // 127.0.0.53:53
	rempartSocket  = "  2: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 22 2 0000000000000000 7\n" // 0.0.0.0:53
)

// TestFindings checks the level of findings, and that each one that is not well says what to do.
func TestFindings(t *testing.T) {
	now := time.Now()
	server := func(change func(*local.Status)) *installation {
		st := &local.Status{Version: cli.Version(), Started: now, Listening: []string{"0.0.0.0:53"}, Feeds: []byte("{}"), Upstreams: []local.Upstream{{Name: "udp://192.0.2.1", Healthy: true}}}
		if change != nil {
			change(st)
		}
		return &installation{config: &config.Config{}, from: "a test", status: st, now: now}
	}
	on := func(in *installation, m machine.Machine) *installation {
		in.machine = m
		return in
	}
	resolved, both := fakeMachine(t, resolvedSocket, map[string]string{"11": "systemd-resolve"}), fakeMachine(t, resolvedSocket+rempartSocket, map[string]string{"11": "systemd-resolve", "22": "rempart"})
	for _, tt := range []struct {
		name  string
		check func(context.Context, *installation) []Finding
		in    *installation
		want  Level
		text  string
	}{
		{"a mistake", checkSettings, &installation{mistake: errors.New("REMPART_LISTEN: bad")}, Problem, "REMPART_LISTEN"},
		{"a misspelt setting", checkSettings, &installation{environ: map[string]string{"REMPART_LISTN": ":53"}}, Problem, "REMPART_LISTEN"},
		{"no server", checkServer, &installation{}, Problem, "no server"},
		{"another version", checkServer, server(func(s *local.Status) { s.Version = "0.1" }), Warning, "0.1"},
		{"a problem", checkState, server(func(s *local.Status) { s.Problems = []string{"the disk is full"} }), Problem, "disk"},
		{"observe", checkState, server(func(s *local.Status) { s.Mode = "observe" }), Warning, "blocked"},
		{"suspended", checkState, server(func(s *local.Status) { s.Set.Suspended = true }), Problem, "kill switch"},
		{"no list", checkLists, server(nil), Warning, "test names"},
		{"no upstream", checkUpstreams, server(func(s *local.Status) { s.Upstreams[0].Healthy = false }), Problem, "no upstream"},
		{"port taken, no server", checkPort, on(&installation{}, resolved), Problem, "DNSStubListener=no"},
		{"port taken", checkPort, on(server(nil), resolved), Problem, "systemd-resolve"},
		{"port shared", checkPort, on(server(nil), both), OK, "shared"},
		{"another port", checkPort, on(server(func(s *local.Status) { s.Listening = []string{"127.0.0.1:5300"} }), fakeMachine(t, "", nil)), Warning, "5300"},
		{"drops", checkBuffers, on(server(nil), both), Warning, "7 queries"},
		{"small buffers", checkBuffers, on(server(nil), resolved), Warning, "212 kB"},
		{"an old clock", checkClock, server(func(s *local.Status) { s.Set.Created = now.Add(24 * time.Hour) }), Problem, "made later"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			found := tt.check(t.Context(), tt.in)
			var out bytes.Buffer
			if err := write(&out, found, false); err != nil || len(found) != 1 || found[0].Level != tt.want || !strings.Contains(out.String(), tt.text) {
				t.Fatalf("findings %+v, %v; want %s with %q", found, err, tt.want, tt.text)
			}
			if (tt.want == OK) != (found[0].Do == "") {
				t.Errorf("to do: %q", found[0].Do)
			}
		})
	}
}
