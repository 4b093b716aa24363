package config

import "time"

// DNS are the settings of the sockets that answer queries.
type DNS struct {
	Listen        Addrs         `env:"LISTEN" envDefault:"127.0.0.1:5300" doc:"Addresses on which Rempart answers DNS over UDP and TCP, separated by commas. An empty host (\":53\") means every address, IPv4 and IPv6."`
	Clients       Clients       `env:"CLIENTS" envDefault:"127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,fc00::/7,fe80::/10,on-link" doc:"Prefixes of the clients that may ask, separated by commas. Other clients get REFUSED. \"on-link\" means every network in which an interface of this machine has an address, except public networks larger than an IPv4 /24 or an IPv6 /48; it follows changes of the interfaces."`
	Limits        Limits        `env:"LIMITS" envDefault:"256KiB+20000/s" doc:"Limits of the UDP answers to one client network, so that an attacker who forges source addresses cannot flood another network: bytes per second (\"256KiB\"), answers per second (\"20000/s\"), both joined by \"+\", or \"none\". A quantity that is not written has no limit. Only answers that are more than three times as large as their queries are charged to the bytes, with what exceeds twice the query. The limit of answers for everyone does not apply to loopback, link-local and private addresses. \"prefix=limit\" pairs after the limit for everyone replace it for the clients in a prefix, such as an ISP's resolvers (\"192.0.2.53=none\"): for each network in a large prefix, for all clients together in a prefix smaller than a network. A client that sends a valid DNS cookie is not limited."`
	LimitsAction  LimitsAction  `env:"LIMITS_ACTION" envDefault:"truncate" doc:"What happens to an answer above a limit: \"truncate\" makes real clients ask again, over TCP or, if they sent a DNS cookie, with a server cookie (BADCOOKIE); \"drop\" sends nothing, and real clients in a flooded network lose answers; \"observe\" sends the answer and counts it in rempart_udp_answers_limited_total."`
	Handshakes    int           `env:"HANDSHAKES" envDefault:"200" doc:"TLS and QUIC handshakes per second of one client network (REMPART_LIMITS_NETWORKS). Above it, connections are closed before the handshake; with REMPART_LIMITS_ACTION=observe they are counted only. It does not apply to networks that have no limit of answers in REMPART_LIMITS. 0 means no limit."`
	LimitNetworks LimitNetworks `env:"LIMITS_NETWORKS" envDefault:"/24,/56" doc:"Prefix lengths of the client networks that share a limit, of IPv4 and of IPv6."`
	IgnoredPorts  Ports         `env:"IGNORED_PORTS" doc:"UDP source ports to which nothing is answered, separated by commas, such as the ports of services that attackers use as reflectors (\"123,1900,11211\"). Nothing is ever answered to the ports 0, 7, 9, 13, 17 and 19."`
	CookieSecrets string        `env:"COOKIE_SECRETS" doc:"Path of a file with the secrets of server cookies (RFC 9018), for several servers behind one address: one secret of 32 hexadecimal digits per line (\"openssl rand -hex 16\"), at most 4. The first one makes cookies, all are accepted. The server reads the file again when it changes. Empty: a random secret of the process."`
	Connections   int           `env:"CONNECTIONS" envDefault:"0" doc:"Connections of clients at a time, over TCP, TLS, HTTPS and QUIC together. An idle one over TLS takes about 20 KB. While half of them are taken, idle ones are closed sooner. 0 means a quarter of the system's limit of open files and sockets, and at most 4,096."`
	CacheBytes    Bytes         `env:"CACHE_BYTES" envDefault:"64MiB" doc:"Memory for cached answers, at least 1 MiB. \"64M\" and \"64MiB\" are powers of 1024, \"64MB\" of 1000."`
	NXDomain      NXDomain      `env:"NXDOMAIN" envDefault:"exact" doc:"Names that a cached NXDOMAIN denies, for all types: \"exact\" is the name itself, \"subtree\" is the name and all names below it, which are then not asked upstream (RFC 8020). Some servers wrongly answer NXDOMAIN for a name that has other names below it."`
	BusyPoll      time.Duration `env:"BUSY_POLL" envDefault:"0s" doc:"How long a core that has just answered over UDP keeps asking for the next query before it sleeps, up to 1 ms. Answers arrive earlier by the time of one wake-up; the core is busy while queries arrive. Do not set it on a machine with one core. Linux only."`
}

