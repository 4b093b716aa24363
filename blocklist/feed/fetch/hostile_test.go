package fetch

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"rempart/blocklist/feed/fetch/fetchtest"
	"rempart/blocklist/feed/format"
)

// serveConns listens on loopback, calls handle for each connection and closes the connection after that. It returns the address. The test
// ends after all calls of handle.
func serveConns(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

// hostileServer answers each connection as serve does, byte by byte. It returns the server's URL.
func hostileServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	return "http://" + serveConns(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			serve(conn)
		}
	})
}

// repeatTo writes text until the client has enough.
func repeatTo(w io.Writer, text string) {
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
	}
}

// TestHostileHTTP fetches from servers that try to make a client wait forever, fill its memory or disk, or redirect it. The earlier body must stay, and no
// other file may be left.
func TestHostileHTTP(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	for _, tt := range []struct {
		name  string
		serve func(net.Conn)
		want  string
	}{
		{"slow body", func(c net.Conn) {
			io.WriteString(c, head+"Content-Length: 1000\r\n\r\n")
			for {
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, "deadline"},
		{"slow headers", func(c net.Conn) {
			io.WriteString(c, head)
			for {
				if _, err := io.WriteString(c, "X-Slow: x\r\n"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, "deadline"},
		{"no response", func(c net.Conn) { io.Copy(io.Discard, c) }, "deadline"},
		{"headers without end", func(c net.Conn) { io.WriteString(c, head); repeatTo(c, "X-More: "+strings.Repeat("x", 1000)+"\r\n") }, "exceeded"},
		{"a header without end", func(c net.Conn) { io.WriteString(c, head+"X-More: "); repeatTo(c, "xxxxxxxxxxxxxxxx") }, "exceeded"},
		{"a status line without end", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 "); repeatTo(c, "xxxxxxxxxxxxxxxx") }, "exceeded"},
		{"provisional answers without end", func(c net.Conn) { repeatTo(c, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }, "exceeded"},
		{"SMTP greeting", func(c net.Conn) { io.WriteString(c, "220 mail.example ESMTP\r\n") }, "malformed"},
		{"status line with the secret", func(c net.Conn) { io.WriteString(c, "HTTP/1.1 token=SECRET\r\n\r\n") }, "repeats a secret"},
		{"redirect to an invalid URL with the secret", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 302 Found\r\nLocation: http://%zz/?token=SECRET\r\nContent-Length: 0\r\n\r\n")
		}, "repeats a secret"},
		{"Content-Length too large", func(c net.Conn) { io.WriteString(c, head+"Content-Length: 9223372036854775807\r\n\r\nx.example\n") }, "too large"},
		{"Content-Length overflows", func(c net.Conn) { io.WriteString(c, head+"Content-Length: 99999999999999999999\r\n\r\nx.example\n") }, "Content-Length"},
		{"two Content-Length headers", func(c net.Conn) {
			io.WriteString(c, head+"Content-Length: 5\r\nContent-Length: 6\r\n\r\nx.example\n")
		}, "Content-Length"},
		{"body shorter than Content-Length", func(c net.Conn) { io.WriteString(c, head+"Content-Length: 1000\r\n\r\nx.example\n") }, "unexpected EOF"},
		{"ends within a chunk", func(c net.Conn) {
			io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\na\r\nx.example\n\r\nff\r\nx")
		}, "unexpected EOF"},
		{"chunk length overflows", func(c net.Conn) {
			io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx")
		}, "chunk"},
		{"tiny chunks without end", func(c net.Conn) {
			io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\n")
			repeatTo(c, "1;"+strings.Repeat("x", 1000)+"\r\nx\r\n")
		}, "chunked"},
		{"trailers without end", func(c net.Conn) {
			io.WriteString(c, head+"Transfer-Encoding: chunked\r\n\r\na\r\nx.example\n\r\n0\r\n")
			repeatTo(c, "X-More: "+strings.Repeat("x", 1000)+"\r\n")
		}, "trailer"},
		{"a body without end", func(c net.Conn) { io.WriteString(c, head+"\r\n"); repeatTo(c, "x.example\n") }, "too large"},
		{"a gzip bomb", func(c net.Conn) {
			io.WriteString(c, head+"Content-Encoding: gzip\r\n\r\n")
			z := gzip.NewWriter(c)
			repeatTo(z, strings.Repeat("x.example\n", 1000))
		}, "too large"},
		{"switches to another protocol", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		}, "101"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a.new")
			if err := os.WriteFile(path, []byte("held"), 0o600); err != nil {
				t.Fatal(err)
			}
			patience := time.Minute
			if tt.want == "deadline" {
				patience = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			f := NewClient(Config{})
			f.maxBody = 1 << 20
			from := Origin{URL: hostileServer(t, tt.serve) + "/list?token=SECRET"}
			_, err := f.Fetch(ctx, from, Validators{ETag: `"held"`}, path, path)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error holds a secret: %v", err)
			}
			if held, err := os.ReadFile(path); err != nil || string(held) != "held" {
				t.Errorf("held is %q, %v", held, err)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
				t.Errorf("files %v, %v", files, err)
			}
		})
	}
}

// TestRedirects checks redirects to valid and invalid targets.
func TestRedirects(t *testing.T) {
	reached := fetchtest.NewServer(t)
	reached.Say("a.example\n")
	for target, want := range map[string]string{
		"URL/list":                   "",
		"//HOST/list":                "",
		"/loop":                      "redirects",
		"file:///etc/hosts":          "redirected to something else",
		"axfr://127.0.0.1/rpz":       "redirected to something else",
		"gopher://127.0.0.1:70/x":    "redirected to something else",
		"unix:/run/docker.sock":      "redirected to something else",
		"":                           "302",
		"http://user:SECRET@[::1/":   "repeats a secret",
		"http://127.0.0.1:1/?SECRET": "refused",
	} {
		hops := fetchtest.NewServer(t)
		hops.Do(func(w http.ResponseWriter, r *http.Request) {
			to := strings.NewReplacer("URL", reached.URL, "HOST", reached.Listener.Addr().String()).Replace(target)
			if to != "" {
				w.Header().Set("Location", to)
			}
			w.WriteHeader(http.StatusFound)
		})
		f := newFetching(t, Origin{URL: strings.Replace(hops.URL, "://", "://user:SECRET@", 1) + "/?token=SECRET"})
		if want == "" {
			f.mustFetch(false)
			continue
		}
		f.mustFail(want)
		if n := hops.Requests(); n > maxRedirects+1 {
			t.Errorf("%s: %d requests", target, n)
		}
	}
}

// TestSecretsAreNotSentToRedirectTarget checks that the secrets of a server are not sent to another server to which it redirects.
func TestSecretsAreNotSentToRedirectTarget(t *testing.T) {
	var got http.Header
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		io.WriteString(w, "a.example\n")
	}))
	hop := fetchtest.NewServer(t)
	hop.Do(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(other.URL, "127.0.0.1", "localhost", 1)+"/", http.StatusFound)
	})
	f := newFetching(t, Origin{URL: strings.Replace(hop.URL, "://", "://user:SECRET@", 1) + "/?token=SECRET"})
	f.client.client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(addr)
		return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
	}
	f.mustFetch(false)
	other.Close()
	if got.Get("Authorization") != "" || got.Get("Referer") != "" {
		t.Errorf("the other server received %v", got)
	}
}

