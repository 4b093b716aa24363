package stream

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"rempart/internal/wire"
	"rempart/resolver/listen/fake"
)

// h2Client is a client of HTTP/2 that can also violate the protocol.
type h2Client struct {
	*http2.Framer
	conn    *tls.Conn
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
}

// dialH2 opens a connection, with the client's settings.
func dialH2(t testing.TB, s *Server, client *tls.Config, settings ...http2.Setting) *h2Client {
	t.Helper()
	config := client.Clone()
	config.NextProtos = []string{"h2"}
	c := &h2Client{conn: tls.Client(fake.Dial(t, "tcp", s.addrsOf(wire.HTTPS)[0].String()), config), decoder: hpack.NewDecoder(4096, nil)}
	if _, err := c.conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	c.Framer = http2.NewFramer(c.conn, c.conn)
	c.encoder = hpack.NewEncoder(&c.block)
	if err := c.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// encode returns a header block.
func (c *h2Client) encode(fields ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

// post sends a request.
func (c *h2Client) post(id uint32, query []byte) {
	c.head(id, false)
	_ = c.WriteData(id, true, query)
}

// head sends the header of a POST request.
func (c *h2Client) head(id uint32, end bool) {
	block := c.encode(":method", "POST", ":scheme", "https", ":authority", "dns.example", ":path", wire.DoHPath, "content-type", dnsMessage)
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end})
}

// get sends a GET request for a path.
func (c *h2Client) get(id uint32, path string) {
	block := c.encode(":method", "GET", ":scheme", "https", ":authority", "dns.example", ":path", path)
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: true})
}

// response is a response of the server, or the end of a stream.
type response struct {
	status  string
	content []byte
	reset   http2.ErrCode
	isReset bool
}

// responses reads until n streams have ended.
func (c *h2Client) responses(t testing.TB, n int) map[uint32]*response {
	t.Helper()
	all := map[uint32]*response{}
	for ended := 0; ended < n; {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("after %d of %d responses: %v", ended, n, err)
		}
		id := f.Header().StreamID
		if id != 0 && all[id] == nil {
			all[id] = &response{}
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			fields, err := c.decoder.DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				t.Fatal(err)
			}
			all[id].status = fields[0].Value
		case *http2.DataFrame:
			all[id].content = append(all[id].content, f.Data()...)
			if f.StreamEnded() {
				ended++
			}
		case *http2.RSTStreamFrame:
			all[id].reset, all[id].isReset = f.ErrCode, true
			ended++
		case *http2.GoAwayFrame:
			t.Fatalf("GOAWAY with %v after %d of %d responses", f.ErrCode, ended, n)
		}
	}
	return all
}

// goAway reads until the server ends the connection, and returns the error that it names.
func (c *h2Client) goAway() (code http2.ErrCode, ok bool) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return code, ok
		}
		if f, is := f.(*http2.GoAwayFrame); is {
			code, ok = f.ErrCode, true
		}
	}
}

