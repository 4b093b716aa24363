package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rempart/bench"
)

// The servers that the bars compare with each other.
const (
	rempart  = "rempart"
	recursor = "pdns-recursor"
	dnsdist  = "dnsdist"
	unbound  = "unbound"
	echo     = "echo"
	forward  = "forward"

	tlsSuffix = "-tls" // of the key of a server that forwards over TLS
)

// peer is a kind of server: its names, and the configuration with which it does the same work as the others.
type peer struct {
	key      string // its name in flags; Debian's package, if it is not a part of this project
	name     string // for people
	program  string
	ask      []string // arguments for printing the version; nil if it has none
	settings string   // its configuration in words

	// The command. In the arguments, the environment and the files, words in braces are replaced: {dir} is its own folder, {port} and {addr} are where it
	// answers, {upstream} is where it forwards to ({upstreamhost}, {upstreamport}), {encrypted} is where it forwards to over TLS, with a key of the hash {pin},
	// {list} is the file of names, {zone} the same as a response policy zone, {cache} a folder in memory if there is one.
	args  []string
	env   []string
	files map[string]string // by name, in {dir}
	// forget is a program with arguments that empties the cache, for a load that must not be answered from it; nil if blocked answers are not cached.
	forget []string
}

// policyZone is the name of the response policy zone at the peers.
const policyZone = "rpz.bench"

// peers are all servers that can be measured, in the order of the tables.
var peers = []peer{
	{
		key: rempart, name: "Rempart", program: rempart, ask: []string{"version"},
		settings: "One UDP worker (the default on one core), the list from REMPART_LISTS (each name with all below it), 64 MiB of cache (the default), no page, no metrics.",
		env: []string{"REMPART_LISTEN={addr}", "REMPART_UPSTREAMS=udp://{upstream}", "REMPART_LISTS={list}", "REMPART_DATA_DIR={dir}/data",
			"REMPART_PAGE_LISTEN=none", "REMPART_METRICS_LISTEN=none", "REMPART_PAGE_IPV4=192.0.2.66"},
	},
	{
		key: recursor, name: "PowerDNS Recursor", program: "pdns_recursor", ask: []string{"--version"},
		settings: "One thread that takes its queries itself (pdns-distributes-queries=no), the list with rpzFile (each name itself only), packet cache of 1,000,000 answers and record cache of 1,000,000, " +
			"no DNSSEC, no statistics of clients and names (stats-ringbuffer-entries=0), no security poll. Its packet cache holds blocked answers too; it is emptied before each run of distinct names, " +
			"since it would otherwise know them from the run before.",
		args:   []string{"--config-dir={dir}"},
		files:  map[string]string{"recursor.conf": recursorConf, "policy.lua": `rpzFile("{zone}", {policyName="bench"})` + "\n"},
		forget: []string{"rec_control", "--socket-dir={dir}", "wipe-cache", "$"},
	},
	{
		key: dnsdist, name: "dnsdist", program: "dnsdist", ask: []string{"--version"},
		settings: "One listener, the list in a SuffixMatchNode (each name with all below it) answered by SpoofAction before the packet cache is asked, packet cache of 1,000,000 answers, " +
			"one backend that is taken to be up, sockets' buffers of 4 MB, 10,000 entries of live statistics (the default). One message a system call, as it is by default: several (setUDPMultipleMessagesVectorSize) were not clearly faster when both were measured.",
		args:  []string{"-C", "{dir}/dnsdist.conf", "--supervised", "--disable-syslog"},
		files: map[string]string{"dnsdist.conf": dnsdistConf},
	},
	{
		key: unbound, name: "Unbound", program: "unbound", ask: []string{"-V"},
		settings: "num-threads 1, module-config \"respip iterator\", the list as an RPZ zone file (each name itself only), 512 MB of record and 256 MB of message cache, one slab each, sockets' buffers of 4 MB, " +
			"so-reuseport off, 8192 outgoing ports, no DNSSEC, no control socket. Over TCP 1,000 connections that may be idle for a minute.",
		args:  []string{"-d", "-c", "{dir}/unbound.conf"},
		files: map[string]string{"unbound.conf": unboundConf},
	},
	{
		key: "knot-resolver", name: "Knot Resolver", program: "kresd", ask: []string{"--version"},
		settings: "One process, the list with policy.rpz (each name itself only), policy.STUB to the upstream, 400 MB of cache in a folder in memory, no DNSSEC, " +
			"modules of trust anchors, priming and clock checks unloaded.",
		args:  []string{"-n", "-c", "{dir}/kresd.conf", "{dir}"},
		files: map[string]string{"kresd.conf": kresdConf},
	},
	{
		key: "bind9", name: "BIND", program: "named", ask: []string{"-v"},
		settings: "One thread (-n 1), response-policy with the list as a primary zone (each name itself only), which decides before the upstream is asked (qname-wait-recurse no), " +
			"forward only, 512 MB of cache, no DNSSEC, minimal responses, no control channel.",
		args:  []string{"-f", "-n", "1", "-c", "{dir}/named.conf"},
		files: map[string]string{"named.conf": namedConf},
	},
	{
		key: echo, name: "echo", program: echo,
		settings: "bench/echo, GOMAXPROCS=1: sends each query back and looks at nothing: what sockets cost.",
		args:     []string{"{addr}"}, env: []string{"GOMAXPROCS=1"},
	},
}

