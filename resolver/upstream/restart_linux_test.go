package upstream

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/resolver/upstream/transport"
)

// TestQuestionIsAnsweredAfterRestartOfUpstream sends a question that the only upstream reads and does not answer before its socket is closed. The system refuses the
// repetitions by ICMP. The question is answered when the upstream is there again.
func TestQuestionIsAnsweredAfterRestartOfUpstream(t *testing.T) {
	addr := dnstest.FreeAddr(t)
	conn, err := net.ListenPacket("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := newPoolOf(t, Config{Timeout: 20 * time.Second}, "udp://"+addr)
	via(p).NoteEDNS() // so that the question is not soon sent without EDNS
	ended := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := exchangeWith(p, ctx, question(t, "www.example"))
		ended <- err
	}()
	buf := make([]byte, 2048)
	if _, _, err := conn.ReadFrom(buf); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	dnstest.Eventually(t, "a repetition is refused", func() bool { return p.Stats().Upstreams[0].Failures[transport.Unreachable] > 0 })
	time.Sleep(1500 * time.Millisecond) // the question was sent without EDNS, too
	again, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	began := time.Now()
	go func() {
		u := &rawUpstream{conn: again}
		for {
			n, from, err := again.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			u.reply(slices.Clone(buf[:n]), from)
		}
	}()
	if err := <-ended; err != nil {
		t.Errorf("the question failed: %v", err)
	}
	t.Logf("the question ended %v after the restart", time.Since(began))
}
