package main

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"rempart/internal/dnstest"
)

// resolvedScript starts Rempart and systemd-resolved in namespaces of their own and asks systemd-resolved, which listens on 127.0.0.53 only. $1 is a folder with the
// certificate, $2 the program of Rempart, $3 systemd-resolved. systemd-resolved asks nobody unless an interface has an address and a route.
const resolvedScript = `
set -e
ip link set lo up
ip link add d0 type veth peer name d1
ip link set d1 up
ip link set d0 up
ip addr add 192.0.2.10/24 dev d0
ip route add default via 192.0.2.1
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/resolve
cp $1/ca.pem /run/ca.pem
chmod 644 /run/ca.pem
chown systemd-resolve:systemd-resolve /run/systemd/resolve
mount -t tmpfs tmpfs /etc/systemd
printf '[Resolve]\nDNS=127.0.0.1:853#dns.example\nFallbackDNS=\nDNSOverTLS=yes\nDNSSEC=no\nDomains=~.\nLLMNR=no\nMulticastDNS=no\n' > /etc/systemd/resolved.conf
REMPART_LISTEN=127.0.0.1:53 REMPART_TLS_LISTEN=127.0.0.1:853 REMPART_CERT=$1/dns.pem REMPART_KEY=$1/dns.key REMPART_UPSTREAMS=udp://127.0.0.1:9 REMPART_PAGE_LISTEN=none \
  REMPART_METRICS_LISTEN=none REMPART_DATA_DIR=$1/data "$2" >&2 &
rempart=$!
SSL_CERT_FILE=/run/ca.pem "$3" >&2 &
resolved=$!
trap 'kill $rempart $resolved' EXIT
for try in 1 2 3 4 5 6 7 8 9 10; do
  answer=$(dig @127.0.0.53 phishing.test +short +time=2 +tries=1) && case $answer in 127.0.0.1) echo "$answer"; exit 0;; esac
  sleep 1
done
exit 1
`

// TestSystemdResolved makes systemd-resolved ask over TLS, with a checked certificate. CI does not install it, because its package replaces /etc/resolv.conf: extract the
// package with dpkg -x and put the program into PATH.
func TestSystemdResolved(t *testing.T) {
	t.Parallel()
	resolved, err := exec.LookPath("systemd-resolved")
	if err != nil {
		t.Skip(err)
	}
	if _, err := user.Lookup("systemd-resolve"); err != nil || os.Getuid() != 0 {
		t.Skip("this test needs root and the user systemd-resolve")
	}
	dnstest.Need(t, "dig")
	program, err := exec.LookPath("rempart")
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	ca.issue("dns", publicTemplate())
	cmd := exec.Command("unshare", "-nm", "bash", "-c", resolvedScript, "resolved", filepath.Dir(ca.path("ca.pem")), program, resolved)
	var said strings.Builder
	cmd.Stderr = &said
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "127.0.0.1" {
		t.Errorf("%v, %q\n%s", err, out, said.String())
	}
}