// TestHTTPSRequests checks the statuses of requests, with Go's client of HTTP/2 and with quic-go's client of HTTP/3.
func TestHTTPSRequests(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	over2 := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}
	defer over2.CloseIdleConnections()
	over3 := &http3.Transport{TLSClientConfig: client.Clone()}
	defer over3.Close()
	at := "https://" + s.addrsOf(wire.HTTPS)[0].String()
	q := fake.Query(t, 0, "a.example")
	encoded := base64.RawURLEncoding.EncodeToString(q)
	for _, tt := range []struct {
		name, method, path, contentType string
		body                            []byte
		want                            int
	}{
		{"POST", "POST", "/dns-query", dnsMessage, q, 200},
		{"POST of a slow query", "POST", "/dns-query", dnsMessage, fake.Query(t, 0, "slow.example"), 200},
		{"GET", "GET", "/dns-query?dns=" + encoded, "", nil, 200},
		{"GET with another parameter", "GET", "/dns-query?ct=x&dns=" + encoded, "", nil, 200},
		{"GET with padding", "GET", "/dns-query?dns=" + encoded + "==", "", nil, 200},
		{"GET without a query", "GET", "/dns-query", "", nil, 400},
		{"GET with another alphabet", "GET", "/dns-query?dns=+/+/", "", nil, 400},
		{"POST without content", "POST", "/dns-query", dnsMessage, nil, 400},
		{"another path", "GET", "/?dns=" + encoded, "", nil, 404},
		{"another path with content", "POST", "/x", dnsMessage, bytes.Repeat(q, 100), 404},
		{"another method", "PUT", "/dns-query", dnsMessage, q, 405},
		{"another type", "POST", "/dns-query", "application/json", q, 415},
		{"too much content", "POST", "/dns-query", dnsMessage, make([]byte, 70_000), 413},
	} {
		for proto, transport := range map[int]http.RoundTripper{2: over2, 3: over3} {
			t.Run(fmt.Sprintf("%s over HTTP/%d", tt.name, proto), func(t *testing.T) {
				r, err := http.NewRequest(tt.method, at+tt.path, bytes.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				if tt.contentType != "" {
					r.Header.Set("Content-Type", tt.contentType)
				}
				res, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				content, err := io.ReadAll(res.Body)
				if err != nil {
					t.Fatal(err)
				}
				if res.StatusCode != tt.want || res.ProtoMajor != proto {
					t.Errorf("status %s over %s, want %d", res.Status, res.Proto, tt.want)
				}
				if tt.want == 200 && (res.Header.Get("Cache-Control") != "max-age=1" || res.Header.Get("Content-Type") != dnsMessage || len(fake.Unpack(t, content).Answer) != 1) {
					t.Errorf("unexpected response %v:\n%v", res.Header, fake.Unpack(t, content))
				}
				if tt.want != 200 && !strings.Contains(string(content), "RFC 8484") {
					t.Errorf("the response does not explain: %q", content)
				}
			})
		}
	}
}

// TestHTTP1IsRefused checks that a client of HTTP/1.1 learns what is supported.
func TestHTTP1IsRefused(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	transport := &http.Transport{TLSClientConfig: client}
	defer transport.CloseIdleConnections()
	r, _ := http.NewRequest("GET", "https://"+s.addrsOf(wire.HTTPS)[0].String()+"/dns-query", nil)
	res, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 505 || !res.Close {
		t.Errorf("status %s, want 505", res.Status)
	}
}

// TestManyRequestsTogether sends requests in one write. They are answered in batches, and slow ones in any order.
func TestManyRequestsTogether(t *testing.T) {
	const many = 90
	h, g := &fake.Handler{}, &fake.Gates{}
	h.Gate = g.Wait
	s, client := serveTLS(t, h, setup{}, nil)
	c := dialH2(t, s, client)
	var all bytes.Buffer
	to := c.Framer
	c.Framer = http2.NewFramer(&all, nil)
	c.post(1, fake.Query(t, 1, "slow.example"))
	for i := range uint32(many) {
		if i%2 == 0 {
			c.post(3+2*i, fake.Query(t, uint16(i), "a.example"))
			continue
		}
		c.get(3+2*i, wire.DoHPath+"?dns="+base64.RawURLEncoding.EncodeToString(fake.Query(t, uint16(i), "a.example")))
	}
	c.Framer = to
	if _, err := c.conn.Write(all.Bytes()); err != nil {
		t.Fatal(err)
	}
	for id, r := range c.responses(t, many) {
		if id == 0 {
			continue
		}
		if m := fake.Unpack(t, r.content); r.status != "200" || uint32(m.Id) != (id-3)/2 || len(m.Answer) != 1 {
			t.Errorf("unexpected response on stream %d: %+v", id, r)
		}
	}
	g.Release("slow")
	if r := c.responses(t, 1)[1]; r == nil || len(fake.Unpack(t, r.content).Answer) != 1 {
		t.Error("the slow query has no answer")
	}
	if n := h.Largest.Load(); n != streamBatch {
		t.Errorf("the largest batch was %d, want %d", n, streamBatch)
	}
}

