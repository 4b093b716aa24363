package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Public are the settings of the pages that the public sees.
type Public struct {
	Authorities  string `env:"AUTHORITIES" doc:"Path of a TOML file of the authorities that order blocks (see authorities.toml). The ID of a decision selects its authority. The warning page and the portal then show the name, the text and the link of this authority, and DNS answers for its external orders contain the addresses of its own page if the file has some. Empty: pages name no authority, and DNS answers contain the addresses of the warning page."`
	Help         string `env:"HELP" doc:"Path of a TOML file with advice for people who were deceived, by language, for a country other than France (see help.toml). The warning page shows this advice. Empty: the page shows the services in France."`
	Appeals      string `env:"APPEALS" doc:"Path of a TOML file that sets how control handles requests of the public for a review of a block (see appeals.toml): the responsible service, the time until an answer is due, and more. With this file, the portal of control accepts such requests. Empty: it accepts none."`
	Statistics   int    `env:"STATISTICS" envDefault:"100" doc:"Least count in the public statistics, from 60 to 1000000: smaller counts are left empty, and others are rounded down to a multiple of it. The server writes the statistics of a day into the folder statistics in the data folder when the day is over (UTC). 0: the server writes none."`
	PortalListen Addrs  `env:"PORTAL_LISTEN" doc:"Addresses on which the portal is served, separated by commas: the public site that answers why a site does not open. It is served over HTTPS with the certificates of REMPART_CERT or REMPART_ACME (rempart control: REMPART_CERT only); without them, over HTTP on loopback addresses only. Empty: no portal."`
	Portal       string `env:"PORTAL" doc:"https URL at which people reach the portal, without a path, like https://filter.isp.example; http for this machine only. The warning page and RESINFO refer to it. Empty: the warning page refers to REMPART_CONTACT only."`
}

// Limits of the least number in the public statistics: with a lower one, a number that is left out could be computed from others.
const (
	leastStatistics = 60
	maxStatistics   = 1_000_000
)

// checkPublic checks the settings of the public pages.
func (c *Config) checkPublic(bad func(variable, right string)) {
	if c.Portal != "" && !isOrigin(c.Portal) {
		bad("PORTAL", "an https URL without a path, like https://filter.isp.example")
	}
	if c.Statistics != 0 && (c.Statistics < leastStatistics || c.Statistics > maxStatistics) {
		bad("STATISTICS", fmt.Sprintf("0 for none, or from %d to %d", leastStatistics, maxStatistics))
	}
	if len(c.Cert)+len(c.ACME) == 0 && c.PortalListen.HasPublic() {
		bad("PORTAL_LISTEN", "set "+Prefix+"CERT and "+Prefix+"KEY, or "+Prefix+"ACME: without a certificate the portal is served on loopback addresses only, like 127.0.0.1:8443")
	}
}

// isOrigin reports whether text is an https URL of a host, with a port or without, and nothing else; http is allowed for this machine.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	if err != nil || len(text) > maxHostName || u.Scheme+"://"+u.Host != text || strings.HasSuffix(text, ":") {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	_, addressErr := netip.ParseAddr(host)
	return u.Scheme == "https" && (hostName.MatchString(host) || addressErr == nil) || u.Scheme == "http" && loopback(host)
}
