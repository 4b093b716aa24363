package pushapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"rempart/blocklist/feed/format"
	"rempart/internal/dnstest"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// TestControlThatIsNotReadyAnswers503 checks that a control which has a newer key ring and does not follow its journal yet answers pushes, and orders of the
// new root key, with 503 and Retry-After. It answers reads from the earlier state.
func TestControlThatIsNotReadyAnswers503(t *testing.T) {
	t.Parallel()
	f := start(t, setting{})
	f.published(t, set("one", "one.example"))
	f.stop()

	root := newKeys(t).root
	ring := f.ring
	ring.Serial, ring.Roots = 2, []string{root.String()}
	sealed, err := ring.Seal(f.root)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(f.logged, nil))
	if f.stream, err = stream.Open(t.Context(), stream.Config{Dir: filepath.Join(f.dir, "nats"), Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.stream.Close() })
	f.journ, err = publish.New(publish.Config{
		Stream: f.stream, Key: f.control, Ring: sealed, Trust: []signing.PublicKey{f.root.PublicKey, root.PublicKey}, Dir: filepath.Join(f.dir, "state"), Log: log,
	})
	if err == nil {
		err = f.journ.Start(t.Context())
	}
	if err == nil {
		f.api, err = pushapi.New(t.Context(), pushapi.Config{
			Control: f.journ, Desk: f.desk, Guards: shipped, Grammar: format.Grammar{}, Dir: t.TempDir(), Version: "test", Log: log, Rate: 1000, Burst: 1000,
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	f.srv = httptest.NewServer(f.api.Handler())
	t.Cleanup(f.srv.Close)

	order := pushapi.Order{Name: "late", Roles: []pushapi.Role{pushapi.Publisher}}
	answers := make(chan *answer, 2)
	go func() { answers <- f.push(t, "ada", set("early", "early.example")) }()
	go func() { answers <- f.order(t, order, root) }()
	for range 2 {
		if a := <-answers; a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
			t.Errorf("before control is ready: %s", a)
		}
	}
	if a := f.get(t, "ada", "/v1/names/one.example"); a.status != http.StatusOK {
		t.Errorf("a read before control is ready: %s", a)
	}
	ready := make(chan struct{})
	dnstest.Running(t, func(ctx context.Context) error { return f.journ.Run(ctx, func() { close(ready) }) })
	select {
	case <-ready:
	case <-time.After(20 * time.Second):
		t.Fatal("control did not become ready")
	}
	into[pushapi.TokenInfo](t, f.order(t, order, root), http.StatusOK)
}