// TestWindows sends large answers through small windows.
func TestWindows(t *testing.T) {
	h := &fake.Handler{Large: 50_000}
	s, client := serveTLS(t, h, setup{}, nil)
	c := dialH2(t, s, client, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	const n = 4 // 200,000 bytes: more than the connection's first window
	for i := range uint32(n) {
		c.post(1+2*i, fake.Query(t, uint16(i), []string{"a.example", "slow.example"}[i%2]))
	}
	got := map[uint32]int{}
	read := func(more func() bool) {
		for more() {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if f, is := f.(*http2.DataFrame); is {
				got[f.StreamID] += len(f.Data())
			}
		}
	}
	total := func() (sum int) {
		for _, n := range got {
			sum += n
		}
		return sum
	}
	read(func() bool { return total() < 10*n })
	_ = c.WriteWindowUpdate(3, 100)
	read(func() bool { return got[3] < 110 })
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100_000})
	read(func() bool { return total() < h2Window })
	time.Sleep(10 * time.Millisecond)
	_ = c.WriteWindowUpdate(0, 1<<30)
	read(func() bool { return total() < n*50_000 })
	for id, sum := range got {
		if sum > 51_000 {
			t.Errorf("stream %d has %d bytes", id, sum)
		}
	}
	fake.Eventually(t, "nothing waits to be sent", func() bool { return s.untaken.Load() == 0 })
}

// TestProtocolViolations checks how the server ends a connection that violates HTTP/2 or asks for too much work.
func TestProtocolViolations(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for _, tt := range []struct {
		name string
		send func(c *h2Client)
		want http2.ErrCode
	}{
		{"an even stream", func(c *h2Client) { c.get(2, wire.DoHPath) }, http2.ErrCodeProtocol},
		{"content on an idle stream", func(c *h2Client) { _ = c.WriteData(7, true, []byte("x")) }, http2.ErrCodeProtocol},
		{"a frame within a header block", func(c *h2Client) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			_ = c.WritePing(false, [8]byte{})
		}, http2.ErrCodeProtocol},
		{"a flood of CONTINUATION", func(c *h2Client) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			for range 1000 {
				_ = c.WriteContinuation(1, false, []byte{0x84})
			}
		}, http2.ErrCodeEnhanceYourCalm},
		{"an endless header block", func(c *h2Client) {
			block := c.encode("a", long, "b", long, "c", long)
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:10_000]})
			_ = c.WriteContinuation(1, false, block[10_000:20_000])
		}, http2.ErrCodeEnhanceYourCalm},
		{"a small block with large fields", func(c *h2Client) {
			block := c.encode("a", strings.Repeat("x", 3000))
			block = append(block, bytes.Repeat([]byte{0xbe}, 10_000)...) // the same field again and again
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true})
		}, http2.ErrCodeEnhanceYourCalm},
		{"a damaged header block", func(c *h2Client) {
			_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}, http2.ErrCodeCompression},
		{"a frame that is too large", func(c *h2Client) { _ = c.WriteRawFrame(http2.FrameData, 0, 1, make([]byte, 20_000)) }, http2.ErrCodeFrameSize},
		{"padding longer than the frame", func(c *h2Client) {
			c.head(1, false)
			_ = c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{200, 1})
		}, http2.ErrCodeProtocol},
		{"a flood of pings", func(c *h2Client) {
			for range 1000 {
				_ = c.WritePing(false, [8]byte{})
			}
		}, http2.ErrCodeEnhanceYourCalm},
		{"a flood of settings", func(c *h2Client) {
			for range 1000 {
				_ = c.WriteSettings()
			}
		}, http2.ErrCodeEnhanceYourCalm},
		{"a flood of empty frames", func(c *h2Client) {
			c.head(1, false)
			for range 1000 {
				_ = c.WriteData(1, false, nil)
			}
		}, http2.ErrCodeEnhanceYourCalm},
		{"a flood of requests without a query", func(c *h2Client) {
			for i := range uint32(1000) {
				c.get(1+2*i, "/")
			}
		}, http2.ErrCodeEnhanceYourCalm},
		{"a window that is too large", func(c *h2Client) { _ = c.WriteWindowUpdate(0, 1<<31-1) }, http2.ErrCodeFlowControl},
		{"a setting that is too large", func(c *h2Client) {
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}, http2.ErrCodeFlowControl},
		{"PUSH_PROMISE", func(c *h2Client) {
			_ = c.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, http2.ErrCodeProtocol},
		{"a reset of an idle stream", func(c *h2Client) { _ = c.WriteRSTStream(9, http2.ErrCodeCancel) }, http2.ErrCodeProtocol},
		{"a short ping", func(c *h2Client) { _ = c.WriteRawFrame(http2.FramePing, 0, 0, []byte{1}) }, http2.ErrCodeFrameSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
			c := dialH2(t, s, client)
			c.AllowIllegalReads, c.AllowIllegalWrites = true, true
			c.SetMaxReadFrameSize(1 << 20)
			go tt.send(c)
			if code, ok := c.goAway(); !ok || code != tt.want {
				t.Errorf("the connection ended with %v (%v), want %v", code, ok, tt.want)
			}
			fake.Eventually(t, "nothing is counted as unread", func() bool { return s.untaken.Load() == 0 && s.count() == 0 })
		})
	}
}

