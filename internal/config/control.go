package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Edge is how changes come from a control, if they do.
type Edge struct {
	Control          string        `env:"CONTROL" doc:"Where this server takes its set from: a control's or a mirror's URL (\"https://control.example/v1/journal\"), or NATS servers (\"tls://control.example:4222\"). Not together with REMPART_LISTS or REMPART_FEEDS, which control reads. Empty: from its own lists."`
	ControlKey       List          `env:"CONTROL_KEY" doc:"Root keys, as \"name+hash+key\", separated by commas: what control sends counts only if they vouch for it."`
	ControlToken     string        `env:"CONTROL_TOKEN" secret:"yes" doc:"Token of the role node for REMPART_CONTROL; a mirror may need none."`
	ControlTokenFile string        `env:"CONTROL_TOKEN_FILE" doc:"Path of a file of that token, instead. It is read again when it changes, so that a rotated token (\"rempart token rotate\") needs no restart."`
	ControlCA        string        `env:"CONTROL_CA" doc:"Path of PEM certificates that REMPART_CONTROL's is checked against, and NATS servers'. Empty: the system's."`
	ControlStale     time.Duration `env:"CONTROL_STALE" envDefault:"0s" doc:"How long without a word from control until /readyz says 503: 1 min at least; 0s, never. What is in force stays in force all the same."`
	Node             string        `env:"NODE" doc:"Name of this server among those of its control: letters, digits, dots and hyphens. Empty: a random one, kept in the data folder."`
	Country          string        `env:"COUNTRY" doc:"Two-letter code of the country this server is in, for changes that count in some only."`
	Operator         string        `env:"OPERATOR" doc:"Name of the operator this server belongs to, for changes that count with some only."`
}

// Operators is what control publishes by.
type Operators struct {
	PushListen   Addrs  `env:"PUSH_LISTEN" doc:"Addresses of the operators' API. Set with \"rempart serve\", control runs in the same process, for a trial; \"rempart control\" listens on 127.0.0.1:9254 where it is empty."`
	PushCert     string `env:"PUSH_CERT" doc:"Path of the certificate chain of REMPART_PUSH_LISTEN, PEM. Without one it listens on loopback addresses only, without TLS."`
	PushKey      string `env:"PUSH_KEY" doc:"Path of the key to REMPART_PUSH_CERT, PEM."`
	PushClientCA string `env:"PUSH_CLIENT_CA" doc:"Path of PEM certificates that issue those of API clients (mTLS). Empty: tokens only."`
	PushHosts    List   `env:"PUSH_HOSTS" doc:"Further names in the Host header field by which the API is reached, separated by commas, such as that of a proxy that keeps it. Addresses, localhost and the names of REMPART_PUSH_CERT always work; others are refused (421)."`
	Mirror       string `env:"MIRROR_DIR" doc:"Folder in which control keeps the journal as files, for a web server or a CDN to hand on: its URL is then a REMPART_CONTROL. Empty: none."`
	Keys         string `env:"KEYS" doc:"Folder of control's keys and key ring. Empty: keys in the data folder; made at the first start."`
	NATSListen   string `env:"NATS_LISTEN" doc:"Address and port on which nodes reach the journal of this control over NATS. Empty: none. Beyond loopback it needs REMPART_PUSH_CERT."`
	NATSURL      string `env:"NATS_URL" doc:"Servers of an external NATS cluster that keeps the journal, separated by commas. Empty: this process keeps it, in the data folder."`
	NATSCreds    string `env:"NATS_CREDENTIALS" doc:"Path of the .creds file for REMPART_NATS_URL, or for a NATS REMPART_CONTROL of a cluster."`
	NATSSystem   string `env:"NATS_SYSTEM_CREDENTIALS" secret:"yes" doc:"The same of the cluster's system account, or user:password: servers that do not sync every write are then refused."`
	NATSReplicas int    `env:"NATS_REPLICAS" envDefault:"3" doc:"How many servers of the cluster keep each record, from 1 to 5."`
}

var label = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)

// checkControl is what the types of Edge and Operators do not say.
func (c *Config) checkControl(bad func(variable, right string)) {
	if c.Control != "" {
		u, err := url.Parse(strings.Split(c.Control, ",")[0])
		switch {
		case err != nil || u.Host == "" || !slices.Contains([]string{"https", "http", "nats", "tls"}, u.Scheme):
			bad("CONTROL", "an https URL like https://control.example/v1/journal, or NATS servers like tls://control.example:4222")
		case u.Scheme == "http" && !loopback(u.Hostname()):
			bad("CONTROL", "https: over plain http only a control on this machine is asked")
		}
		if len(c.ControlKey) == 0 {
			bad("CONTROL_KEY", "REMPART_CONTROL needs the root key whose word counts: rempart keys list shows it, at control")
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
		bad("PUSH_CERT", "certificate and "+Prefix+"PUSH_KEY together, or neither")
	}
	for _, addr := range c.PushListen {
		if c.PushCert == "" && !addr.Addr().IsLoopback() {
			bad("PUSH_LISTEN", addr.String()+" is reached by others: give it a certificate ("+Prefix+"PUSH_CERT, "+Prefix+"PUSH_KEY), or listen on 127.0.0.1")
		}
	}
	if c.NATSReplicas < 1 || c.NATSReplicas > 5 {
		bad("NATS_REPLICAS", "from 1 to 5; 3 outlive the loss of one")
	}
	if c.NATSListen != "" && c.NATSURL != "" {
		bad("NATS_LISTEN", "not together with "+Prefix+"NATS_URL: nodes reach the cluster itself")
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
