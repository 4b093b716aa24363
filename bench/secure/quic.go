package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// together runs ask in one goroutine per query in flight, until one of them fails.
func together(l *load, ask func() error) error {
	var all sync.WaitGroup
	errs := make(chan error, l.inFlight)
	for range l.inFlight {
		all.Go(func() {
			for {
				if err := ask(); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	return <-errs
}

// askQUIC asks over one connection of DNS over QUIC.
func askQUIC(ctx context.Context, l *load, target *url.URL) error {
	c, err := quic.DialAddr(ctx, target.Host, settings("doq"), nil)
	if err != nil {
		return err
	}
	defer c.CloseWithError(0, "")
	return together(l, func() error {
		st, err := c.OpenStreamSync(ctx)
		if err != nil {
			return err
		}
		query := l.query()
		if _, err := st.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
			return err
		}
		if err := st.Close(); err != nil {
			return err
		}
		answer, err := io.ReadAll(st)
		if err != nil {
			return err
		}
		if len(answer) < 2 {
			return errors.New("an empty answer")
		}
		return l.check(answer[2:])
	})
}

// askHTTP3 asks over one connection of DNS over HTTPS with HTTP/3, by POST.
func askHTTP3(ctx context.Context, l *load, target *url.URL) error {
	transport := &http3.Transport{TLSClientConfig: settings("h3")}
	defer transport.Close()
	client := http.Client{Transport: transport}
	at := "https://" + target.Host + target.Path
	return together(l, func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(l.query()))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/dns-message")
		res, err := client.Do(r)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		return l.check(answer)
	})
}
