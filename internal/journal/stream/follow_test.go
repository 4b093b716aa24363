package stream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy forwards data between a node and a server. It can close the connections, or discard the data and keep the connections open.
type proxy struct {
	l  net.Listener
	to string

	mu     sync.Mutex
	conns  []net.Conn
	silent bool
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to}
	t.Cleanup(func() { l.Close(); p.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.join(c)
		}
	}()
	return p
}

func (p *proxy) join(c net.Conn) {
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		c.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, c, far)
	p.mu.Unlock()
	pass := func(to, from net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			p.mu.Lock()
			silent := p.silent
			p.mu.Unlock()
			if !silent {
				to.Write(buf[:n])
			}
			if err != nil {
				to.Close()
				return
			}
		}
	}
	go pass(far, c)
	pass(c, far)
}

// cut closes all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// hush sets whether data is discarded.
func (p *proxy) hush(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
}

// TestFollowSurvivesRestarts checks that a node which calls Connect before the server runs receives all records while its connection is closed repeatedly and the
// server and control are restarted.
func TestFollowSurvivesRestarts(t *testing.T) {
	n := newServer(t, nil)
	s := open(t, n.config())
	s.Close()
	n.stop()
	p := newProxy(t, n.addr())
	node := node(t, p.l.Addr().String())
	beats := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { node.FollowBeats(ctx, func(data []byte) error { beats <- string(data); return nil }) })
	const records = 300
	wg.Go(func() { collect(t, node, 0, records) })
	for i := range uint64(records) {
		switch {
		case i%100 == 0: // also before the first record, so that the first server starts here
			s.Close()
			n.stop()
			n.start()
			s = open(t, n.config())
		case i%30 == 0:
			p.cut()
		}
		appendOK(t, s, i, "change", payload(i+1))
	}
	if err := s.Beat(t.Context(), []byte("the last")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heartbeat", func() bool { return <-beats == "the last" })
	cancel()
	wg.Wait()
}

// TestFollowDetectsDeadConnection checks that a node detects a connection that is open and delivers no data, and continues on a new connection.
func TestFollowDetectsDeadConnection(t *testing.T) {
	if testing.Short() {
		t.Skip("takes ten seconds")
	}
	n := newServer(t, nil)
	s := open(t, n.config())
	p := newProxy(t, n.addr())
	node := node(t, p.l.Addr().String())
	var wg sync.WaitGroup
	wg.Go(func() { collect(t, node, 0, 10) })
	for i := range uint64(5) {
		appendOK(t, s, i, "change", payload(i+1))
	}
	p.hush(true)
	for i := range uint64(5) {
		appendOK(t, s, 5+i, "change", payload(5+i+1))
	}
	eventually(t, "the node to detect the dead connection", func() bool { return !node.nc.IsConnected() })
	p.hush(false)
	wg.Wait()
}

// TestRecordsArriveWithoutPolling checks that records arrive long before the next poll.
func TestRecordsArriveWithoutPolling(t *testing.T) {
	s := open(t, testConfig(t))
	node := connect(t, s)
	arrived := make(chan uint64, 10)
	go node.Follow(t.Context(), 0, func(r Record) error { arrived <- r.Sequence; return nil })
	appendOK(t, s, 0, "change", nil)
	<-arrived
	sequence := uint64(1)
	eventually(t, "50 records that do not wait for the next poll", func() bool { // a loaded machine may delay a record
		var worst time.Duration
		for range 50 {
			appendOK(t, s, sequence, "change", nil)
			began := time.Now()
			<-arrived
			worst = max(worst, time.Since(began))
			sequence++
		}
		t.Logf("the latest of 50 records arrived %v after its acknowledgement", worst)
		return worst <= pollInterval/2
	})
}

// TestFollowEndsAtLostRecord checks that Follow returns when records are lost.
func TestFollowEndsAtLostRecord(t *testing.T) {
	s := open(t, testConfig(t))
	ctx := t.Context()
	there, err := s.js.Stream(ctx, auditStream)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		if _, err := s.AppendAudit(ctx, i, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := there.Purge(ctx); err == nil {
		t.Error("a stream that must keep its records can be purged")
	}
	if err := there.DeleteMsg(ctx, 2); err == nil {
		t.Error("a record that must be kept can be deleted")
	}
	// A journal with other settings is refused, and the error names all of them.
	c := testConfig(t)
	s = open(t, c)
	config := streamConfigs(1)[0]
	if err := s.js.DeleteStream(ctx, journalStream); err != nil {
		t.Fatal(err)
	}
	config.MaxAge, config.DenyDelete = time.Hour, false
	if _, err := s.js.CreateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(5) {
		appendOK(t, s, i, "change", payload(i+1))
	}
	if there, err = s.js.Stream(ctx, journalStream); err != nil {
		t.Fatal(err)
	}
	if err := there.DeleteMsg(ctx, 3); err != nil {
		t.Fatal(err)
	}
	last := uint64(0)
	err = s.Follow(ctx, 0, func(r Record) error { last = r.Sequence; return nil })
	if !errors.Is(err, ErrLost) || last != 2 {
		t.Errorf("followed up to %d: error %v", last, err)
	}
	s.Close()
	if _, err := Open(ctx, c); err == nil {
		t.Error("opened a journal whose records expire")
	} else {
		fmt.Fprintln(t.Output(), err)
	}
}
