package clientsetup

// Section holds the settings of one kind of client.
type Section struct {
	Name  string // on the command line
	Title string // the client, and where the settings belong
	// Text returns the settings. The error is a Missing if the client cannot use the server.
	Text func(*Service) (string, error)
}

// The names of the sections that need more than their text.
const (
	Apple    = "apple"
	AppleTLS = "apple-tls"
	QR       = "qr"
)

// Sections returns all sections, in the order of the help text.
func Sections() []Section {
	return []Section{
		{"android", "Android 9 and later: the host name in Settings, Network & internet, Private DNS", android},
		{Apple, "iPhone, iPad, Mac: a profile for DNS over HTTPS, to install in Settings, General, VPN & Device Management", appleHTTPS},
		{AppleTLS, "iPhone, iPad, Mac: the same for DNS over TLS", appleTLS},
		{"windows", "Windows 11: commands for an administrator; then enter the address as DNS server", windows},
		{"powershell", "Windows 11: the same for PowerShell", powershell},
		{"firefox", "policies.json in the folder distribution of Firefox, or in /etc/firefox/policies", firefox},
		{"chrome", "a file in /etc/opt/chrome/policies/managed, or in /etc/chromium/policies/managed for Chromium", chrome},
		{"unbound", "a file to include in unbound.conf", unbound},
		{"systemd-resolved", "/etc/systemd/resolved.conf.d/rempart.conf; then restart systemd-resolved", resolved},
		{"stubby", "/etc/stubby/stubby.yml", stubby},
		{"dnsmasq", "a file in /etc/dnsmasq.d; dnsmasq does not encrypt: use it in the network of this server only", dnsmasq},
		{"dnr-dnsmasq", "announce this server by DHCP (RFC 9463): lines for dnsmasq.conf", dnrDnsmasq},
		{"dnr-kea4", "the same for Kea: an element of option-data of the DHCPv4 server", dnrKea4},
		{"dnr-kea6", "the same for Kea: an element of option-data of the DHCPv6 server", dnrKea6},
		{QR, "a QR code for phones", qrCode},
	}
}
