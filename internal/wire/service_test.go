package wire

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"
)

// TestServiceIsAnSVCBRecord checks the packed data of services by the complete decoder, which refuses parameters in another order.
func TestServiceIsAnSVCBRecord(t *testing.T) {
	target, err := AppendName(nil, "dns.example")
	if err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("192.0.2.2")}
	for _, tt := range []struct {
		service Service
		want    string
	}{
		{Service{1, target, ServiceParams{ALPN: []string{"dot"}}}, `1 dns.example. alpn="dot"`},
		{Service{2, target, ServiceParams{[]string{"h2", "h3"}, 8443, addrs, "/dns-query{?dns}"}},
			`2 dns.example. alpn="h2,h3" port="8443" ipv4hint="192.0.2.1,192.0.2.2" ipv6hint="2001:db8::1" dohpath="/dns-query{?dns}"`},
	} {
		data := tt.service.Append(nil)
		record := append([]byte(OwnerPointer+"\x00\x40\x00\x01\x00\x00\x00\x00\x00"), byte(len(data)))
		message := append([]byte("\x00\x00\x80\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01x\x00\x00\x40\x00\x01"), append(record, data...)...)
		m := new(dns.Msg)
		if err := m.Unpack(message); err != nil {
			t.Fatal(err)
		}
		want, err := dns.NewRR("x. 0 IN SVCB " + tt.want)
		if err != nil {
			t.Fatal(err)
		}
		if m.Answer[0].String() != want.String() {
			t.Errorf("the record is %s, want %s", m.Answer[0], want)
		}
	}
}
