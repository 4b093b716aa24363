package mirror

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestTokenIsNotRedirected checks that the token is not sent to the other places to which a control redirects requests.
func TestTokenIsNotRedirected(t *testing.T) {
	var requests atomic.Int32
	var leaked atomic.Pointer[string]
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if a := r.Header.Get("Authorization"); a != "" {
			leaked.Store(&a)
		}
		io.WriteString(w, "{}")
	}))
	defer other.Close()
	localhost := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	for _, secure := range []bool{true, false} {
		for _, target := range []string{other.URL, localhost} {
			for _, code := range []int{301, 302, 303, 307, 308} {
				first := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, target+r.URL.Path, code)
				}))
				client := &http.Client{Transport: &http.Transport{}}
				if secure {
					first.StartTLS()
					client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: first.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
				} else {
					first.Start()
				}
				requests.Store(0)
				c, err := NewClient(first.URL+"/v1/journal", func() string { return "SECRET" }, client)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = c.Newest(t.Context())
				_ = c.Report(t.Context(), []byte("{}"))
				if o, err := c.Object(t.Context(), "x"); err == nil {
					o.Close()
				}
				if leaked.Load() != nil {
					t.Fatalf("%d from %s to %s: the token was sent there", code, first.URL, target)
				}
				if n := requests.Load(); secure && n > 0 {
					t.Errorf("%d from https to http: followed", code)
				}
				first.Close()
			}
		}
	}
}

// TestReportHandlerDoesNotWaitForSlowBody checks that the handler of reports does not wait for a body that does not arrive.
func TestReportHandlerDoesNotWaitForSlowBody(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(NewHandler(nil, func(*http.Request, []byte) error { return nil }))
	defer srv.Close()
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * bodyTimeout))
	io.WriteString(c, "POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
	if answer, err := io.ReadAll(c); !strings.HasPrefix(string(answer), "HTTP/1.1 400") {
		t.Errorf("answer %q, %v; want status 400", answer, err)
	}
}
