package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"rempart/cmd/rempart/machine"

	"github.com/miekg/dns"
)

const dnsPort = 53

// checkPort checks that nobody but this server uses port 53.
func checkPort(_ context.Context, in *installation) []Finding {
	sockets, err := in.machine.Sockets(dnsPort)
	if err != nil {
		return one(Unknown, "", "the sockets of this machine cannot be read: %v", err)
	}
	held := in.machine.Holders(sockets)
	switch {
	case in.status == nil && len(sockets) > 0:
		return one(Problem, portAdvice(held.Others), "port 53 is used by %s", named(held))
	case in.status == nil:
		return nil
	case len(held.Others) > 0 && held.Rempart:
		return one(OK, "", "port 53 is shared with %s, on other addresses", strings.Join(held.Others, ", "))
	case len(held.Others) > 0:
		return one(Problem, portAdvice(held.Others), "port 53 is used by %s", strings.Join(held.Others, ", "))
	case !slices.ContainsFunc(in.status.Listening, func(at string) bool { return strings.HasSuffix(at, ":53") }):
		return one(Warning, "set REMPART_LISTEN=:53, and restart", "devices ask on port 53, and this server answers on %s", strings.Join(in.status.Listening, ", "))
	}
	return one(OK, "", "port 53 is used by rempart")
}

// named returns the names of programs, also if there are none.
func named(held machine.Holders) string {
	switch {
	case len(held.Others) > 0:
		return strings.Join(held.Others, ", ")
	case held.Rempart:
		return "a Rempart with other settings"
	}
	return "another program (run this command as root to see its name)"
}

// portAdvice says how port 53 gets free.
func portAdvice(owners []string) string {
	for _, name := range owners {
		if strings.HasPrefix(name, "systemd-resolve") {
			return `set DNSStubListener=no in /etc/systemd/resolved.conf and run "systemctl restart systemd-resolved", or let "rempart setup" do it`
		}
	}
	return "stop that program, or set REMPART_LISTEN to an address that it does not use"
}

// checkAnswers asks on each address of the server, and checks that this server answers, and blocks.
func checkAnswers(ctx context.Context, in *installation) (found []Finding) {
	if in.status == nil {
		return nil
	}
	asked := 0
	for _, text := range in.status.Listening {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			continue // an encrypted transport: see checkCertificates
		}
		asked++
		for _, network := range []string{"udp", "tcp"} {
			if f := checkAnswer(ctx, in, network, machine.Reachable(at)); f != nil {
				found = append(found, *f)
			}
		}
	}
	if found == nil {
		found = one(OK, "", "over UDP and TCP on %s", strings.Join(in.status.Listening[:asked], ", "))
	}
	return found
}

// checkAnswer checks who answers at an address, and how. It returns nil if everything is well.
func checkAnswer(ctx context.Context, in *installation, network string, at netip.AddrPort) *Finding {
	bad := func(do, format string, args ...any) *Finding {
		return &Finding{Level: Problem, Do: do, Text: fmt.Sprintf("%s over %s: ", at, network) + fmt.Sprintf(format, args...)}
	}
	who, err := ask(ctx, network, at.String(), "instance.rempart.", dns.TypeTXT, dns.ClassCHAOS)
	if err != nil {
		return bad("a firewall on this machine may drop queries; REMPART_CLIENTS must contain this address", "no answer: %v", err)
	}
	if text := textOf(who); text != in.status.Identity {
		return bad("another program answers there: stop it, or use another address in REMPART_LISTEN", "another server answers")
	}
	blocked, err := ask(ctx, network, at.String(), "phishing.test.", dns.TypeA, dns.ClassINET)
	if err != nil {
		return bad(`read the log: "journalctl -u rempart"`, "the test name phishing.test is not answered: %v", err)
	}
	blocks := in.status.Mode != "observe" && !in.status.Set.Suspended
	hasPage := in.config != nil && in.config.BlockAnswer == "page" && in.config.PageIPv4.IsValid()
	if blocks && hasPage && blocked.Rcode == dns.RcodeSuccess && len(blocked.Answer) == 0 {
		return bad(`"rempart check phishing.test" says why`, "the test name phishing.test is not blocked")
	}
	return nil
}

// ask asks one question, as a client does.
func ask(ctx context.Context, network, at, name string, typ, class uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.Question[0].Qclass = class
	m.AuthenticatedData = true // the answer may carry AD (RFC 6840 section 5.7)
	answer, _, err := (&dns.Client{Net: network, Timeout: checkPatience / 2}).ExchangeContext(ctx, m, at)
	return answer, err
}

// textOf returns the text of the first TXT record.
func textOf(m *dns.Msg) string {
	for _, rr := range m.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			return strings.Join(txt.Txt, "")
		}
	}
	return ""
}

// checkDNSSEC checks that answers are validated: the root zone is signed.
func checkDNSSEC(ctx context.Context, in *installation) []Finding {
	at, ok := firstAddress(in)
	if !ok {
		return nil
	}
	m, err := ask(ctx, "udp", at.String(), ".", dns.TypeSOA, dns.ClassINET)
	switch {
	case err != nil:
		return one(Unknown, "", "the root zone could not be asked for: %v", err)
	case m.Rcode != dns.RcodeSuccess:
		return one(Unknown, "check the network and the upstreams", "the upstreams answer %s for the root zone", dns.RcodeToString[m.Rcode])
	case !m.AuthenticatedData:
		return one(Warning, "name a validating resolver that is reached over TLS, HTTPS or QUIC, or run Unbound on this machine (deploy/engine.md)",
			"answers are not validated, or arrive over a path on which anybody could change them: they have no AD bit")
	}
	return one(OK, "", "answers are validated")
}

// firstAddress returns an address at which this machine reaches the server.
func firstAddress(in *installation) (netip.AddrPort, bool) {
	if in.status == nil {
		return netip.AddrPort{}, false
	}
	for _, text := range in.status.Listening {
		if at, err := netip.ParseAddrPort(text); err == nil {
			return machine.Reachable(at), true
		}
	}
	return netip.AddrPort{}, false
}

// checkIPv6 checks that devices with IPv6 are filtered too.
func checkIPv6(_ context.Context, in *installation) []Finding {
	if in.status == nil {
		return nil
	}
	var global []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return one(Unknown, "", "the addresses of this machine cannot be read: %v", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsGlobalUnicast() {
			global = append(global, p.Addr().String())
		}
	}
	if len(global) == 0 {
		return one(OK, "", "this machine has no IPv6 address")
	}
	serves := slices.ContainsFunc(in.status.Listening, func(text string) bool {
		at, err := netip.ParseAddrPort(text)
		return err == nil && at.Addr().Is6() && !at.Addr().IsLoopback()
	})
	if !serves {
		return one(Warning, "add an IPv6 address to REMPART_LISTEN (\":53\" has all), and announce it to the devices",
			"this machine has %s, and Rempart does not answer over IPv6: devices may get another DNS server over IPv6 from the router", strings.Join(global, ", "))
	}
	return one(OK, "", "answers over IPv6")
}
