package main

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// TestDnstap sends every answer to fstrm_capture: each transport is there, the address of the client is not.
func TestDnstap(t *testing.T) {
	t.Parallel()
	dnstest.Need(t, "fstrm_capture")
	const client = "127.0.0.99"
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "tap.sock"), filepath.Join(dir, "messages")
	capture := dnstest.StartPeer(t, exec.Command("fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", socket, "-w", file))
	capture.Answers(t, func() bool { _, err := os.Stat(socket); return err == nil })
	s := startEncrypted(t, upstreams(dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A "+origin))), "REMPART_DNSTAP=unix:"+socket, "REMPART_DNSTAP_SAMPLE=1", "REMPART_NODE=here")
	from := &dns.Client{Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}, Timeout: time.Minute}
	for _, name := range []string{"forwarded.example", "forwarded.example", "phishing.test", "token.phishing.test.go." + probeName} { // nothing is sent of the last one
		if _, _, err := from.Exchange(question(name), s.DNS); err != nil {
			t.Fatal(err)
		}
	}
	m := question("over-each-transport.example")
	m.Id = 0
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for _, ask := range s.clients {
		ask(t, packed)
	}
	dnstest.Eventually(t, "all messages arrive", func() bool {
		_, metrics := get(t, s.Program, "/metrics")
		return strings.Contains(metrics, `rempart_dnstap_messages_total{result="sent"} 10`)
	})
	s.Stop(t)
	capture.Stop()
	seen, all := map[string]int{}, ""
	for _, m := range readDnstap(t, file) {
		answer := new(dns.Msg)
		if err := answer.Unpack(m.Message.ResponseMessage); err != nil {
			t.Fatal(err)
		}
		addr, _ := netip.AddrFromSlice(m.Message.QueryAddress)
		if addr.String() != "127.0.0.0" || string(m.Identity) != "here" || m.Message.GetType() != dnstap.Message_CLIENT_RESPONSE {
			t.Errorf("unexpected message: %v", m)
		}
		seen[m.Message.GetSocketProtocol().String()+" "+answer.Question[0].Name]++
		all += m.String()
	}
	want := map[string]int{"UDP forwarded.example.": 2, "UDP phishing.test.": 1}
	for _, protocol := range []string{"UDP", "TCP", "DOT", "7"} {
		want[protocol+" over-each-transport.example."] = 1
	}
	want["DOH over-each-transport.example."] = 3
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(all, client) || strings.Contains(all, string(net.ParseIP(client).To4())) {
		t.Error("the messages contain the address of the client")
	}
}

// readDnstap reads a file of messages.
func readDnstap(t *testing.T, path string) (all []*dnstap.Dnstap) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := dnstap.NewReader(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := dnstap.NewDecoder(r, 1<<17)
	for {
		m := &dnstap.Dnstap{}
		if err := d.Decode(m); err != nil {
			return all
		}
		all = append(all, m)
	}
}