// Encrypted are the settings of the encrypted transports.
type Encrypted struct {
	TLSListen     Addrs      `env:"TLS_LISTEN" doc:"Addresses on which Rempart answers DNS over TLS (port 853), separated by commas. Empty: none."`
	HTTPSListen   Addrs      `env:"HTTPS_LISTEN" doc:"Addresses on which Rempart answers DNS over HTTPS (port 443), with HTTP/2 over TCP and HTTP/3 over UDP, separated by commas. The path is /dns-query. Empty: none."`
	QUICListen    Addrs      `env:"QUIC_LISTEN" doc:"Addresses on which Rempart answers DNS over QUIC (UDP port 853), separated by commas. Empty: none."`
	BackendListen Addrs      `env:"DOH_BACKEND_LISTEN" doc:"Addresses on which Rempart answers DNS over HTTPS without TLS, with HTTP/1.1 and HTTP/2, to the reverse proxies of REMPART_PROXIES, separated by commas. A proxy names the client in the field Forwarded or X-Forwarded-For, or by the PROXY protocol. Empty: none."`
	Proxies       PrefixList `env:"PROXIES" doc:"Prefixes of the proxies and load balancers in front of this server, separated by commas. Their DNS connections (TCP, TLS, HTTPS) and their UDP datagrams must begin with a header of the PROXY protocol, version 2, which names the client; to the warning page and the portal, they name it in the field Forwarded or X-Forwarded-For. Nobody else can name a client. Empty: none."`
	Cert          List       `env:"CERT" doc:"Paths of the certificate chains of the encrypted transports and of the portal, PEM, separated by commas. A client gets the certificate that is valid for the name it asks for (SNI), else the first one. The first name in the first certificate is this resolver's own name."`
	Key           List       `env:"KEY" doc:"Paths of the private keys of REMPART_CERT, PEM, in the same order."`

	ACME       HostNames `env:"ACME" doc:"Names of this resolver for which Rempart gets and renews certificates by ACME (RFC 8555), separated by commas, instead of REMPART_CERT; the first one is this resolver's own name. Each name gets a certificate of its own. The authority checks that each name leads here: over TLS on port 443 of REMPART_HTTPS_LISTEN, REMPART_TLS_LISTEN or REMPART_PORTAL_LISTEN, or over HTTP on port 80 of REMPART_PAGE_LISTEN. Keys and certificates are stored in the folder acme in the data folder. Whoever sets it accepts the terms of service of the authority."`
	ACMEEmail  string    `env:"ACME_EMAIL" doc:"Address at which the authority reaches the owner of the account, given when the account is created. Empty: none."`
	ACMECA     string    `env:"ACME_CA" envDefault:"https://acme-v02.api.letsencrypt.org/directory" doc:"URL of the directory of the ACME authority. The default is Let's Encrypt; its test authority, whose certificates no client trusts, is https://acme-staging-v02.api.letsencrypt.org/directory."`
	ACMECARoot string    `env:"ACME_CA_ROOT" doc:"Path of PEM certificates against which the certificate of REMPART_ACME_CA is checked, for an internal authority. Empty: the system's authorities."`
}

// Upstream are the settings of the resolvers to which queries are forwarded.
type Upstream struct {
	Upstreams List     `env:"UPSTREAMS" doc:"Resolvers to forward to, separated by commas: \"udp://192.0.2.1\", \"tcp://192.0.2.1:53\", \"tls://dns.example\", \"https://dns.example/dns-query\", \"quic://dns.example\". The host is an address or a name; the address of a name may follow after @ (\"tls://dns.example@192.0.2.1\"). Options follow after #, separated by &: the name on the certificate if it is not the host, \"pin-sha256=\" with the hash of a key, \"weight=\" with a number from 1 to 100 (see upstreams.md). Empty: the name servers of /etc/resolv.conf."`
	Bootstrap List     `env:"BOOTSTRAP" doc:"Resolvers that look up the host names in REMPART_UPSTREAMS and REMPART_FORWARD, in the same format, but with an IP address as the host or after @. Empty: the name servers of /etc/resolv.conf, without this server."`
	Strategy  List     `env:"STRATEGY" envDefault:"ordered" doc:"Which of the healthy upstreams a question is sent to first: \"ordered\", the first one; \"fastest\", the one that answers fastest; \"spread\", a random one, by weight. Another one is asked if that one fails or is slow. A zone of REMPART_FORWARD can have its own: \"ordered,home.arpa=spread\"."`
	Forward   Forwards `env:"FORWARD" doc:"Zones with resolvers of their own, such as local zones and private reverse zones: zone=upstream pairs, separated by commas (\"home.arpa=udp://192.168.1.1\"); a zone with several upstreams has a pair for each. Empty: special-use names are never forwarded."`
}

