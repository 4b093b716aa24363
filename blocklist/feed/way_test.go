package feed

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rempart/blocklist/feed/fetch/fetchtest"
)

// TestRetryAfterDelaysNextFetch checks that a list is not fetched again before the time in Retry-After, after status 429 or 503.
func TestRetryAfterDelaysNextFetch(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		f := newFixture(t)
		srv := fetchtest.NewServer(t)
		wait := "3600"
		srv.Do(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", wait)
			w.WriteHeader(code)
		})
		l := f.start(Config{Lists: []string{srv.URL}})
		if due := time.Until(l.lists[0].next); due < 59*time.Minute || due > time.Hour {
			t.Errorf("%d: the next request is due in %v, want about an hour", code, due)
		}
		if err := one(t, l).Err; !strings.Contains(err, "asks for the next request after 1h0m0s") {
			t.Errorf("status %d: error %q, want one that names Retry-After of one hour", code, err)
		}
		f.run(l)
		time.Sleep(100 * time.Millisecond) // several times the backoff of tests
		if n := srv.Requests(); n != 1 {
			t.Errorf("%d: asked %d times", code, n)
		}
		srv.Say("a.example\n")
		l.Retry() // called by a program
		time.Sleep(100 * time.Millisecond)
		if n := srv.Requests(); n != 1 {
			t.Errorf("%d: asked %d times, want once: Retry is only called by a program", code, n)
		}
		l.Reload() // called for a person
		eventually(t, "the list", func() bool { return blocks(t, l, "a.example") })
	}
}

// proxy is an HTTP proxy that requires a password. It answers for any host, and connects every CONNECT to one address.
func proxy(t *testing.T, body, tunnel string) (proxyURL *url.URL, asked *atomic.Pointer[string]) {
	t.Helper()
	asked = &atomic.Pointer[string]{}
	srv := fetchtest.NewServer(t)
	srv.Do(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("user:hunter2")) {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		what := r.Method + " " + r.URL.Host
		asked.Store(&what)
		if r.Method != http.MethodConnect {
			io.WriteString(w, body)
			return
		}
		far, err := net.Dial("tcp", tunnel)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		near, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { io.Copy(far, buffered); far.Close() }()
		io.Copy(near, far)
		near.Close()
	})
	u, _ := url.Parse(srv.URL)
	u.User = url.UserPassword("user", "hunter2")
	return u, asked
}

// TestListsAreFetchedThroughProxy checks that lists are fetched through a proxy, over HTTP and with CONNECT, and that the password of the proxy is not logged.
func TestListsAreFetchedThroughProxy(t *testing.T) {
	publisher, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { publisher.Close() })
	hello := make(chan string, 1)
	go func() { // the end of the tunnel: the first bytes are those of TLS
		conn, err := publisher.Accept()
		if err != nil {
			return
		}
		b, _ := bufio.NewReader(conn).Peek(1)
		hello <- string(b)
		conn.Close()
	}()
	via, asked := proxy(t, "a.example\n", publisher.Addr().String())
	f := newFixture(t)
	cfg := Config{
		Lists: []string{"http://lists.nowhere.example/l.txt"},
		Proxy: func(*url.URL) (*url.URL, error) { return via, nil },
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if !strings.HasPrefix(addr, "127.0.0.1:") {
				t.Errorf("%s was dialled, want the proxy", addr)
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	if l := f.once(cfg); !blocks(t, l, "a.example") || *asked.Load() != "GET lists.nowhere.example" {
		t.Errorf("over HTTP: %+v", one(t, l))
	}
	cfg.Lists = []string{"https://lists.nowhere.example/l.txt"}
	l := f.once(cfg)
	if *asked.Load() != "CONNECT lists.nowhere.example:443" || <-hello != "\x16" {
		t.Errorf("over HTTPS the proxy was asked for %s", *asked.Load())
	}
	if err := one(t, l).Err; !strings.Contains(err, "through the proxy "+via.Host) {
		t.Errorf("the error does not name the proxy: %s", err)
	}
	via.User = url.UserPassword("user", "wrong-hunter2")
	cfg.Lists = []string{"http://other.nowhere.example/l.txt"}
	if err := one(t, f.once(cfg)).Err; !strings.Contains(err, "the proxy requires a user name and a password") {
		t.Errorf("a wrong password: %s", err)
	}
	if strings.Contains(f.log.String(), "hunter2") {
		t.Error("the log holds the password")
	}
}

// TestFileURLsAreReadAsPaths checks that file URLs are read as paths.
func TestFileURLsAreReadAsPaths(t *testing.T) {
	f := newFixture(t)
	path := f.file("a list.txt", "a.example\n")
	l := f.start(Config{Lists: []string{"file://" + strings.ReplaceAll(path, " ", "%20"), path}, Feeds: []Feed{{Name: "b", URL: "file://localhost" + f.file("b.txt", "b.example\n")}}})
	f.run(l)
	if lists := l.Status().Lists; len(lists) != 2 || lists[0].Kind != KindFile || !blocks(t, l, "a.example") || !blocks(t, l, "b.example") {
		t.Errorf("lists %+v, want two files, and their names blocked", lists)
	}
	f.file("a list.txt", "c.example\n")
	eventually(t, "a change of the file", func() bool { return blocks(t, l, "c.example") })
	for _, bad := range []string{"file://elsewhere.example/etc/list.txt", "file:list.txt://", "file://"} {
		if _, err := New(Config{Dir: f.data, Lists: []string{bad}}); err == nil || !strings.Contains(err.Error(), "file:///etc/rempart/list.txt") {
			t.Errorf("New with the list %s: error %v, want one that shows a valid file URL", bad, err)
		}
	}
}