// TestRefusedStreams checks the streams that end without a response, on a connection that continues.
func TestRefusedStreams(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	c := dialH2(t, s, client)
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.encode(":method", "GET"), EndHeaders: true, EndStream: true})
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: c.encode("a", "b", ":method", "GET", ":path", wire.DoHPath), EndHeaders: true, EndStream: true})
	c.post(5, []byte("not a query"))
	for i := range uint32(maxStreams + 1) {
		c.head(7+2*i, false) // incomplete
	}
	for id, r := range c.responses(t, 4) {
		want := http2.ErrCodeProtocol
		if id > 5 {
			want = http2.ErrCodeRefusedStream
		}
		if id != 0 && (!r.isReset || r.reset != want) {
			t.Errorf("stream %d: %+v, want a reset with %v", id, r, want)
		}
	}
	// The incomplete requests hold at most one query of the largest size.
	for i := range uint32(maxStreams) {
		_ = c.WriteData(7+2*i, false, make([]byte, 1000))
	}
	for id, r := range c.responses(t, maxStreams-wire.MaxMessage/1000) {
		if id != 0 && (!r.isReset || r.reset != http2.ErrCodeEnhanceYourCalm) {
			t.Errorf("stream %d: %+v", id, r)
		}
	}
	_ = c.WriteData(7, true, nil)
	if r := c.responses(t, 1)[7]; r == nil || r.isReset && r.reset != http2.ErrCodeProtocol {
		t.Errorf("a request of 1,000 zeros got %+v", r)
	}
	id := uint32(7 + 2*(maxStreams+1))
	c.post(id, fake.Query(t, 1, "a.example"))
	if r := c.responses(t, 1)[id]; r == nil || len(fake.Unpack(t, r.content).Answer) != 1 {
		t.Error("the connection does not continue")
	}
}

// TestRapidReset sends requests and resets them at once (CVE-2023-44487). At most maxStreams of them are on the slow path at a time.
func TestRapidReset(t *testing.T) {
	g := &fake.Gates{}
	s, client := serveTLS(t, &fake.Handler{Gate: g.Wait}, setup{}, nil)
	c := dialH2(t, s, client)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range uint32(5000) {
			c.post(1+2*i, fake.Query(t, 1, "slow.example"))
			if c.WriteRSTStream(1+2*i, http2.ErrCodeCancel) != nil {
				return
			}
		}
	}()
	fake.Eventually(t, "the share is used up", func() bool { return s.config.Pool.Running() == maxStreams })
	time.Sleep(50 * time.Millisecond)
	if n := s.config.Pool.Running(); n > maxStreams {
		t.Errorf("%d queries are on the slow path", n)
	}
	g.Release("slow")
	<-ended
	c.post(20_001, fake.Query(t, 9, "a.example"))
	for answered := false; !answered; { // those that were reset after their answer have one too
		answered = c.responses(t, 1)[20_001] != nil
	}
}

