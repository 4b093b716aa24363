package dnstest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// patience is how long the client waits for one answer.
const patience = 30 * time.Second

// Exchange sends m over network ("udp" or "tcp") to addr and returns the answer with the same ID. If there is no answer, or an invalid one, the test fails.
func Exchange(t testing.TB, network, addr string, m *dns.Msg) *dns.Msg {
	t.Helper()
	packed, err := m.Pack()
	if err != nil {
		t.Fatalf("dnstest: packing: %v", err)
	}
	answer, err := ExchangePacked(network, addr, packed)
	if err != nil {
		t.Fatalf("dnstest: %v", err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(answer); err != nil {
		t.Fatalf("dnstest: unpacking the answer: %v", err)
	}
	if out.Id != m.Id {
		t.Fatalf("dnstest: the answer's ID is %d, want %d", out.Id, m.Id)
	}
	return out
}

// ExchangePacked sends packed unchanged, over "tcp" with its length first, and returns the first message that it receives.
func ExchangePacked(network, addr string, packed []byte) ([]byte, error) {
	c, err := net.DialTimeout(network, addr, patience)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if network == "udp" {
		return exchangeDatagram(c, packed)
	}
	return exchangeFrame(c, packed)
}

func exchangeDatagram(c net.Conn, packed []byte) ([]byte, error) {
	if _, err := c.Write(packed); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	buf := make([]byte, dns.MaxMsgSize)
	n, err := c.Read(buf)
	if err != nil {
		return nil, fmt.Errorf("waiting for an answer: %w", err)
	}
	return buf[:n], nil
}

func exchangeFrame(c net.Conn, packed []byte) ([]byte, error) {
	if _, err := c.Write(Framed(packed)); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	answer, err := ReadFrame(c)
	if err != nil {
		return nil, fmt.Errorf("waiting for an answer: %w", err)
	}
	return answer, nil
}

// Framed returns the messages, each behind its length (RFC 1035 section 4.2.2).
func Framed(messages ...[]byte) (out []byte) {
	for _, m := range messages {
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(m))), m...)
	}
	return out
}

// ReadFrame reads a length and a message of that length (RFC 1035 section 4.2.2). The error is io.EOF if nothing follows, and io.ErrUnexpectedEOF for an incomplete
// message.
func ReadFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}
