package doctor

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/config"
	"rempart/internal/local"
)

// TestBlockedNameWithoutAddress checks a server whose answer for a blocked name has no address: that is a problem only where the settings name a page. Settings with a mistake
// name nothing.
func TestBlockedNameWithoutAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	answer := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Qclass == dns.ClassCHAOS {
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{"this one"}}}
		}
		_ = w.WriteMsg(m)
	})
	for _, s := range []*dns.Server{{Listener: l, Handler: answer}, {PacketConn: packets, Handler: answer}} {
		go s.ActivateAndServe()
		defer s.Shutdown()
	}
	page, noPage := &config.Config{}, &config.Config{}
	for _, c := range []*config.Config{page, noPage} {
		if err := c.PageIPv4.UnmarshalText([]byte("192.0.2.1")); err != nil {
			t.Fatal(err)
		}
	}
	page.BlockAnswer, noPage.BlockAnswer = "page", "nodata"
	for _, tt := range []struct {
		name   string
		config *config.Config
		want   Level
	}{{"page", page, Problem}, {"nodata", noPage, OK}, {"settings with a mistake", nil, OK}} {
		t.Run(tt.name, func(t *testing.T) {
			in := &installation{config: tt.config, status: &local.Status{Identity: "this one", Listening: []string{l.Addr().String()}}}
			if found := checkAnswers(t.Context(), in); found[0].Level != tt.want {
				t.Errorf("findings %+v, want %s", found, tt.want)
			}
		})
	}
}

// TestFindingsDoNotControlTheTerminal checks that text of other machines in a finding, such as the names in a certificate, is escaped.
func TestFindingsDoNotControlTheTerminal(t *testing.T) {
	var out bytes.Buffer
	if err := write(&out, one(Problem, "", "certificate is valid for \x1b]0;owned\x07\x1b[2J\u009b1m, é"), false); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\x07\u009b") || !strings.Contains(out.String(), `\x1b]0;owned\x07\x1b[2J\x9b1m, é`) {
		t.Errorf("written: %q", out.String())
	}
}
