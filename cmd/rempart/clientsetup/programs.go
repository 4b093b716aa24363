package clientsetup

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"rempart/internal/wire"
)

// android returns the host name for Android, which asks over TLS on port 853.
func android(s *Service) (string, error) {
	if err := s.needUsualTLS(); err != nil {
		return "", err
	}
	return s.Name + "\n", nil
}

// windows returns commands for the command prompt.
func windows(s *Service) (string, error) {
	return eachAddress(s, func(addr netip.Addr) string {
		return fmt.Sprintf("netsh dns add encryption server=%s dohtemplate=%s autoupgrade=yes udpfallback=no", addr, s.URL())
	})
}

// powershell returns commands for PowerShell.
func powershell(s *Service) (string, error) {
	return eachAddress(s, func(addr netip.Addr) string {
		return fmt.Sprintf("Add-DnsClientDohServerAddress -ServerAddress '%s' -DohTemplate '%s' -AutoUpgrade $True -AllowFallbackToUdp $False", addr, s.URL())
	})
}

// eachAddress returns a line about DNS over HTTPS for each address of the server.
func eachAddress(s *Service, line func(netip.Addr) string) (string, error) {
	switch {
	case s.HTTPSPort == 0:
		return "", noHTTPS
	case len(s.Addrs) == 0:
		return "", noAddresses
	}
	var b strings.Builder
	for _, addr := range s.Addrs {
		b.WriteString(line(addr) + "\n")
	}
	return b.String(), nil
}

// firefox returns a policy without fallback: if Firefox cannot reach this server, it must not use one that does not filter.
func firefox(s *Service) (string, error) {
	type https struct {
		Enabled     bool
		ProviderURL string
		Fallback    bool
	}
	type policies struct{ DNSOverHTTPS https }
	if err := s.needHTTPS(); err != nil {
		return "", err
	}
	return jsonText(map[string]policies{"policies": {https{true, s.URL(), false}}})
}

// chrome returns a policy without fallback.
func chrome(s *Service) (string, error) {
	type policies struct {
		Mode      string `json:"DnsOverHttpsMode"`
		Templates string `json:"DnsOverHttpsTemplates"`
	}
	if err := s.needHTTPS(); err != nil {
		return "", err
	}
	return jsonText(policies{"secure", s.URL()})
}

func jsonText(v any) (string, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return string(text) + "\n", err
}

// unbound returns a zone for every name. Unbound must not validate: blocked answers are not signed.
func unbound(s *Service) (string, error) {
	if err := s.needTLSAddress(); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(`server:
    # Answers to blocked names cannot be signed: the resolvers behind Rempart validate.
    module-config: "iterator"
    tls-cert-bundle: "/etc/ssl/certs/ca-certificates.crt"

forward-zone:
    name: "."
    forward-tls-upstream: yes
    forward-first: no
`)
	for _, addr := range s.Addrs {
		fmt.Fprintf(&b, "    forward-addr: %s@%d#%s\n", addr, s.TLSPort, s.Name)
	}
	return b.String(), nil
}

// resolved returns a drop-in that sends the queries for all names to this server.
func resolved(s *Service) (string, error) {
	if err := s.needTLSAddress(); err != nil {
		return "", err
	}
	var servers []string
	for _, addr := range s.Addrs {
		at := addr.String()
		if s.TLSPort != wire.TLS.DefaultPort() {
			at = netip.AddrPortFrom(addr, s.TLSPort).String()
		}
		servers = append(servers, at+"#"+s.Name)
	}
	return fmt.Sprintf(`[Resolve]
DNS=%s
Domains=~.
DNSOverTLS=yes
# Answers to blocked names cannot be signed: the resolvers behind Rempart validate.
DNSSEC=no
`, strings.Join(servers, " ")), nil
}

// stubby returns a whole configuration that asks over TLS only and checks the name on the certificate.
func stubby(s *Service) (string, error) {
	if err := s.needTLSAddress(); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(`resolution_type: GETDNS_RESOLUTION_STUB
dns_transport_list:
  - GETDNS_TRANSPORT_TLS
tls_authentication: GETDNS_AUTHENTICATION_REQUIRED
tls_query_padding_blocksize: 128
idle_timeout: 10000
listen_addresses:
  - 127.0.0.1
  - 0::1
upstream_recursive_servers:
`)
	for _, addr := range s.Addrs {
		fmt.Fprintf(&b, "  - address_data: %s\n    tls_port: %d\n    tls_auth_name: \"%s\"\n", addr, s.TLSPort, s.Name)
	}
	return b.String(), nil
}

// dnsmasq returns lines that make this server the only one that dnsmasq asks.
func dnsmasq(s *Service) (string, error) {
	switch {
	case s.DNSPort == 0:
		return "", noDNS
	case len(s.Addrs) == 0:
		return "", noAddresses
	}
	var b strings.Builder
	b.WriteString("no-resolv\n")
	for _, addr := range s.Addrs {
		at := addr.String()
		if s.DNSPort != wire.UDP.DefaultPort() {
			at += fmt.Sprintf("#%d", s.DNSPort)
		}
		fmt.Fprintf(&b, "server=%s\n", at)
	}
	return b.String(), nil
}
