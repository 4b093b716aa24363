package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// The addresses in the files of deploy/forwarders. The tests give them to the loopback interface of a network of their own.
const (
	firstServer, secondServer = "192.0.2.10", "192.0.2.11" // Rempart
	ownServer                 = "192.0.2.20"               // of the zone corp.example
	forwardersName            = "dns.isp.example"          // in the certificate of Rempart
)

// forwarder is a program of another project that forwards to Rempart.
type forwarder struct {
	name        string // in tables
	file        string // in deploy/forwarders
	program     string
	validations []validation // the first one is the shipped one
	overTLS     bool         // the file has lines for TLS
	check       func(dir string) *exec.Cmd
	run         func(dir string) *exec.Cmd
	// local adapts the file to a folder and an address of loopback, and to a trust anchor if it is not nil, and writes it into the folder.
	local func(t *testing.T, dir, text, addr string, anchor *dns.DNSKEY)
}

// validation is a setting of a resolver for the validation of DNSSEC.
type validation struct {
	setting  string // in tables
	old, new string // the text of the shipped file, and its replacement
	anchored bool   // with the key of the root zone
}

// forwarders are the resolvers with a file in deploy/forwarders.
var forwarders = []forwarder{
	{
		name: "BIND 9.18", file: "named.conf.options", program: "named",
		validations: []validation{
			{setting: "`dnssec-validation yes`, no anchor"},
			{setting: "`dnssec-validation no`", old: "dnssec-validation yes;", new: "dnssec-validation no;"},
			{setting: "`dnssec-validation auto`", anchored: true},
		},
		check: func(dir string) *exec.Cmd { return exec.Command("named-checkconf", dir+"/named.conf") },
		run:   func(dir string) *exec.Cmd { return exec.Command("named", "-g", "-n", "1", "-c", dir+"/named.conf") },
		local: func(t *testing.T, dir, text, addr string, anchor *dns.DNSKEY) {
			text = replaced(t, text, `directory "/var/cache/bind";`, fmt.Sprintf("directory %q; pid-file none; session-keyfile none;", dir))
			text = replaced(t, text, "listen-on { any; };", "listen-on { "+addr+"; };")
			text = replaced(t, text, "listen-on-v6 { any; };", "listen-on-v6 { none; };")
			if anchor != nil {
				text += fmt.Sprintf("trust-anchors { %q static-key %d %d %d %q; };\n", anchor.Hdr.Name, anchor.Flags, anchor.Protocol, anchor.Algorithm, anchor.PublicKey)
			}
			write(t, filepath.Join(dir, "named.conf"), text, "controls { };")
		},
	},
	{
		name: "Unbound 1.17", file: "unbound.conf", program: "unbound", overTLS: true,
		validations: []validation{
			{setting: "`module-config: \"iterator\"`"},
			{setting: "`\"validator iterator\"`", old: `module-config: "iterator"`, new: `module-config: "validator iterator"`, anchored: true},
		},
		check: func(dir string) *exec.Cmd { return exec.Command("unbound-checkconf", dir+"/unbound.conf") },
		run:   func(dir string) *exec.Cmd { return exec.Command("unbound", "-d", "-c", dir+"/unbound.conf") },
		local: func(t *testing.T, dir, text, addr string, anchor *dns.DNSKEY) {
			around := fmt.Sprintf("server:\n  username: \"\"\n  chroot: \"\"\n  directory: %q\n  pidfile: \"\"\n  use-syslog: no\n", dir) +
				fmt.Sprintf("  num-threads: 1\n  do-ip6: no\n  interface: %s\n", addr)
			if anchor != nil {
				around += fmt.Sprintf("  trust-anchor: \"%s\"\n", strings.Join(strings.Fields(anchor.String()), " "))
			}
			write(t, filepath.Join(dir, "rempart.conf"), text)
			write(t, filepath.Join(dir, "unbound.conf"), around+"remote-control:\n  control-enable: no\ninclude: "+filepath.Join(dir, "rempart.conf"))
		},
	},
	{
		name: "Knot Resolver 5.6", file: "kresd.conf", program: "kresd", overTLS: true,
		validations: []validation{
			{setting: "`policy.STUB`"},
			{setting: "`policy.FORWARD`, no anchor", old: "policy.STUB({'192.0.2.10', ", new: "policy.FORWARD({'192.0.2.10', "},
			{setting: "`policy.FORWARD`", old: "policy.STUB({'192.0.2.10', ", new: "policy.FORWARD({'192.0.2.10', ", anchored: true},
		},
		run: func(dir string) *exec.Cmd { return exec.Command("kresd", "-n", "-q", "-c", dir+"/kresd.conf", dir) },
		local: func(t *testing.T, dir, text, addr string, anchor *dns.DNSKEY) {
			text = replaced(t, text, "'127.0.0.1', 53", "'"+addr+"', 53")
			anchors := "trust_anchors.remove('.')"
			if anchor != nil {
				anchors += fmt.Sprintf("\ntrust_anchors.add('%s')", strings.Join(strings.Fields(anchor.String()), " "))
			}
			text = replaced(t, text, "cache.size = 100 * MB", "cache.size = 16 * MB")
			write(t, filepath.Join(dir, "kresd.conf"), "net.ipv6 = false", anchors, text)
		},
	},
	{
		name: "PowerDNS Recursor 4.8", file: "recursor.conf", program: "pdns_recursor", overTLS: true,
		validations: []validation{
			{setting: "`dnssec=off`"},
			{setting: "`dnssec=process-no-validate`", old: "dnssec=off", new: "dnssec=process-no-validate"},
			{setting: "`dnssec=validate`", old: "dnssec=off", new: "dnssec=validate", anchored: true},
		},
		check: func(dir string) *exec.Cmd {
			return exec.Command("pdns_recursor", "--config-dir="+dir, "--config=check")
		},
		run: func(dir string) *exec.Cmd { return exec.Command("pdns_recursor", "--config-dir="+dir) },
		local: func(t *testing.T, dir, text, addr string, anchor *dns.DNSKEY) {
			text = replaced(t, text, "local-address=127.0.0.1", "local-address="+addr)
			lua := "clearTA()\n"
			if anchor != nil {
				ds := anchor.ToDS(dns.SHA256)
				lua += fmt.Sprintf("addTA('.', \"%d %d %d %s\")\n", ds.KeyTag, ds.Algorithm, ds.DigestType, ds.Digest)
			}
			write(t, filepath.Join(dir, "lua"), lua)
			write(t, filepath.Join(dir, "recursor.conf"), text, "socket-dir="+dir, "security-poll-suffix=", "threads=1", "lua-config-file="+filepath.Join(dir, "lua"))
		},
	},
}

