package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

// checkControl checks what the types of Edge and ControlServer do not express.
func (c *Config) checkControl(bad func(variable, right string)) {
	if c.Control != "" {
		u, err := url.Parse(strings.Split(c.Control, ",")[0])
		switch {
		case err != nil || u.Host == "" || !slices.Contains([]string{"https", "http", "nats", "tls"}, u.Scheme):
			bad("CONTROL", "an https URL like https://control.example/v1/journal, or the servers of a NATS cluster like tls://nats1.example:4222")
		case u.Scheme == "http" && !loopback(u.Hostname()):
			bad("CONTROL", "use https://; http:// is allowed only for a control on this machine")
		case (u.Scheme == "nats" || u.Scheme == "tls") && (c.ControlToken != "" || c.ControlTokenFile != ""):
			bad("CONTROL", "an https URL, with a token; or the servers of a NATS cluster, which use "+Prefix+"NATS_CREDENTIALS or user:password@ in the URL and no "+Prefix+"CONTROL_TOKEN")
		}
		if len(c.ControlKey) == 0 {
			bad("CONTROL_KEY", "REMPART_CONTROL needs the root key of control: \"rempart keys list\" shows it there")
		}
		if len(c.Lists) > 0 || c.Feeds != "" {
			bad("CONTROL", "not together with "+Prefix+"LISTS or "+Prefix+"FEEDS: control reads lists, and this server takes what control publishes; "+Prefix+"ALLOW stays")
		}
		if len(c.PushListen) > 0 {
			bad("PUSH_LISTEN", "not together with "+Prefix+"CONTROL: this server takes changes, and publishes none")
		}
	}
	if c.ControlToken != "" && c.ControlTokenFile != "" {
		bad("CONTROL_TOKEN_FILE", "not together with "+Prefix+"CONTROL_TOKEN: one of them")
	}
	if c.NATSURL != "" && !natsServers(c.NATSURL) {
		bad("NATS_URL", "servers like nats://nats1.example:4222 or tls://nats1.example:4222, separated by commas")
	}
	if c.ControlStale != 0 && c.ControlStale < time.Minute {
		bad("CONTROL_STALE", "1m at least; 0s for never")
	}
	for variable, value := range map[string]string{"NODE": c.Node, "OPERATOR": c.Operator} {
		if value != "" && !label.MatchString(value) {
			bad(variable, "letters, digits, dots and hyphens, 63 at most")
		}
	}
	if c.Country != "" && (len(c.Country) != 2 || strings.ToUpper(c.Country) != c.Country) {
		bad("COUNTRY", "two capital letters, like FR")
	}
	for _, host := range c.PushHosts {
		if !label.MatchString(host) {
			bad("PUSH_HOSTS", host+" is no host name: write names without a port, like api.example")
		}
	}
	if (c.PushCert == "") != (c.PushKey == "") {
		bad("PUSH_CERT", "set "+Prefix+"PUSH_CERT and "+Prefix+"PUSH_KEY together, or neither")
	}
	for _, addr := range c.PushListen {
		if c.PushCert == "" && !addr.Addr().IsLoopback() {
			bad("PUSH_LISTEN", "other machines can reach "+addr.String()+": set a certificate ("+Prefix+"PUSH_CERT, "+Prefix+"PUSH_KEY), or listen on 127.0.0.1")
		}
	}
	if c.NATSReplicas < 1 || c.NATSReplicas > 5 {
		bad("NATS_REPLICAS", "from 1 to 5; 3 outlive the loss of one")
	}
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// natsServers reports whether a text is a list of NATS servers. The scheme of a server may be missing.
func natsServers(text string) bool {
	for server := range strings.SplitSeq(text, ",") {
		if server = strings.TrimSpace(server); !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		if err != nil || u.Hostname() == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) {
			return false
		}
	}
	return true
}