// bareForwarder is measured under misses only: it knows no list and has no cache.
var bareForwarder = peer{
	key: forward, name: "forward", program: forward,
	settings: "bench/forward, GOMAXPROCS=1: passes each query on with another ID over one of 16 sockets, and its answer back: what forwarding costs at least.",
	args:     []string{"{addr}", "{upstream}"}, env: []string{"GOMAXPROCS=1"},
}

// overTLS returns the servers that are also measured with misses while they forward over TLS, with the settings for TLS.
func overTLS(servers []peer) (all []peer) {
	for _, p := range servers {
		switch p.key {
		case rempart:
			p.env = slices.Clone(p.env)
			p.env[slices.Index(p.env, "REMPART_UPSTREAMS=udp://{upstream}")] = "REMPART_UPSTREAMS=tls://{encrypted}#pin-sha256={pin}"
			p.settings = "As Rempart, with the upstream over TLS, whose key is pinned."
		case dnsdist:
			p.files = map[string]string{"dnsdist.conf": strings.Replace(dnsdistConf, `address="{upstream}"`, `address="{encrypted}", tls="openssl", validateCertificates=false`, 1)}
			p.settings = "As dnsdist, with the backend over TLS, whose certificate is not validated."
		default:
			continue
		}
		p.key, p.name = p.key+tlsSuffix, p.name+" over TLS"
		all = append(all, p)
	}
	return all
}

const recursorConf = `local-address=127.0.0.1
local-port={port}
threads=1
pdns-distributes-queries=no
reuseport=no
lua-config-file={dir}/policy.lua
forward-zones-recurse=.={upstream}
dont-query=
dnssec=off
packetcache-ttl=3600
max-packetcache-entries=1000000
max-cache-entries=1000000
stats-ringbuffer-entries=0
log-rpz-changes=no
quiet=yes
loglevel=3
disable-syslog=yes
security-poll-suffix=
export-etc-hosts=no
write-pid=no
daemon=no
setuid=
setgid=
socket-dir={dir}
`

const dnsdistConf = `setLocal("{addr}")
setSecurityPollSuffix("")
setUDPSocketBufferSizes(4194304, 4194304)
newServer({address="{upstream}", name="upstream"}):setUp()
getPool(""):setCache(newPacketCache(1000000, {maxTTL=86400}))
local listed = newSuffixMatchNode()
for name in io.lines("{list}") do listed:add(name) end
addAction(SuffixMatchNodeRule(listed), SpoofAction("192.0.2.66"))
`

const unboundConf = `server:
  directory: "{dir}"
  chroot: ""
  username: ""
  pidfile: ""
  do-daemonize: no
  use-syslog: no
  verbosity: 0
  interface: {addrat}
  access-control: 127.0.0.0/8 allow
  do-ip6: no
  do-not-query-localhost: no
  num-threads: 1
  module-config: "respip iterator"
  rrset-cache-size: 512m
  msg-cache-size: 256m
  rrset-cache-slabs: 1
  msg-cache-slabs: 1
  infra-cache-slabs: 1
  key-cache-slabs: 1
  so-reuseport: no
  so-rcvbuf: 4m
  so-sndbuf: 4m
  outgoing-range: 8192
  num-queries-per-thread: 4096
  incoming-num-tcp: 1000
  tcp-idle-timeout: 60000
  minimal-responses: yes
  statistics-interval: 0
remote-control:
  control-enable: no
rpz:
  name: ` + policyZone + `
  zonefile: "{zone}"
forward-zone:
  name: "."
  forward-addr: {upstreamat}
`