// TestRequestsKeepConnectionOpen checks that pings alone do not, and that the end is announced.
func TestRequestsKeepConnectionOpen(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, func(s *Server) { s.limits.secureIdle = 200 * time.Millisecond })
	c := dialH2(t, s, client)
	go func() {
		for range 200 {
			if c.WritePing(false, [8]byte{}) != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	began := time.Now()
	if code, ok := c.goAway(); !ok || code != http2.ErrCodeNo || time.Since(began) > 2*time.Second {
		t.Errorf("the connection ended with %v (%v) after %v", code, ok, time.Since(began))
	}
}

// TestStopOverHTTPS checks that the end is announced and that queries on the slow path are answered.
func TestStopOverHTTPS(t *testing.T) {
	g := &fake.Gates{}
	secure, client := fake.Identity(t)
	s, stop := serve(t, &fake.Handler{Gate: g.Wait}, setup{Addrs: fake.Loopback(), HTTPS: fake.Loopback(), Secure: secure}, nil)
	c := dialH2(t, s, client)
	c.post(1, fake.Query(t, 3, "slow.example"))
	fake.Eventually(t, "the query is on the slow path", func() bool { return s.config.Pool.Running() > 0 })
	go stop()
	var seen []string
	for {
		f, err := c.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			seen = append(seen, "goaway")
			if f.LastStreamID != 1 || f.ErrCode != http2.ErrCodeNo {
				t.Errorf("unexpected GOAWAY: %v", f)
			}
			g.Release("slow")
		case *http2.DataFrame:
			seen = append(seen, "answer")
		}
	}
	if got := strings.Join(seen, " "); got != "goaway answer" {
		t.Errorf("received %q", got)
	}
}

// TestHarmlessFrames checks frames that end no connection: a window that is changed before the request is complete, trailers and content of a stream that was answered
// already, HEAD, and the windows that a client returns in small steps.
func TestHarmlessFrames(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{Large: 30_000}, setup{}, nil)
	c := dialH2(t, s, client, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	c.head(1, false)
	_ = c.WriteWindowUpdate(1, 40_000)
	_ = c.WriteData(1, true, fake.Query(t, 1, "a.example"))
	if r := c.responses(t, 1)[1]; r == nil || len(r.content) < 30_000 {
		t.Errorf("the answer does not use the window: %+v", r)
	}
	c.head(3, false)
	_ = c.WriteWindowUpdate(3, 40_000)
	_ = c.WriteData(3, true, fake.Query(t, 1, "slow.example"))
	if r := c.responses(t, 1)[3]; r == nil || len(r.content) < 30_000 {
		t.Errorf("the slow answer does not use the window: %+v", r)
	}
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window})
	wrong := c.encode(":method", "POST", ":scheme", "https", ":path", "/wrong")
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: wrong, EndHeaders: true})
	_ = c.WriteData(5, false, []byte("x"))
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: c.encode("a", "b"), EndHeaders: true, EndStream: true})
	head := c.encode(":method", "HEAD", ":scheme", "https", ":path", wire.DoHPath)
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 7, BlockFragment: head, EndHeaders: true, EndStream: true})
	_ = c.WriteWindowUpdate(0, 1<<20)
	for i := range uint32(100) {
		id := 9 + 2*i
		c.post(id, fake.Query(t, 1, "a.example"))
		for content := 0; content < 30_000; {
			f, err := c.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.DataFrame:
				if f.StreamID == 7 {
					t.Error("the response to HEAD has content")
				}
				if f.StreamID == id {
					content += len(f.Data())
				}
				for range len(f.Data()) / 3000 {
					_ = c.WriteWindowUpdate(0, 3000)
				}
			case *http2.GoAwayFrame:
				t.Fatalf("GOAWAY with %v after %d answers", f.ErrCode, i)
			}
		}
	}
	fake.Eventually(t, "nothing is held", func() bool { return s.untaken.Load() == 0 })
}

// TestSlowRequestsAreBounded asks for more slow answers than a client may have streams, and takes none.
func TestSlowRequestsAreBounded(t *testing.T) {
	s, client := serveTLS(t, &fake.Handler{}, setup{}, nil)
	c := dialH2(t, s, client, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	go func() {
		for i := range uint32(1000) {
			c.post(1+2*i, fake.Query(t, 1, "slow.example"))
		}
	}()
	refused := 0
	for refused < 1000-maxStreams-streamBatch {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if r, is := f.(*http2.RSTStreamFrame); is && r.ErrCode == http2.ErrCodeRefusedStream {
			refused++
		}
	}
}