// Blocklists are the settings of the lists of names to block, and of the guards that check them.
type Blocklists struct {
	Lists        List          `env:"LISTS" doc:"Lists of names to block: paths, file URLs or http(s) URLs, separated by commas. The format of each line is detected."`
	Feeds        string        `env:"FEEDS" doc:"Path of a feeds file (TOML): lists with a name, a format, a category, a weight and more each."`
	Refresh      time.Duration `env:"REFRESH" envDefault:"1h" doc:"Time between two fetches of a list, from 1 minute to 7 days (\"90m\", \"12h\", \"1d\"). A list in a file is also read when the file changes."`
	Allow        string        `env:"ALLOW" doc:"Path of a list of names that are never blocked, whatever lists contain."`
	Essential    string        `env:"ESSENTIAL" doc:"Path of a file of further names that no list may block, in addition to the shipped ones: one name per line, which includes all names below it; \"=name\" is the name alone."`
	Popular      string        `env:"POPULAR" doc:"Path of a popularity list that replaces the shipped one: one \"rank,name\" per line, or one name per line in the order of the ranks; plain or gzip."`
	PopularBound int           `env:"POPULAR_BOUND" envDefault:"10000" doc:"Last rank of the popularity list whose names are popular, at least 1. Listings of popular names are held. A higher number holds more names."`
	Released     string        `env:"RELEASED" doc:"Path of a file of what a person released: one held name per line; \"list:NAME\" accepts the changed content of a list that was held."`
}

