package format

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
)

func TestTriggers(t *testing.T) {
	tests := []struct{ line, want string }{
		{"32.34.216.184.93.rpz-ip CNAME .", "93.184.216.34/32"},
		{"24.0.216.184.93.rpz-ip CNAME *.", "93.184.216.0/24"},
		{"24.0.216.184.93.RPZ-IP 60 IN CNAME rpz-drop.", "93.184.216.0/24"},
		{"24.0.216.184.93.rpz-ip A 0.0.0.0", "93.184.216.0/24"},
		{"48.zz.2800.2606.rpz-ip CNAME .", "2606:2800::/48"},
		{"128.1.zz.2800.2606.rpz-ip CNAME .", "2606:2800::1/128"},
		{"128.8.7.6.5.4.3.2800.2606.rpz-ip CNAME .", "2606:2800:3:4:5:6:7:8/128"},
		{"64.zz.3.2.2800.2606.rpz-ip CNAME .", "2606:2800:2:3::/64"},
		{"128.7.6.5.4.3.2.zz.2606.rpz-ip CNAME .", "2606:0:2:3:4:5:6:7/128"},

		{"16.0.0.184.93.rpz-ip CNAME .", "!short-prefix"},
		{"23.0.216.184.93.rpz-ip CNAME .", "!short-prefix"},
		{"32.zz.2800.2606.rpz-ip CNAME .", "!short-prefix"},
		{"24.0.0.0.10.rpz-ip CNAME .", "!not-global"},
		{"32.1.0.0.127.rpz-ip CNAME .", "!not-global"},
		{"32.1.1.168.192.rpz-ip CNAME .", "!not-global"},
		{"24.0.0.16.172.rpz-ip CNAME .", "!not-global"},
		{"24.0.0.64.100.rpz-ip CNAME .", "!not-global"},
		{"24.0.1.254.169.rpz-ip CNAME .", "!not-global"},
		{"24.0.0.0.224.rpz-ip CNAME .", "!not-global"},
		{"32.255.255.255.255.rpz-ip CNAME .", "!not-global"},
		{"32.0.0.0.0.rpz-ip CNAME .", "!not-global"},
		{"128.1.zz.rpz-ip CNAME .", "!not-global"},
		{"64.zz.fe80.rpz-ip CNAME .", "!not-global"},
		{"48.zz.fd00.rpz-ip CNAME .", "!not-global"},
		{"48.zz.ff02.rpz-ip CNAME .", "!not-global"},
		{"48.zz.db8.2001.rpz-ip CNAME .", "!not-global"},
		{"48.zz.2002.rpz-ip CNAME .", "!not-global"},
		{"128.102.304.ffff.zz.rpz-ip CNAME .", "!not-global"}, // ::ffff:3.4.1.2
		{"96.zz.ff9b.64.rpz-ip CNAME .", "!not-global"},

		{"24.0.216.184.93.rpz-ip CNAME rpz-passthru.", "!passed-address"},
		{"24.0.216.184.93.rpz-ip CNAME rpz-tcp-only.", "!redirect"},
		{"24.0.216.184.93.rpz-ip CNAME page.example.", "!redirect"},
		{"24.0.216.184.93.rpz-ip A 192.0.2.1", "!redirect"},

		{"24.1.216.184.93.rpz-ip CNAME .", "!rpz-malformed"}, // bits beyond the prefix
		{"33.34.216.184.93.rpz-ip CNAME .", "!rpz-malformed"},
		{"0.0.0.0.0.rpz-ip CNAME .", "!rpz-malformed"},
		{"24.0.216.184.256.rpz-ip CNAME .", "!rpz-malformed"},
		{"24.0.216.184.093.rpz-ip CNAME .", "!rpz-malformed"},
		{"216.184.93.rpz-ip CNAME .", "!rpz-malformed"},
		{"129.1.zz.2800.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"128.zz.1.zz.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"128.8.7.6.5.4.3.2800.zz.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"128.9.8.7.6.5.4.3.2800.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"128.10000.zz.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"128.-1.zz.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"128..zz.2606.rpz-ip CNAME .", "!rpz-malformed"},
		{"rpz-ip CNAME .", "!rpz-malformed"},
		{"x.rpz-else CNAME .", "!rpz-malformed"},

		{"24.0.2.0.192.rpz-client-ip CNAME .", "!rpz-trigger"},
		{"24.1.2.0.192.rpz-client-ip CNAME .", "!rpz-malformed"},
		{"8.0.0.0.10.rpz-nsip CNAME rpz-passthru.", "!rpz-trigger"},
		{"x.rpz-nsip CNAME .", "!rpz-malformed"},
		{"ns.evil.example.rpz-nsdname CNAME .", "!rpz-trigger"},
		{"*.evil.example.rpz-nsdname CNAME .", "!rpz-trigger"},
		{"example.rpz-nsdname CNAME .", "!rpz-trigger"},
		{"a..b.rpz-nsdname CNAME .", "!rpz-malformed"},
	}
	for _, tt := range tests {
		for _, f := range []Format{Auto, RPZ} {
			if got := strings.Join(readAs(t, Options{Format: f}, tt.line), " "); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.line, got, tt.want)
			}
		}
	}
	zone := "$ORIGIN rpz.example.\n@ SOA a. b. 1 2 3 4 5\n32.34.216.184.93.rpz-ip CNAME .\n32.35.216.184.93.rpz-ip.rpz.example. CNAME .\n"
	if diff := cmp.Diff([]string{"93.184.216.34/32", "93.184.216.35/32"}, read(t, zone)); diff != "" {
		t.Errorf("in a zone (-want +got)\n%s", diff)
	}
	s := &transcript{t: t}
	if _, err := Parse(strings.NewReader("32.34.216.184.93.rpz-ip CNAME .\na.example\n"), Options{}, Allowing(s)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"!passed-address", "+a.example"}, s.lines); diff != "" {
		t.Errorf("as an allow list (-want +got)\n%s", diff)
	}
	if p := (blocklist.Listing{}).Prefix; p.IsValid() {
		t.Error("a listing of a name has a prefix")
	}
}
