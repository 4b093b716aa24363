package local

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// serve starts to serve on a socket in a temporary folder, and returns the path of the socket.
func serve(t *testing.T, a Answers) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, func(ctx context.Context) error { return Serve(ctx, l, a) })
	return path
}

func TestClientReceivesAnswersOfServer(t *testing.T) {
	reloads := 0
	path := serve(t, Answers{
		Settings:  func() map[string]string { return map[string]string{"A": "b"} },
		Status:    func() Status { return Status{Version: "v"} },
		NotReady:  func() string { return "no lists" },
		Upstreams: func() []UpstreamGroup { return []UpstreamGroup{{Zone: "."}, {Zone: "corp.example"}} },
		Check:     func(_ context.Context, name string) Verdict { return Verdict{Name: name, Action: "block"} },
		Matches:   func(least uint64) []Match { return []Match{{Entry: "e", Hits: least}} },
		Reload:    func() { reloads++ },
	})
	c, err := Find(filepath.Join(t.TempDir(), "none"), path)
	if err != nil || c == nil || c.Path != path {
		t.Fatalf("Find: %+v, %v; want a client of %s", c, err, path)
	}
	ctx := t.Context()
	if s, err := c.Settings(ctx); err != nil || s["A"] != "b" {
		t.Errorf("Settings: %v, %v; want A=b", s, err)
	}
	if s, err := c.Status(ctx); err != nil || s.Version != "v" {
		t.Errorf("Status: %+v, %v; want the version v", s, err)
	}
	if why, err := c.NotReady(ctx); err != nil || why != "no lists" {
		t.Errorf("NotReady: %q, %v; want no lists", why, err)
	}
	if g, err := c.Upstreams(ctx); err != nil || len(g) != 2 || g[1].Zone != "corp.example" {
		t.Errorf("Upstreams: %+v, %v; want two groups", g, err)
	}
	if v, err := c.Check(ctx, "x.example"); err != nil || v.Name != "x.example" || v.Action != "block" {
		t.Errorf("Check: %+v, %v; want x.example blocked", v, err)
	}
	if m, err := c.Matches(ctx, 12); err != nil || len(m) != 1 || m[0].Hits != 12 {
		t.Errorf("Matches: %+v, %v; want one match with 12 hits", m, err)
	}
	if err := c.Reload(ctx); err != nil || reloads != 1 {
		t.Errorf("Reload: %v, %d reloads; want one", err, reloads)
	}
	if _, err := c.Check(ctx, strings.Repeat("x", 10_000)); err == nil || !strings.Contains(err.Error(), "400") {
		t.Errorf("a name of 10,000 bytes: error %v, want status 400", err)
	}
	if err := c.call(ctx, http.MethodGet, "/unknown", nil, nil); err == nil || !strings.Contains(err.Error(), "another version: restart it") {
		t.Errorf("a request that the server does not know: error %v, want one about its version", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("permissions %v, want 0600; error %v", info.Mode(), err)
	}
}

// TestListenReplacesOnlyStaleSocket checks that Listen replaces the socket of a server that has ended, and no other socket or file.
func TestListenReplacesOnlyStaleSocket(t *testing.T) {
	path := serve(t, Answers{})
	if _, err := Listen(path); err != ErrTaken {
		t.Errorf("Listen on the socket of a running server: error %v, want ErrTaken", err)
	}
	left := filepath.Join(t.TempDir(), "left")
	l, err := net.Listen("unix", left)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	again, err := Listen(left)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file); err == nil {
		t.Error("Listen replaced a file that is not a socket")
	}
	if _, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 200))); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("Listen on a path that is too long: error %v, want one about its bytes", err)
	}
	if c, err := Find(left, file); c != nil || err != nil {
		t.Error("Find returned a server where none runs:", c, err)
	}
}

// TestEndlessAnswerIsRefused checks that the client reads no more than maxAnswer bytes of an answer that does not end.
func TestEndlessAnswerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})}
	dnstest.Running(t, func(ctx context.Context) error {
		context.AfterFunc(ctx, func() { srv.Close() })
		return srv.Serve(l)
	})
	c := newClient(path)
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("Status: no error")
	}
	var got int64
	err = c.Metrics(t.Context(), func(r io.Reader) (err error) {
		got, err = io.Copy(io.Discard, r)
		return err
	})
	if err != nil || got != maxAnswer {
		t.Errorf("Metrics: %d bytes, error %v; want %d bytes", got, err, maxAnswer)
	}
}
