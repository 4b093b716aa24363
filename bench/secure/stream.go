package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net/url"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// dial opens a TLS connection that ends with ctx.
func dial(ctx context.Context, target *url.URL, protocol string) (*tls.Conn, error) {
	d := tls.Dialer{Config: settings(protocol)}
	c, err := d.DialContext(ctx, "tcp", target.Host)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	return c.(*tls.Conn), nil
}

// askTLS asks over one connection of DNS over TLS. Each query is a record of its own, as most clients send it.
func askTLS(ctx context.Context, l *load, target *url.URL) error {
	c, err := dial(ctx, target, "dot")
	if err != nil {
		return err
	}
	out := make([]byte, 2, 600)
	send := func() error {
		out = append(out[:2], l.query()...)
		binary.BigEndian.PutUint16(out, uint16(len(out)-2))
		_, err := c.Write(out)
		return err
	}
	for range l.inFlight {
		if err := send(); err != nil {
			return err
		}
	}
	r := bufio.NewReaderSize(c, 1<<16)
	answer := make([]byte, 1<<16)
	for {
		if _, err := io.ReadFull(r, answer[:2]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint16(answer)
		if _, err := io.ReadFull(r, answer[:n]); err != nil {
			return err
		}
		if err := l.check(answer[:n]); err != nil {
			return err
		}
		if err := send(); err != nil {
			return err
		}
	}
}

// askHTTP2 asks over one connection of DNS over HTTPS, by POST.
func askHTTP2(ctx context.Context, l *load, target *url.URL) error {
	c, err := dial(ctx, target, "h2")
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(c, 1<<16)
	w.WriteString(http2.ClientPreface)
	f := http2.NewFramer(w, bufio.NewReaderSize(c, 1<<16))
	f.SetReuseFrames()
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		return err
	}
	if err := f.WriteWindowUpdate(0, 1<<30); err != nil {
		return err
	}
	h := &http2Client{l: l, target: target, f: f, block: &bytes.Buffer{}, stream: 1}
	h.encoder = hpack.NewEncoder(h.block)
	for range l.inFlight {
		if err := h.send(); err != nil {
			return err
		}
	}
	for {
		if err := w.Flush(); err != nil {
			return err
		}
		if err := h.receive(); err != nil {
			return err
		}
	}
}

// http2Client is the client's side of one connection.
type http2Client struct {
	l       *load
	target  *url.URL
	f       *http2.Framer
	block   *bytes.Buffer
	encoder *hpack.Encoder
	stream  uint32 // of the next request
	used    uint32 // bytes of the window that are not given back
}

// send writes a request.
func (h *http2Client) send() error {
	query := h.l.query()
	h.block.Reset()
	for _, field := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", h.target.Host}, {":path", h.target.Path},
		{"accept", "application/dns-message"}, {"content-type", "application/dns-message"},
	} {
		if err := h.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}); err != nil {
			return err
		}
	}
	if err := h.f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.stream, BlockFragment: h.block.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	defer func() { h.stream += 2 }()
	return h.f.WriteData(h.stream, true, query)
}

// receive reads a frame, and sends a request for each answer. An answer is expected in one frame.
func (h *http2Client) receive() error {
	frame, err := h.f.ReadFrame()
	if err != nil {
		return err
	}
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return h.f.WriteSettingsAck()
		}
	case *http2.DataFrame:
		if h.used += frame.Length; h.used > 1<<20 {
			if err := h.f.WriteWindowUpdate(0, h.used); err != nil {
				return err
			}
			h.used = 0
		}
		if err := h.l.check(frame.Data()); err != nil {
			return err
		}
		return h.send()
	case *http2.RSTStreamFrame:
		return http2.StreamError{StreamID: frame.StreamID, Code: frame.ErrCode}
	case *http2.GoAwayFrame:
		return http2.ConnectionError(frame.ErrCode)
	}
	return nil
}
