package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"rempart/bench"
)

// perSource is the number of idle connections from one source address: servers limit what one client may open.
const perSource = 100

// hold opens idle connections of DNS over TLS, each after one query, while it prints the memory of the server per connection. They are held until the time is over.
func (l *load) hold(target *url.URL, idle, pid int) error {
	before := bench.Memory(pid, "VmRSS")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var opened atomic.Int64
	var opening sync.WaitGroup
	errs := make(chan error, idle)
	next := make(chan int)
	for range 8 {
		opening.Go(func() {
			for i := range next {
				if err := l.openIdle(ctx, target, i); err != nil {
					errs <- err
					return
				}
				opened.Add(1)
			}
		})
	}
	for i := range idle {
		select {
		case next <- i:
		case err := <-errs:
			return fmt.Errorf("after %d connections: %w", opened.Load(), err)
		}
	}
	close(next)
	opening.Wait()
	if n := opened.Load(); n < int64(idle) {
		return fmt.Errorf("%d of %d connections: %w", n, idle, <-errs)
	}
	time.Sleep(l.duration)
	after := bench.Memory(pid, "VmRSS")
	fmt.Printf("idle %d server_mb %d before_mb %d kb_each %.1f\n", idle, after, before, float64(after-before)*1e3/float64(idle))
	return nil
}

// openIdle opens idle connection number i, which stays open until ctx ends.
func (l *load) openIdle(ctx context.Context, target *url.URL, i int) error {
	from := netip.AddrFrom4([4]byte{127, 1, byte(i / perSource / 250), byte(i/perSource%250 + 1)})
	d := tls.Dialer{Config: settings("dot"), NetDialer: &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}}
	c, err := d.DialContext(ctx, "tcp", target.Host)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { c.Close() })
	query := l.query()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return err
	}
	var answer [512]byte
	if _, err := io.ReadFull(c, answer[:2]); err != nil {
		return err
	}
	n := int(binary.BigEndian.Uint16(answer[:]))
	if n > len(answer) {
		return errors.New("a large answer")
	}
	if _, err := io.ReadFull(c, answer[:n]); err != nil {
		return err
	}
	return l.check(answer[:n])
}

// handshakes makes full TLS handshakes over l.conns connections at a time, and prints how many the server made per second of its CPU time.
func (l *load) handshakes(target *url.URL, pid int) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.duration)
	defer cancel()
	var all sync.WaitGroup
	var done atomic.Int64
	errs := make(chan error, l.conns)
	before := cpuOf(pid)
	for range l.conns {
		all.Go(func() {
			for ctx.Err() == nil {
				c, err := tls.Dial("tcp", target.Host, settings("dot"))
				if err != nil {
					errs <- err
					return
				}
				done.Add(1)
				c.Close()
			}
		})
	}
	all.Wait()
	spent := cpuOf(pid) - before
	select {
	case err := <-errs:
		return err
	default:
	}
	fmt.Printf("handshakes %d cpu_s %.2f per_cpu_second %.0f\n", done.Load(), spent.Seconds(), float64(done.Load())/spent.Seconds())
	return nil
}

// serveBare makes handshakes like a server that does nothing else, as a comparison.
func serveBare(addr, certificate, key string) error {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"dot"}})
	if err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(io.Discard, c)
		}()
	}
}