// Blocking are the settings of the answer to a blocked query and of the warning page.
type Blocking struct {
	Mode               Mode          `env:"MODE" envDefault:"enforce" doc:"\"enforce\" blocks; \"observe\" answers as if nothing were blocked and counts the queries that would have been blocked."`
	BlockAnswer        BlockAnswer   `env:"BLOCK_ANSWER" envDefault:"page" doc:"Answer to a query for a blocked name: \"page\" (the addresses of the warning page), \"nxdomain\", \"nodata\", \"refused\" or \"null\" (0.0.0.0 and ::)."`
	BlockTTL           time.Duration `env:"BLOCK_TTL" envDefault:"30s" doc:"TTL of a blocked answer, from 1 s to 1 h. A name that is unblocked works for all clients after this time."`
	PageIPv4           Addr          `env:"PAGE_IPV4" envDefault:"127.0.0.1" doc:"IPv4 address of the warning page: the answer to an A query for a blocked name. \"none\" answers without data."`
	PageIPv6           Addr          `env:"PAGE_IPV6" envDefault:"::1" doc:"IPv6 address of the warning page: the answer to an AAAA query for a blocked name. \"none\" answers without data."`
	PageListen         Addrs         `env:"PAGE_LISTEN" envDefault:"127.0.0.1:8080" doc:"Addresses on which the warning page is served over HTTP, separated by commas. \"none\" serves no page."`
	PageHTTPSListen    Addrs         `env:"PAGE_HTTPS_LISTEN" doc:"Addresses on which Rempart refuses https:// connections to the warning page at once, separated by commas: port 443 of the page's addresses. The page has no certificate for a blocked name. A browser whose connection is refused shows the page over HTTP, or an error, without waiting. Empty: Rempart does not listen for these connections, and the operating system refuses them unless a firewall drops them (see isp.md)."`
	PageHTTPS          PageHTTPS     `env:"PAGE_HTTPS" envDefault:"alert" doc:"How Rempart refuses connections on the addresses of REMPART_PAGE_HTTPS_LISTEN: \"alert\" (with the TLS alert unrecognized_name) or \"reset\" (with a TCP reset)."`
	Organisation       string        `env:"ORGANISATION" envDefault:"Rempart" doc:"Name of the organisation that runs this filter, shown on the page and in structured errors."`
	Contact            string        `env:"CONTACT" doc:"URI (mailto:, tel: or https:) where people report a wrong block, shown on the page. Structured errors contain it if it begins with mailto: or tel:."`
	Reason             Reason        `env:"REASON" envDefault:"category" doc:"Content of the extended error of a blocked answer: \"category\", or \"lists\" for the category, the lists that contain the name, and the dates."`
	StructuredOption   uint16        `env:"STRUCTURED_OPTION" envDefault:"65001" doc:"Code of the empty EDNS option by which a client asks for structured errors; draft-ietf-dnsop-structured-dns-error has no assigned code yet. An empty extended error with the code 0 or 15 in the query asks for them too. 0 turns structured errors off."`
	Probe              HostName      `env:"PROBE" envDefault:"probe.rempart.internal" doc:"Name of a zone that Rempart answers itself with the address of the warning page. The links by which people continue to a blocked name, and the names by which a browser checks its connection, are in this zone."`
	ContinueCategories List          `env:"CONTINUE_CATEGORIES" doc:"Categories of blocks that people may pass after the warning, separated by commas, such as \"scam\": the warning page then offers to continue to the name, for one client and a limited time. External orders are not part of a category. Empty: none."`
	Continue           time.Duration `env:"CONTINUE" envDefault:"1h" doc:"Time for which a client may reach a blocked name after it chose to continue, from 1 minute to 24 hours."`
	ContinueOrders     time.Duration `env:"CONTINUE_ORDERS" envDefault:"0s" doc:"Time after the start of an external order in which people may pass its block, such as \"7d\" for orders that begin with a warning, up to 366 days. 0s means never."`
	ContinueKeyFile    string        `env:"CONTINUE_KEY_FILE" doc:"Path of a file with the secrets that authenticate the links by which people continue to a blocked name. Several servers behind one address need the same secrets, because one server may make a link and another one check it. The file contains one secret of 32 hexadecimal digits per line (\"openssl rand -hex 16\"), at most 4. New links use the first secret; links with any of the secrets are accepted. The server reads the file again when it changes. Empty: a random secret that only this process knows."`
	FilteringDatabase  string        `env:"FILTERING_DATABASE" doc:"ID of a filtering database (draft-ietf-dnsop-filtering-transparency) that publishes the decisions of this filter. Structured errors then contain it with the ID of the decision behind the block, if there is one. Empty: they contain neither."`
}

// Process are the settings of the process itself.
type Process struct {
	DataDir       string        `env:"DATA_DIR" doc:"Folder for the set, its version and the last good copy of each list. Empty: systemd's state folder, else the folder rempart in the user's state folder (~/.local/state)."`
	Socket        string        `env:"SOCKET" doc:"Path of the Unix socket by which commands on this machine reach the server. \"none\" opens no socket. Empty: rempart.sock in systemd's runtime folder, else in the data folder."`
	Log           LogFormat     `env:"LOG" envDefault:"text" doc:"Format of the log: \"text\" and \"json\" are written to standard error, one line per record; \"journal\" sends records to systemd's journal, in which each attribute is a field (REMPART_LIST, REMPART_ERROR)."`
	Dnstap        Dnstap        `env:"DNSTAP" doc:"Collector that receives a sample of the answers (dnstap), as \"unix:/run/dnstap.sock\" or \"tcp:192.0.2.1:6000\". The messages hold queried names. Empty: none."`
	DnstapSample  int           `env:"DNSTAP_SAMPLE" envDefault:"1000" doc:"One answer in so many is sent to the collector; 1 sends all."`
	DnstapClients DnstapClients `env:"DNSTAP_CLIENTS" envDefault:"cut" doc:"Clients in these messages: \"cut\" (the network, IPv4 /24 and IPv6 /48), \"keyed\" (a pseudonym, an address in fd00::/8 that changes every day) or \"none\"."`
	MetricsListen Addrs         `env:"METRICS_LISTEN" envDefault:"127.0.0.1:9253" doc:"Addresses on which /metrics, /livez and /readyz are served, separated by commas. \"none\" serves none."`
}

