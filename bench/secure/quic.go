package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/url"
	"sync"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// askQUIC asks over one connection of DNS over QUIC.
func askQUIC(ctx context.Context, l *load, target *url.URL) error {
	c, err := quic.DialAddr(ctx, target.Host, settings("doq"), nil)
	if err != nil {
		return err
	}
	defer c.CloseWithError(0, "")
	return together(ctx, l, c, func(dst, query []byte) []byte {
		return append(binary.BigEndian.AppendUint16(dst, uint16(len(query))), query...)
	}, func(answer []byte) ([]byte, error) {
		if len(answer) < 2 {
			return nil, errors.New("an empty answer")
		}
		return answer[2:], nil
	})
}

// Frames of HTTP/3 (RFC 9114 section 7.2).
const (
	h3Data     = 0x0
	h3Headers  = 0x1
	h3Settings = 0x4
)

// askHTTP3 asks over one connection of DNS over HTTPS with HTTP/3, by POST. It frames the messages itself, because the HTTP/3 client of quic-go needs more CPU
// time than the servers.
func askHTTP3(ctx context.Context, l *load, target *url.URL) error {
	c, err := quic.DialAddr(ctx, target.Host, settings("h3"), nil)
	if err != nil {
		return err
	}
	defer c.CloseWithError(0x100, "")
	control, err := c.OpenUniStream()
	if err != nil {
		return err
	}
	if _, err := control.Write([]byte{0, h3Settings, 0}); err != nil {
		return err
	}
	var section bytes.Buffer
	encoder := qpack.NewEncoder(&section)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":authority", target.Host}, {":path", target.Path},
		{"accept", "application/dns-message"}, {"content-type", "application/dns-message"},
	} {
		if err := encoder.WriteField(qpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			return err
		}
	}
	head := h3Frame(nil, h3Headers, section.Bytes())
	return together(ctx, l, c, func(dst, query []byte) []byte {
		return h3Frame(append(dst, head...), h3Data, query)
	}, h3Content)
}

// h3Frame appends a frame.
func h3Frame(dst []byte, kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(dst, kind), uint64(len(payload))), payload...)
}

// h3Content returns the content of a response in one DATA frame.
func h3Content(response []byte) ([]byte, error) {
	for len(response) > 0 {
		kind, n, err := quicvarint.Parse(response)
		if err != nil {
			return nil, err
		}
		response = response[n:]
		length, n, err := quicvarint.Parse(response)
		if err != nil || length > uint64(len(response)-n) {
			return nil, errors.New("a truncated frame")
		}
		if kind == h3Data {
			return response[n : n+int(length)], nil
		}
		response = response[n+int(length):]
	}
	return nil, errors.New("a response without content")
}

// together sends queries over streams of a connection, in one goroutine per query in flight, until one of them fails. request appends the content of a stream to dst, and
// content returns the answer in what the server sent.
func together(ctx context.Context, l *load, c *quic.Conn, request func(dst, query []byte) []byte, content func([]byte) ([]byte, error)) error {
	var all sync.WaitGroup
	errs := make(chan error, l.inFlight)
	for range l.inFlight {
		all.Go(func() {
			buf := make([]byte, 0, 4096)
			for {
				st, err := c.OpenStreamSync(ctx)
				if err == nil {
					_, err = st.Write(request(buf[:0], l.query()))
				}
				if err == nil {
					err = st.Close()
				}
				var n int
				for err == nil && n < cap(buf) {
					var more int
					more, err = st.Read(buf[n:cap(buf)])
					n += more
				}
				answer := buf[:n]
				if err == io.EOF {
					answer, err = content(answer)
				}
				if err == nil {
					err = l.check(answer)
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	return <-errs
}
