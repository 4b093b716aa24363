package clientsetup

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// usual is a server on the usual ports with an address of each family.
func usual(change func(*Service)) *Service {
	s := &Service{
		Name: "dns.example", Organisation: `A & B <"DNS">`, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
		Path: "/dns-query", DNSPort: 53, TLSPort: 853, HTTPSPort: 443,
	}
	if change != nil {
		change(s)
	}
	return s
}

// unusual is the same on other ports.
func unusual(s *Service) { s.DNSPort, s.TLSPort, s.HTTPSPort = 5353, 8853, 8443 }

// text returns the settings of one client.
func text(t *testing.T, name string, change func(*Service)) string {
	t.Helper()
	all := Sections()
	i := slices.IndexFunc(all, func(s Section) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no section %s", name)
	}
	text, err := all[i].Text(usual(change))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return text
}

// file writes a text to a file and returns its path.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// output runs a program, which must succeed, and returns its output, warnings included.
func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	dnstest.Need(t, program)
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", program, args, err, out)
	}
	return string(out)
}

// TestProgramsAcceptTheirSettings checks settings by the programs that read them.
func TestProgramsAcceptTheirSettings(t *testing.T) {
	for name, change := range map[string]func(*Service){"usual ports": nil, "other ports": unusual} {
		t.Run(name, func(t *testing.T) {
			t.Run("unbound", func(t *testing.T) {
				output(t, "unbound-checkconf", file(t, "unbound.conf", text(t, "unbound", change)))
			})
			t.Run("dnsmasq", func(t *testing.T) {
				output(t, "dnsmasq", "--test", "-C", file(t, "dnsmasq.conf", text(t, "dnsmasq", change)))
			})
			t.Run("stubby", func(t *testing.T) {
				said := output(t, "stubby", "-i", "-C", file(t, "stubby.yml", text(t, "stubby", change)))
				for _, want := range []string{`"dns.example`, "192.0.2.53", "2001:db8::53", "GETDNS_AUTHENTICATION_REQUIRED"} {
					if !strings.Contains(said, want) {
						t.Errorf("stubby did not read %s:\n%s", want, said)
					}
				}
			})
		})
	}
}

// TestPoliciesOfBrowsers reads the policies as the browsers do.
func TestPoliciesOfBrowsers(t *testing.T) {
	var firefox struct {
		Policies struct {
			DNSOverHTTPS struct {
				Enabled, Fallback bool
				ProviderURL       string
			} `json:"DNSOverHTTPS"`
		} `json:"policies"`
	}
	if err := json.Unmarshal([]byte(text(t, "firefox", nil)), &firefox); err != nil {
		t.Fatal(err)
	}
	if p := firefox.Policies.DNSOverHTTPS; !p.Enabled || p.Fallback || p.ProviderURL != "https://dns.example/dns-query" {
		t.Errorf("Firefox: %+v", p)
	}
	var chrome map[string]string
	if err := json.Unmarshal([]byte(text(t, "chrome", unusual)), &chrome); err != nil {
		t.Fatal(err)
	}
	if chrome["DnsOverHttpsMode"] != "secure" || chrome["DnsOverHttpsTemplates"] != "https://dns.example:8443/dns-query" {
		t.Errorf("Chrome: %v", chrome)
	}
	for _, name := range []string{"firefox", "chrome"} {
		output(t, "python3", "-m", "json.tool", file(t, "policies.json", text(t, name, nil)))
	}
}

// TestTextsWithoutAChecker compares the settings of programs that check no file.
func TestTextsWithoutAChecker(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Service)
		want   string
	}{
		{"android", nil, "dns.example\n"},
		{"windows", nil, "netsh dns add encryption server=192.0.2.53 dohtemplate=https://dns.example/dns-query autoupgrade=yes udpfallback=no\n"},
		{"powershell", unusual, "Add-DnsClientDohServerAddress -ServerAddress '2001:db8::53' -DohTemplate 'https://dns.example:8443/dns-query' -AutoUpgrade $True -AllowFallbackToUdp $False\n"},
		{"systemd-resolved", nil, "DNS=192.0.2.53#dns.example 2001:db8::53#dns.example\n"},
		{"systemd-resolved", unusual, "DNS=192.0.2.53:8853#dns.example [2001:db8::53]:8853#dns.example\n"},
	} {
		if got := text(t, tt.name, tt.change); !strings.Contains(got, tt.want) {
			t.Errorf("%s: it does not contain %q:\n%s", tt.name, tt.want, got)
		}
	}
}

// TestMissingTransportIsNamed checks that settings that cannot work are replaced by the reason.
func TestMissingTransportIsNamed(t *testing.T) {
	none := func(s *Service) { s.DNSPort, s.TLSPort, s.HTTPSPort = 0, 0, 0 }
	nowhere := func(s *Service) { s.Addrs = nil }
	for _, tt := range []struct {
		change func(*Service)
		want   map[string]string // by the name of the section; other sections are complete
	}{
		{nil, nil},
		{none, map[string]string{
			"android": "TLS_LISTEN", "apple": "HTTPS_LISTEN", "apple-tls": "TLS_LISTEN", "windows": "HTTPS_LISTEN", "powershell": "HTTPS_LISTEN", "firefox": "HTTPS_LISTEN",
			"chrome": "HTTPS_LISTEN", "unbound": "TLS_LISTEN", "systemd-resolved": "TLS_LISTEN", "stubby": "TLS_LISTEN", "dnsmasq": "REMPART_LISTEN", "qr": "TLS_LISTEN",
			"dnr-dnsmasq": "TLS_LISTEN", "dnr-kea4": "TLS_LISTEN", "dnr-kea6": "TLS_LISTEN",
		}},
		{nowhere, map[string]string{
			"windows": "--address", "powershell": "--address", "unbound": "--address", "systemd-resolved": "--address", "stubby": "--address", "dnsmasq": "--address",
			"dnr-dnsmasq": "--address", "dnr-kea4": "--address", "dnr-kea6": "--address",
		}},
		{unusual, map[string]string{"android": "on port 8853", "apple-tls": "on port 8853"}},
	} {
		for _, s := range Sections() {
			text, err := s.Text(usual(tt.change))
			missing := Missing("")
			switch want := tt.want[s.Name]; {
			case want == "" && (err != nil || text == ""):
				t.Errorf("%s: %q, %v", s.Name, text, err)
			case want != "" && (!errors.As(err, &missing) || !strings.Contains(err.Error(), want)):
				t.Errorf("%s: error %v, want a reason with %q", s.Name, err, want)
			}
		}
	}
}
