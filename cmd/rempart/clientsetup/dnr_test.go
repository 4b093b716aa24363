package clientsetup

import (
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// The options of RFC 9463 for the server of usual, field by field.
const (
	tlsParams   = "0001 0004 03646f74"                                                 // alpn=dot
	httpsParams = "0001 0006 02683202 6833 0007 0010 2f646e732d71756572797b3f646e737d" // alpn=h2,h3 dohpath=/dns-query{?dns}
	wireName    = "03646e73 076578616d706c65 00"
	option4     = "001d 0001 0d" + wireName + "04 c0000235" + tlsParams + // length, priority, length of the name, name, length of the addresses, addresses, parameters
		"0033 0002 0d" + wireName + "04 c0000235" + httpsParams
	option6 = "0001 000d" + wireName + "0010 20010db8000000000000000000000053" + tlsParams // priority, length of the name, name, length of the addresses, addresses, parameters
)

// TestOptionsOfDHCP compares options with RFC 9463 sections 4.1 and 5.1.
func TestOptionsOfDHCP(t *testing.T) {
	for name, want := range map[string]string{"dnr-kea4": option4, "dnr-kea6": option6} {
		want = strings.ToUpper(strings.ReplaceAll(want, " ", ""))
		if got := text(t, name, nil); !strings.Contains(got, `"data": "`+want+`"`) {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
		if got := text(t, "dnr-dnsmasq", nil); !strings.Contains(strings.ToUpper(strings.ReplaceAll(got, ":", "")), want) {
			t.Errorf("dnsmasq: %s\nwant %s", got, want)
		}
	}
	four, err := usual(func(s *Service) { s.Name = strings.Repeat("long-label.", 10) + "example" }).dnr4()
	if err != nil || len(four) > maxOption || len(four) != 2+int(four[1]) {
		t.Errorf("a long name: %d bytes (%v), want one transport", len(four), err)
	}
	if _, err := usual(func(s *Service) { s.Name = strings.Repeat("long-label.", 22) + "example" }).dnr4(); err == nil {
		t.Error("a name that is too long for the option has no error")
	}
	other, err := usual(unusual).dnr6()
	if err != nil || !strings.HasSuffix(hex.EncodeToString(other), "000300022295") {
		t.Errorf("another port: %x (%v)", other, err)
	}
}

// TestSamplesOfDNR checks the samples in deploy/dnr by their daemons, and that they hold the options that client-setup prints.
func TestSamplesOfDNR(t *testing.T) {
	for _, tt := range []struct {
		file    string
		section string // whose text is in the file; "" for none
		command []string
	}{
		{"dnsmasq.conf", "dnr-dnsmasq", []string{"dnsmasq", "--test", "-C"}},
		{"kea-dhcp4.conf", "dnr-kea4", []string{"kea-dhcp4", "-t"}},
		{"kea-dhcp6.conf", "dnr-kea6", []string{"kea-dhcp6", "-t"}},
		{"radvd.conf", "", []string{"radvd", "--configtest", "-C"}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			path := filepath.Join("..", "..", "..", "deploy", "dnr", tt.file)
			sample, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if tt.section != "" {
				for line := range strings.Lines(text(t, tt.section, nil)) {
					if !strings.Contains(string(sample), strings.TrimSpace(line)) {
						t.Errorf("the sample lacks what client-setup prints: %s", line)
					}
				}
			}
			dnstest.Need(t, tt.command[0])
			cmd := exec.Command(tt.command[0], append(tt.command[1:], path)...)
			cmd.Env = append(os.Environ(), "KEA_LOCKFILE_DIR=none", "KEA_PIDFILE_DIR="+t.TempDir())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %v\n%s", tt.command, err, out)
			}
		})
	}
}
