package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/cmd/rempart/cli"
	"rempart/cmd/rempart/report"
	"rempart/internal/config"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/listen"
)

// greet writes where Rempart listens, the lists by which it blocks, and one command to try.
func greet(w io.Writer, s *server, sockets *listen.Server) {
	addrs := sockets.Addrs()
	status := s.lists.Status()
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(w, "Rempart %s answers DNS on %s, over UDP and TCP.\n", cli.Version(), join(addrs))
	for _, t := range s.encryptedAt {
		about := map[wire.Transport]string{wire.TLS: "DNS over TLS", wire.HTTPS: "DNS over HTTPS, path " + wire.DoHPath + ", with HTTP/2 and HTTP/3", wire.QUIC: "DNS over QUIC"}
		line(t.transport.String(), "%s (%s)", join(t.addrs), about[t.transport])
	}
	verb := "blocking"
	if s.config.Mode == config.Observe {
		verb = "observing"
	}
	set := s.set().View().Stats()
	if set.Version == 0 && status.Version == 0 && status.Err == "" && s.edge == nil {
		line(verb, "nothing yet: the lists are still being read; until then answers are unfiltered, and /readyz returns 503")
	} else {
		line(verb, "by a set of %s, version %d", report.Count(set.Names, "name"), set.Version)
	}
	if s.edge == nil || s.control != nil {
		line("", "built in: malware.test, phishing.test")
	} else {
		line("control", "%s", s.config.Control)
	}
	if status.Err != "" {
		line("", "the newest content is not in force: %s", status.Err)
	}
	for _, l := range status.Lists {
		line("", "%s", report.ListLine(l, time.Now()))
	}
	if text := report.GuardsLine(status); text != "" {
		line("guards", "%s", text)
	}
	if status.Waiting != "" {
		line("", "until every list was fetched once, the names of the other lists are not blocked, and /readyz returns 503")
	}
	var up []string
	for _, st := range s.forward.Main.Stats().Upstreams {
		up = append(up, st.Upstream)
	}
	if why := s.forward.Missing(); why != "" {
		up = []string{"none yet: " + why}
	}
	line("upstreams", "%s", strings.Join(up, ", "))
	for _, z := range s.forward.Zones {
		line("", "%s has its own upstreams", zoneText(z))
	}
	greetPage(line, s)
	greetPortal(line, s.portalAt, s.secure != nil)
	if len(s.metricsAt) > 0 {
		line("metrics", "%s", urls("http", s.metricsAt, "/metrics"))
	}
	if s.control != nil {
		select {
		case <-s.control.ready:
			s.control.greetOwn(line)
		default:
			line("control", "is not ready yet: it logs \"control is ready\"")
		}
	}
	line("try", "%s", tryCommand(addrs))
}

func join(addrs []netip.AddrPort) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, ", ")
}

func urls(scheme string, addrs []netip.AddrPort, path string) string {
	var s []string
	for _, a := range addrs {
		s = append(s, scheme+"://"+a.String()+path)
	}
	return strings.Join(s, ", ")
}

// greetPage writes the addresses of the page, and why browsers may not reach it.
func greetPage(line func(label, format string, args ...any), s *server) {
	if len(s.pageAt) == 0 {
		return
	}
	line("page", "%s", urls("http", s.pageAt, "/"))
	if isPageUnreachable(s.config) {
		line("", "blocked names get %s, which is each client's own machine: set REMPART_PAGE_IPV4 and REMPART_PAGE_IPV6", pageAddresses(s.config))
	}
	if isPageMissed(s.config) {
		line("", "browsers open it on port 80 of %s: forward that port here, or listen on it", pageAddresses(s.config))
	}
	if len(s.refusedAt) > 0 {
		line("", "https:// connections are refused at once on %s", join(s.refusedAt))
	}
}

// greetPortal writes the addresses of the portal.
func greetPortal(line func(label, format string, args ...any), at []netip.AddrPort, isSecure bool) {
	if len(at) == 0 {
		return
	}
	scheme := "http"
	if isSecure {
		scheme = "https"
	}
	line("portal", "%s", urls(scheme, at, "/"))
}

// isPageUnreachable reports whether clients on other machines get a loopback address as the address of the page.
func isPageUnreachable(c *config.Config) bool {
	own := c.PageIPv4.IsValid() && c.PageIPv4.IsLoopback() || c.PageIPv6.IsValid() && c.PageIPv6.IsLoopback()
	return own && c.BlockAnswer == "page" && c.Listen.HasPublic()
}

// isPageMissed reports whether the page is not served on port 80, where browsers look for it.
func isPageMissed(c *config.Config) bool {
	for _, a := range c.PageListen {
		if a.Port() == 80 {
			return false
		}
	}
	return c.BlockAnswer == "page"
}

func pageAddresses(c *config.Config) string {
	var s []string
	for _, a := range []config.Addr{c.PageIPv4, c.PageIPv6} {
		if a.IsValid() {
			s = append(s, a.String())
		}
	}
	if len(s) == 0 {
		return "no address"
	}
	return strings.Join(s, " and ")
}

func tryCommand(addrs []netip.AddrPort) string {
	if len(addrs) == 0 {
		return "dig phishing.test"
	}
	a := addrs[0]
	host := a.Addr()
	if host.IsUnspecified() {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if a.Port() == 53 {
		return fmt.Sprintf("dig @%s phishing.test", host)
	}
	return fmt.Sprintf("dig @%s -p %d phishing.test", host, a.Port())
}

func zoneText(z resolver.Zone) string { return blocklist.NameText(z.Name) }