const kresdConf = `log_level('crit')
net.ipv6 = false
net.listen('127.0.0.1', {port}, { kind = 'dns' })
trust_anchors.remove('.')
for _, m in ipairs({'ta_update', 'ta_signal_query', 'ta_sentinel', 'priming', 'detect_time_skew', 'detect_time_jump', 'refuse_nord', 'extended_error'}) do
  pcall(modules.unload, m)
end
cache.open(400 * MB, 'lmdb://{cache}')
policy.add(policy.rpz(policy.DENY, '{zone}', false))
policy.add(policy.all(policy.STUB('{upstreamat}')))
`

const namedConf = `options {
  directory "{dir}";
  pid-file none;
  session-keyfile none;
  listen-on port {port} { 127.0.0.1; };
  listen-on-v6 { none; };
  allow-query { 127.0.0.0/8; };
  recursion yes;
  forward only;
  forwarders { {upstreamhost} port {upstreamport}; };
  dnssec-validation no;
  empty-zones-enable no;
  minimal-responses yes;
  querylog no;
  notify no;
  max-cache-size 512m;
  recursive-clients 10000;
  response-policy { zone "` + policyZone + `"; } qname-wait-recurse no;
};
controls { };
logging {
  channel errors { stderr; severity error; };
  category default { errors; };
};
zone "` + policyZone + `" { type primary; file "{zone}"; check-names ignore; };
`

// setup are the paths of the servers' files.
type setup struct {
	dir      string // of all, a folder for each below it
	shared   string // a folder in memory, or dir
	list     string
	zone     string
	upstream endpoints
	paths    map[string]string // of the programs
}

// prepare writes the configuration of one server, called name here, and returns the command.
func (s setup) prepare(p peer, name, addr string, env ...string) (run program, forget []string, err error) {
	run = program{name: p.name, path: s.paths[p.program], cores: serverCore, dir: filepath.Join(s.dir, name)}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return run, nil, err
	}
	upHost, upPort, err := net.SplitHostPort(s.upstream.addr)
	if err != nil {
		return run, nil, err
	}
	cache := filepath.Join(s.shared, name+"-cache")
	if err := errors.Join(os.MkdirAll(run.dir, 0o755), os.MkdirAll(cache, 0o755)); err != nil {
		return run, nil, err
	}
	words := strings.NewReplacer("{dir}", run.dir, "{cache}", cache, "{list}", s.list, "{zone}", s.zone, "{addr}", addr, "{addrat}", host+"@"+port, "{port}", port,
		"{upstream}", s.upstream.addr, "{encrypted}", s.upstream.encrypted, "{pin}", s.upstream.pin, "{upstreamat}", upHost+"@"+upPort, "{upstreamhost}", upHost, "{upstreamport}", upPort)
	fill := func(texts []string) []string {
		filled := make([]string, len(texts))
		for i, t := range texts {
			filled[i] = words.Replace(t)
		}
		return filled
	}
	for file, text := range p.files {
		if err := os.WriteFile(filepath.Join(run.dir, file), []byte(words.Replace(text)), 0o644); err != nil {
			return run, nil, err
		}
	}
	run.args, run.env = fill(p.args), append(fill(p.env), env...)
	if forget = fill(p.forget); len(forget) > 0 {
		forget[0] = s.paths[forget[0]]
	}
	return run, forget, nil
}

// writeZone writes names as a response policy zone that answers landing for each name itself.
func writeZone(path string, names []string) error {
	lines := make([]string, 0, len(names)+4)
	lines = append(lines, "$ORIGIN "+policyZone+".", fmt.Sprintf("$TTL %d", upstreamTTL),
		"@ SOA localhost. nobody.invalid. 1 3600 1200 604800 3600", "@ NS localhost.")
	for _, n := range names {
		lines = append(lines, n+" A "+landing.String())
	}
	return bench.WriteLines(path, lines, "")
}

// chosen returns the peers that keys name, in the order of the tables.
func chosen(keys []string) ([]peer, error) {
	for _, k := range keys {
		if !slices.ContainsFunc(peers, func(p peer) bool { return p.key == k }) {
			return nil, fmt.Errorf("-servers: there is no %q; there are %s", k, strings.Join(allPeers(), ","))
		}
	}
	return slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return !slices.Contains(keys, p.key) }), nil
}

func allPeers() (keys []string) {
	for _, p := range peers {
		keys = append(keys, p.key)
	}
	return keys
}
