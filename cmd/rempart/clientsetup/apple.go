package clientsetup

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"net/netip"
	"strings"
	"text/template"

	"github.com/smallstep/pkcs7"
)

// dnsSettings is the payload com.apple.dnsSettings.managed of a profile.
type dnsSettings struct {
	Name, Organisation string
	Protocol           string // "HTTPS" or "TLS"
	Key, Value         string // ServerURL or ServerName
	Addrs              []netip.Addr
	Profile, Payload   string // UUIDs, which are the same each time: a newer profile replaces an older one
}

// profileTemplate is a configuration profile. The scope "System" is necessary on a Mac, and ignored on a phone.
const profileTemplate = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadType</key><string>Configuration</string>
	<key>PayloadVersion</key><integer>1</integer>
	<key>PayloadIdentifier</key><string>{{xml .Name}}.{{.Protocol}}</string>
	<key>PayloadUUID</key><string>{{.Profile}}</string>
	<key>PayloadDisplayName</key><string>{{xml .Organisation}}: protective DNS over {{.Protocol}}</string>
	<key>PayloadDescription</key><string>This device sends its DNS queries encrypted to {{xml .Name}}, which blocks malicious names.</string>
	<key>PayloadOrganization</key><string>{{xml .Organisation}}</string>
	<key>PayloadScope</key><string>System</string>
	<key>PayloadRemovalDisallowed</key><false/>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadType</key><string>com.apple.dnsSettings.managed</string>
			<key>PayloadVersion</key><integer>1</integer>
			<key>PayloadIdentifier</key><string>{{xml .Name}}.{{.Protocol}}.settings</string>
			<key>PayloadUUID</key><string>{{.Payload}}</string>
			<key>PayloadDisplayName</key><string>{{xml .Name}}</string>
			<key>DNSSettings</key>
			<dict>
				<key>DNSProtocol</key><string>{{.Protocol}}</string>
				<key>{{.Key}}</key><string>{{xml .Value}}</string>{{if .Addrs}}
				<key>ServerAddresses</key>
				<array>{{range .Addrs}}
					<string>{{.}}</string>{{end}}
				</array>{{end}}
			</dict>
		</dict>
	</array>
</dict>
</plist>
`

// appleHTTPS returns a profile for DNS over HTTPS.
func appleHTTPS(s *Service) (string, error) {
	if err := s.needHTTPS(); err != nil {
		return "", err
	}
	return s.profile("HTTPS", "ServerURL", s.URL())
}

// appleTLS returns a profile for DNS over TLS. It has no key for a port.
func appleTLS(s *Service) (string, error) {
	if err := s.needUsualTLS(); err != nil {
		return "", err
	}
	return s.profile("TLS", "ServerName", s.Name)
}

func (s *Service) profile(protocol, key, value string) (string, error) {
	t, err := template.New("profile").Funcs(template.FuncMap{"xml": xmlText}).Parse(profileTemplate)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, dnsSettings{
		Name: s.Name, Organisation: s.Organisation, Protocol: protocol, Key: key, Value: value, Addrs: s.Addrs,
		Profile: uuid("profile", protocol, s.Name), Payload: uuid("settings", protocol, s.Name),
	})
	return b.String(), err
}

// xmlText returns text with the characters escaped that have a meaning in XML.
func xmlText(text string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(text))
	return b.String(), err
}

// uuid returns a UUID of version 8 (RFC 9562 section 5.8) made of parts.
func uuid(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]))
}

// Sign returns a profile as enveloped signed data (CMS, RFC 5652 section 5), signed with SHA-256 by the key of chain[0]. The result holds the whole chain, so that
// a device can check the signature without a network.
func Sign(profile []byte, chain []*x509.Certificate, key crypto.PrivateKey) ([]byte, error) {
	data, err := pkcs7.NewSignedData(profile)
	if err != nil {
		return nil, err
	}
	data.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	if err := data.AddSigner(chain[0], key, pkcs7.SignerInfoConfig{}); err != nil {
		return nil, err
	}
	for _, parent := range chain[1:] {
		data.AddCertificate(parent)
	}
	return data.Finish()
}
