package rpz

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/pause"
)

// How often a NOTIFY is sent until the secondary confirms it: each waiting time is twice the one before (RFC 1996 section 3.6).
const (
	notifyTries = 5
	notifyWait  = time.Second
)

// notifier sends NOTIFY to one secondary.
type notifier struct {
	server *Server
	to     Secondary
	key    *key
	wake   chan uint32 // the newest serial, capacity 1
}

func (s *Server) newNotifier(to Secondary) (*notifier, error) {
	n := &notifier{server: s, to: to, wake: make(chan uint32, 1)}
	if !to.Addr.IsValid() || to.Addr.Port() == 0 {
		return nil, fmt.Errorf("the resolver to notify %s is no address with a port", to.Addr)
	}
	if to.Key == "" {
		return n, nil
	}
	k, err := s.keyOf(to.Key)
	if err != nil {
		return nil, fmt.Errorf("the resolver to notify %s: %w", to.Addr, err)
	}
	n.key = k
	return n, nil
}

// request schedules a NOTIFY with a serial. It replaces a scheduled NOTIFY that was not sent yet. Only one goroutine may call it.
func (n *notifier) request(serial uint32) {
	select {
	case <-n.wake:
	default:
	}
	n.wake <- serial
}

// run sends NOTIFY until ctx ends. A newer serial ends the attempts for the one before.
func (n *notifier) run(ctx context.Context) {
	var serial uint32
	for {
		select {
		case <-ctx.Done():
			return
		case serial = <-n.wake:
		}
		for _, z := range n.server.zones {
			if z.keys != nil && n.key != nil && !z.keys[n.key] {
				continue
			}
			err := n.notify(ctx, z, serial)
			if ctx.Err() != nil {
				return
			}
			n.server.metrics.notify(err == nil)
			if len(n.wake) > 0 {
				break
			}
		}
	}
}

var errUnheard = errors.New("nobody answers")

// notify sends NOTIFY until it is answered.
func (n *notifier) notify(ctx context.Context, z *zone, serial uint32) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(n.to.Addr))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	wait := notifyWait
	for range notifyTries {
		end := time.Now().Add(wait)
		if n.attempt(conn, z, serial, end) == nil {
			return nil
		}
		pause.For(ctx, time.Until(end)) // a closed port is reported at once
		if ctx.Err() != nil || len(n.wake) > 0 {
			break
		}
		wait *= 2
	}
	return errUnheard
}

// attempt sends one NOTIFY and waits for its answer.
func (n *notifier) attempt(conn *net.UDPConn, z *zone, serial uint32, end time.Time) error {
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	m := notification(z, serial, binary.BigEndian.Uint16(id[:]))
	sign := &signer{key: n.key}
	if err := conn.SetDeadline(end); err != nil {
		return err
	}
	_, err := conn.Write(sign.sign(m.buf))
	buf := make([]byte, dns.MaxMsgSize)
	for err == nil {
		var size int
		if size, err = conn.Read(buf); err == nil && n.answers(buf[:size], id, sign.prior) {
			return nil
		}
	}
	return err
}

// answers reports whether a message is the secondary's answer, with any content.
func (n *notifier) answers(packed []byte, id [2]byte, mac []byte) bool {
	var m dns.Msg
	if len(packed) < headerLen || [2]byte(packed) != id || m.Unpack(packed) != nil || !m.Response || m.Opcode != dns.OpcodeNotify {
		return false
	}
	if n.key == nil {
		return true
	}
	t := m.IsTsig()
	if t == nil || string(wireName(t.Hdr.Name)) != string(n.key.name) {
		return false
	}
	tsigError, _ := n.key.verify(packed, t, mac)
	return tsigError == dns.RcodeSuccess
}

// notification returns a NOTIFY with the SOA as a hint (RFC 1996 section 3.7).
func notification(z *zone, serial uint32, id uint16) *message {
	query := make([]byte, headerLen, headerLen+len(z.name)+4)
	binary.BigEndian.PutUint16(query, id)
	query[5] = 1
	query = append(query, z.name...)
	query = binary.BigEndian.AppendUint16(query, dns.TypeSOA)
	query = binary.BigEndian.AppendUint16(query, dns.ClassINET)
	m := newMessage(query, z, dns.RcodeSuccess)
	m.buf[2] = dns.OpcodeNotify<<3 | 0x04 // AA
	m.soa(serial)
	return m
}