// replaced replaces a text that must be there once.
func replaced(t *testing.T, text, old, replacement string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("the file contains %q %d times, want once", old, n)
	}
	return strings.Replace(text, old, replacement, 1)
}

// forwarderText returns a file of deploy/forwarders. With a mark ("TLS", "ZONE"), the lines with that mark are in effect; with "TLS", they replace the lines
// of the servers without TLS.
func forwarderText(t *testing.T, name string, marks ...string) string {
	t.Helper()
	text := readText(t, filepath.Join("..", "..", "deploy", "forwarders", name))
	for _, mark := range marks {
		if !regexp.MustCompile(`(?m)^\s*(#|--)` + mark + ` `).MatchString(text) {
			t.Fatalf("deploy/forwarders/%s has no line with the mark %s", name, mark)
		}
		if mark == "TLS" {
			text = regexp.MustCompile(`(?m)^[^#\n]*192\.0\.2\.1[01].*\n`).ReplaceAllStringFunc(text, func(line string) string {
				if strings.HasPrefix(line, "--TLS") {
					return line
				}
				return ""
			})
		}
		text = regexp.MustCompile(`(?m)^(\s*)(#|--)`+mark+` `).ReplaceAllString(text, "$1")
	}
	return text
}

// start runs the program with a text of its file, and waits until it answers on the address. anchor is the key of the root zone with which it validates, or nil.
func (f forwarder) start(t *testing.T, text, addr string, anchor *dns.DNSKEY) *dnstest.Peer {
	t.Helper()
	dir, err := os.MkdirTemp("", "fw") // the path of a socket of PowerDNS must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f.local(t, dir, text, addr, anchor)
	inNetwork(t, addr) // BIND listens only on addresses of an interface
	p := dnstest.StartPeer(t, f.run(dir))
	c := &dns.Client{Timeout: dnsPatience}
	p.Answers(t, func() bool {
		_, _, err := c.Exchange(question("localhost"), addr+":53")
		return err == nil
	})
	return p
}

// inNetwork gives the addresses to the loopback interface of a network that Isolated made.
func inNetwork(t *testing.T, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		dnstest.Command(t, "ip", "addr", "add", a+"/32", "dev", "lo")
	}
}

// TestForwardersAreValid checks the files of deploy/forwarders with the checkers of the programs, as they are shipped and with the lines for TLS and for a single zone.
func TestForwardersAreValid(t *testing.T) {
	t.Parallel()
	for _, f := range forwarders {
		variants := [][]string{nil, {"ZONE"}}
		if f.overTLS {
			variants = append(variants, []string{"TLS", "ZONE"})
		}
		for _, marks := range variants {
			t.Run(fmt.Sprint(f.name, marks), func(t *testing.T) {
				t.Parallel()
				if f.check == nil {
					t.Skip("the program has no checker; the other tests run it with this file")
				}
				dir := t.TempDir()
				cmd := f.check(dir)
				dnstest.Need(t, cmd.Args[0])
				f.local(t, dir, forwarderText(t, f.file, marks...), "127.0.0.1", nil)
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%q: %v\n%s", cmd.Args, err, out)
				}
			})
		}
	}
	t.Run("dnsdist", func(t *testing.T) {
		t.Parallel()
		output(t, "dnsdist", "--check-config", "-C", filepath.Join("..", "..", "deploy", "forwarders", "dnsdist.conf"))
	})
	if entries, err := os.ReadDir(filepath.Join("..", "..", "deploy", "forwarders")); err != nil || len(entries) != len(forwarders)+1 {
		t.Errorf("deploy/forwarders has %d files, want one of each resolver and dnsdist.conf: %v", len(entries), err)
	}
}