// publicConn is a connection to a test server that seems to go to a public address.
type publicConn struct{ net.Conn }

func (publicConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 80} }

// TestRedirectToInternalServiceIsRefused checks that an internal service gets no request if a public publisher redirects to it, for each kind of list that
// follows redirects.
func TestRedirectToInternalServiceIsRefused(t *testing.T) {
	inside := fetchtest.NewServer(t)
	inside.Say("a.example\n")
	hop := fetchtest.NewServer(t)
	hop.Do(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL, http.StatusFound) })
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "lists.example:80" {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, hop.Listener.Addr().String())
		return publicConn{conn}, err
	}
	for _, listFormat := range []format.Format{format.Auto, format.MISP, format.TAXII} {
		f := newFetching(t, Origin{URL: "http://lists.example/", Format: listFormat})
		if listFormat == format.TAXII {
			f.from.URL += "taxii2/collections/91a7b528-80eb-42ed-a74d-c6fbd5a26116/"
		}
		f.client = NewClient(Config{Dial: dial})
		f.mustFail("redirected from a public address")
		if n := inside.Requests(); n > 0 {
			t.Errorf("%s: the internal service got %d requests", listFormat, n)
		}
	}
}

// TestBodyOfMaximumSizeIsWritten checks that a body of exactly the allowed size is written completely, and that a body that is one byte longer is refused.
func TestBodyOfMaximumSizeIsWritten(t *testing.T) {
	srv := fetchtest.NewServer(t)
	text := bytes.Repeat([]byte("x.example\n"), 1000)
	srv.Do(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // no Content-Length
		w.Write(text)
	})
	f := newFetching(t, Origin{URL: srv.URL})
	f.client.maxBody = int64(len(text))
	f.mustFetch(false)
	if f.body() != string(text) {
		t.Error("the written body differs from the sent body")
	}
	f.client.maxBody--
	f.mustFail("too large")
}