// Home are the settings that close ways around the filter and into a home network.
type Home struct {
	Canary         Canary       `env:"CANARY" envDefault:"firefox" doc:"Names that do not exist here, so that programs do not bypass this filter, separated by commas: \"firefox\" (use-application-dns.net, which stops Firefox from using its own DNS over HTTPS), \"icloud\" (mask.icloud.com and mask-h2.icloud.com, which stop iCloud Private Relay), or \"none\"."`
	SingleLabels   SingleLabels `env:"SINGLE_LABELS" envDefault:"forward" doc:"Names of one label that are no top-level domain (\"nas\", \"wpad\"): \"forward\" forwards them; \"keep\" answers that they do not exist, except for names in REMPART_FORWARD."`
	Rebinding      Rebinding    `env:"REBINDING" envDefault:"allow" doc:"Names whose answer contains a private, loopback or link-local address: \"allow\" passes the answer; \"refuse\" answers without data, so that a web page cannot reach devices of the local network (DNS rebinding). The zones of REMPART_FORWARD and the names below lan, home, corp, intranet and private always pass."`
	RebindingAllow List         `env:"REBINDING_ALLOW" doc:"Names that REMPART_REBINDING=refuse passes, with all names below them, separated by commas, like plex.direct or fritz.box."`
	NAT64          NAT64        `env:"NAT64" doc:"NAT64 prefixes of the clients' network in addition to 64:ff9b::/96, separated by commas, with a length of 32, 40, 48, 56, 64 or 96 bits. An IPv6 address in such a prefix is judged by the IPv4 address that it contains."`
}

// Edge are the settings of a server that follows control.
type Edge struct {
	Control          string        `env:"CONTROL" doc:"Source of this server's set: the URL of control or of a mirror (\"https://control.example/v1/journal\"), or the servers of a NATS cluster (\"tls://nats1.example:4222\"). It excludes REMPART_LISTS and REMPART_FEEDS, which control reads. Empty: the set is made from the server's own lists."`
	ControlKey       List          `env:"CONTROL_KEY" doc:"Root keys of control, as \"name+hash+key\", separated by commas. The server accepts only records signed by keys that these root keys authorize. The server also accepts root keys that replaced them later. To stop trusting a key, also remove the folder edge in the data folder."`
	ControlToken     string        `env:"CONTROL_TOKEN" secret:"yes" doc:"Token with the role \"node\" for REMPART_CONTROL. A mirror may need no token."`
	ControlTokenFile string        `env:"CONTROL_TOKEN_FILE" doc:"Path of a file that contains the token, instead of REMPART_CONTROL_TOKEN. The server reads the file again when it changes, so that a rotated token (\"rempart token rotate\") needs no restart."`
	ControlCA        string        `env:"CONTROL_CA" doc:"Path of PEM certificates against which the certificates of control and of NATS servers are checked. Empty: the system's authorities."`
	ControlStale     time.Duration `env:"CONTROL_STALE" envDefault:"0s" doc:"Time without a message from control after which /readyz answers 503, at least 1 minute. 0s means never. The set stays in force in any case."`
	Node             string        `env:"NODE" doc:"Name of this server in reports to control: letters, digits, dots and hyphens. Empty: a random name, stored in the data folder."`
	Country          string        `env:"COUNTRY" doc:"Two-letter code of the country of this server, for changes that apply in some countries only."`
	Operator         string        `env:"OPERATOR" doc:"Name of the operator of this server, for changes that apply to some operators only."`
}

