package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rempart/internal/mmsg"
)

// datagramLoad sends queries over UDP at a constant rate.
type datagramLoad struct {
	load    restartLoad
	sockets []*datagramSocket
	sent    atomic.Int64
	lost    atomic.Int64 // without an answer
	failed  atomic.Int64 // answered with another rcode than NOERROR
	twice   atomic.Int64 // answered again
	longest atomic.Int64 // wait for an answer, nanoseconds
}

// datagramSocket is a client. Its queries have the IDs from 0 on, again and again.
type datagramSocket struct {
	fd    int
	asked [1 << 16]atomic.Int64 // by ID: when the query was sent; 0 if it was answered
	waits []time.Duration       // for the answers; of receive
}

// lostAfter is the time after which a query that was not answered is lost.
const lostAfter = 5 * time.Second

func newDatagramLoad(t *testing.T, to string, load restartLoad) *datagramLoad {
	t.Helper()
	l := &datagramLoad{load: load}
	for range 8 {
		c, err := net.Dial("udp", to)
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.(*net.UDPConn).File() // blocking
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
		fd := int(f.Fd())
		t.Cleanup(func() { f.Close() })
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
		l.sockets = append(l.sockets, &datagramSocket{fd: fd})
	}
	return l
}

// run sends all queries, waits for their answers, and counts the lost ones.
func (l *datagramLoad) run() {
	var receiving, sending sync.WaitGroup
	var done atomic.Bool
	for i, s := range l.sockets {
		receiving.Go(func() {
			for !done.Load() {
				l.receive(s)
			}
		})
		sending.Go(func() { l.send(i, s) })
	}
	sending.Wait()
	for end := time.Now().Add(lostAfter); l.waiting() > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	done.Store(true)
	receiving.Wait()
	l.lost.Add(l.waiting())
}

// during runs the load, and f in the meantime.
func (l *datagramLoad) during(f func()) {
	var running sync.WaitGroup
	running.Go(l.run)
	f()
	running.Wait()
}

// waiting returns the number of queries that were not answered.
func (l *datagramLoad) waiting() (n int64) {
	for _, s := range l.sockets {
		for id := range s.asked {
			if s.asked[id].Load() != 0 {
				n++
			}
		}
	}
	return n
}

// send sends the share of one socket, in batches.
func (l *datagramLoad) send(number int, s *datagramSocket) {
	const batch = 16
	var headers [batch]mmsg.Header
	var vectors [batch]unix.Iovec
	var packets [batch][]byte
	for i := range headers {
		headers[i].Hdr.Iov = &vectors[i]
		headers[i].Hdr.SetIovlen(1)
	}
	share := l.load.queries / len(l.sockets)
	every := time.Duration(batch*len(l.sockets)) * time.Second / time.Duration(l.load.rate)
	began := time.Now()
	for n := 0; n < share; n += batch {
		time.Sleep(time.Until(began.Add(time.Duration(n/batch) * every)))
		now := time.Now().UnixNano()
		for i := range batch {
			id := uint16(n + i)
			packets[i] = l.load.query(packets[i][:0], id, number*share+n+i)
			vectors[i].Base = &packets[i][0]
			vectors[i].SetLen(len(packets[i]))
			if s.asked[id].Swap(now) != 0 {
				l.lost.Add(1)
			}
		}
		for at := 0; at < batch; {
			k, errno := mmsg.Send(uintptr(s.fd), headers[at:])
			if errno != 0 && errno != unix.EAGAIN && errno != unix.ECONNREFUSED {
				panic(errno)
			}
			at += k
		}
		l.sent.Add(batch)
	}
}

// receive takes the answers that have arrived.
func (l *datagramLoad) receive(s *datagramSocket) {
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(s.fd, buf)
		if err != nil || n < 12 {
			return
		}
		asked := s.asked[binary.BigEndian.Uint16(buf)].Swap(0)
		switch {
		case asked == 0:
			l.twice.Add(1)
		case buf[3]&0xf != 0:
			l.failed.Add(1)
		default:
			wait := time.Now().UnixNano() - asked
			longest(&l.longest, wait)
			s.waits = append(s.waits, time.Duration(wait))
		}
	}
}

// longest keeps the largest value.
func longest(of *atomic.Int64, v int64) {
	for old := of.Load(); v > old && !of.CompareAndSwap(old, v); old = of.Load() {
	}
}

// loadQuery appends query number n: four in ten are blocked, nearly all others cached, and one in fifty asks for a new name.
func loadQuery(b []byte, id uint16, n int) []byte {
	b = append(b, byte(id>>8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	name := fmt.Sprintf("n%d", n%997)
	if n%50 == 0 {
		name = fmt.Sprintf("new%d", n)
	}
	zone := "example"
	if n%10 < 4 && n%50 != 0 {
		name, zone = "phishing", "test"
	}
	b = append(b, byte(len(name)))
	b = append(b, name...)
	b = append(b, byte(len(zone)))
	b = append(b, zone...)
	return append(b, 0, 0, 1, 0, 1)
}

// quantile returns the wait that this share of the answers did not exceed. Call it after run.
func (l *datagramLoad) quantile(share float64) time.Duration {
	var all []time.Duration
	for _, s := range l.sockets {
		all = append(all, s.waits...)
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[min(len(all)-1, int(share*float64(len(all))))]
}
