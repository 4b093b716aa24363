package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"rempart/internal/dnstest"
)

// TestTCPQueriesAreAnsweredAfterSIGTERM checks that a client receives the answers to all queries that it sent over TCP before the program received SIGTERM.
func TestTCPQueriesAreAnsweredAfterSIGTERM(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u))
	c, err := net.Dial("tcp", p.DNS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	packed, err := question("phishing.test").Pack()
	if err != nil {
		t.Fatal(err)
	}
	frame := dnstest.Framed(packed)
	var all []byte
	for range n {
		all = append(all, frame...)
	}
	if _, err := c.Write(frame); err != nil { // an answer shows that the connection is served
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	next := func() error {
		var length [2]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return err
		}
		_, err := in.Discard(int(binary.BigEndian.Uint16(length[:])))
		return err
	}
	if err := next(); err != nil {
		t.Fatal(err)
	}
	go func() {
		if _, err := c.Write(all); err != nil {
			t.Errorf("writing: %v", err)
		}
		p.Signal(t, syscall.SIGTERM)
	}()
	got := 0
	for ; got < n; got++ {
		if err := next(); err != nil {
			t.Fatalf("after %d of %d answers: %v", got, n, err)
		}
	}
	if err := next(); err != io.EOF {
		t.Errorf("after the last answer: %v, want the end of the connection", err)
	}
}