// ControlServer are the settings of control and of its API.
type ControlServer struct {
	PushListen   Addrs  `env:"PUSH_LISTEN" doc:"Addresses on which control serves the operators' API, separated by commas. Empty: 127.0.0.1:9254 for \"rempart control\". If it is set for \"rempart serve\", control runs in the same process, for a trial."`
	PushCert     string `env:"PUSH_CERT" doc:"Path of the certificate chain of the operators' API, PEM. Without a certificate the API listens on loopback addresses only, without TLS."`
	PushKey      string `env:"PUSH_KEY" doc:"Path of the private key of REMPART_PUSH_CERT, PEM."`
	PushClientCA string `env:"PUSH_CLIENT_CA" doc:"Path of the PEM certificates of the authorities that issue client certificates for the API (mTLS). Empty: the API accepts tokens only."`
	PushHosts    List   `env:"PUSH_HOSTS" doc:"Further names that the Host header field of an API request may contain, separated by commas, such as the name of a proxy. IP addresses, localhost and the names of REMPART_PUSH_CERT are always accepted; other names get 421."`
	Mirror       string `env:"MIRROR_DIR" doc:"Folder in which control keeps the journal as files for a web server or a CDN. Servers use the URL of that folder as REMPART_CONTROL. Empty: no folder."`
	Keys         string `env:"KEYS" doc:"Folder of control's keys and key ring. Empty: the folder keys in the data folder. Control creates missing keys at its first start."`
}

// Cluster are the settings of a journal on an external NATS cluster.
type Cluster struct {
	NATSURL      string `env:"NATS_URL" doc:"Servers of an external NATS cluster that keeps the journal, separated by commas. Empty: control keeps the journal in the data folder."`
	NATSCreds    string `env:"NATS_CREDENTIALS" doc:"Path of the .creds file for REMPART_NATS_URL, or for a REMPART_CONTROL that names a NATS cluster."`
	NATSSystem   string `env:"NATS_SYSTEM_CREDENTIALS" secret:"yes" doc:"Credentials of the cluster's system account: the path of a .creds file, or user:password. With them control refuses a cluster whose servers do not sync every write to disk."`
	NATSReplicas int    `env:"NATS_REPLICAS" envDefault:"3" doc:"Number of servers of the cluster that keep each record, from 1 to 5."`
}

// RPZ are the settings of the response policy zones that control serves.
type RPZ struct {
	RPZListen    Addrs      `env:"RPZ_LISTEN" doc:"Addresses on which response policy zones are served: transfers over TCP, SOA queries also over UDP. Empty: none."`
	RPZTLSListen Addrs      `env:"RPZ_TLS_LISTEN" doc:"Addresses on which the zones are served over TLS (RFC 9103), with REMPART_PUSH_CERT. Empty: none."`
	RPZZones     RPZZones   `env:"RPZ_ZONES" envDefault:"rpz.rempart.example=page" doc:"Zones, separated by commas, as zone=answer or zone=answer:category+category. Answers are \"page\" (a CNAME to REMPART_RPZ_PAGE), \"nxdomain\" and \"nodata\". A zone without categories contains all categories."`
	RPZPage      string     `env:"RPZ_PAGE" doc:"Name of the warning page, for zones with the answer \"page\". It must resolve to the page's addresses."`
	RPZKeys      string     `env:"RPZ_KEYS" doc:"Path of the file of TSIG keys that may transfer the zones: one \"name algorithm secret\" per line, with the algorithm hmac-sha256, hmac-sha384 or hmac-sha512 and the secret in base64."`
	RPZNotify    List       `env:"RPZ_NOTIFY" doc:"Resolvers that get a NOTIFY of each new version, as address:port, separated by commas. \"#key\" after the port names the TSIG key that signs it."`
	RPZKeyless   PrefixList `env:"RPZ_KEYLESS" doc:"Prefixes of resolvers that may transfer the zones without a key, separated by commas, because they support no TSIG (Unbound). Use it for this machine or for addresses behind a tunnel."`
}

// Client are the settings of the commands that call the operators' API.
type Client struct {
	API          string `env:"API" envDefault:"http://127.0.0.1:9254" doc:"URL of the operators' API."`
	APIToken     string `env:"API_TOKEN" secret:"yes" doc:"Token for the API, as \"rempart token create\" prints it."`
	APITokenFile string `env:"API_TOKEN_FILE" doc:"Path of a file that contains the token, instead of REMPART_API_TOKEN. Other users of the machine can read command lines and often environment variables, but not a file with mode 0600."`
	APICA        string `env:"API_CA" doc:"Path of PEM certificates against which the API's certificate is checked. Empty: the system's authorities."`
	APICert      string `env:"API_CERT" doc:"Path of a client certificate for the API, PEM, which can replace a token."`
	APICertKey   string `env:"API_CERT_KEY" doc:"Path of the private key of REMPART_API_CERT, PEM."`
}
