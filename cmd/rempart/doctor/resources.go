package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"rempart/cmd/rempart/machine"
	"rempart/cmd/rempart/report"
	"rempart/resolver/listen"
)

// checkPage checks that devices reach the warning page.
func checkPage(ctx context.Context, in *installation) []Finding {
	if in.config == nil || in.status == nil || in.config.BlockAnswer != "page" {
		return nil
	}
	page := in.config.PageIPv4.Addr
	if !page.IsValid() {
		page = in.config.PageIPv6.Addr
	}
	if !page.IsValid() {
		return one(OK, "", "blocked names have no address (REMPART_PAGE_IPV4, REMPART_PAGE_IPV6)")
	}
	if page.IsLoopback() && !beyondLoopback(in.status.Listening) {
		return one(OK, "", "at %s: only this machine asks", page)
	}
	if page.IsLoopback() {
		return one(Warning, "set REMPART_PAGE_IPV4 to the address of this machine in the home network, and restart",
			"blocked names have the address %s, at which each device finds itself", page)
	}
	url := "http://" + netip.AddrPortFrom(page, 80).String() + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return one(Unknown, "", "%v", err)
	}
	req.Host = "phishing.test"
	res, err := (&http.Client{Timeout: checkPatience / 2}).Do(req)
	if err != nil {
		return one(Problem, "serve it there: REMPART_PAGE_LISTEN=:80, or a forwarded port", "the warning page does not answer at %s: %v", url, err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden && res.StatusCode != http.StatusUnavailableForLegalReasons {
		return one(Problem, "stop the program that answers there, or set REMPART_PAGE_IPV4 to an address of its own", "another program answers at %s (%s)", url, res.Status)
	}
	return one(OK, "", "at %s", url)
}

// beyondLoopback reports whether other machines can ask.
func beyondLoopback(listening []string) bool {
	for _, text := range listening {
		if at, err := netip.ParseAddrPort(text); err == nil && !at.Addr().IsLoopback() {
			return true
		}
	}
	return false
}

// expiresSoon is the time before the expiry of a certificate from which on it should have been renewed.
const expiresSoon = 14 * 24 * time.Hour

// checkCertificates checks the certificates of the encrypted transports, as a client gets them.
func checkCertificates(ctx context.Context, in *installation) (found []Finding) {
	if in.status == nil {
		return nil
	}
	for _, text := range in.status.Listening {
		protocol, host, ok := strings.Cut(text, "://")
		at, err := netip.ParseAddrPort(host)
		if !ok || err != nil || protocol == "quic" { // QUIC has the same certificates
			continue
		}
		found = append(found, checkCertificate(ctx, in, protocol, machine.Reachable(at)))
	}
	return found
}

func checkCertificate(ctx context.Context, in *installation, protocol string, at netip.AddrPort) Finding {
	// The certificate is examined below: its names are not known here.
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: checkPatience / 2}, Config: &tls.Config{InsecureSkipVerify: true}}
	c, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return Finding{Level: Problem, Text: fmt.Sprintf("%s at %s: the handshake fails: %v", protocol, at, err), Do: "check REMPART_CERT and REMPART_KEY, or REMPART_ACME"}
	}
	defer c.Close()
	leaf := c.(*tls.Conn).ConnectionState().PeerCertificates[0]
	left := leaf.NotAfter.Sub(in.now)
	f := Finding{Level: OK, Text: fmt.Sprintf("%s at %s: valid until %s, for %s", protocol, at, report.Moment(leaf.NotAfter), strings.Join(leaf.DNSNames, ", "))}
	switch {
	case left < 0 || in.now.Before(leaf.NotBefore):
		f.Level, f.Do = Problem, "renew it; it is loaded again when its file changes"
		f.Text = fmt.Sprintf("%s at %s: the certificate is valid from %s to %s only", protocol, at, report.Moment(leaf.NotBefore), report.Moment(leaf.NotAfter))
	case left < expiresSoon:
		f.Level, f.Do = Warning, "renew it; it is loaded again when its file changes"
	}
	return f
}

// checkClock checks that the time is right: lists, certificates and signed changes depend on it.
func checkClock(_ context.Context, in *installation) []Finding {
	const do = `synchronise it: "timedatectl set-ntp true"`
	if in.status != nil && report.ClockIsWrong(in.now, in.status.Set.Created) {
		return one(Problem, do, "the clock says %s, and the set was made later, at %s", report.Moment(in.now), report.Moment(in.status.Set.Created))
	}
	synchronised, err := clockIsSynchronised()
	switch {
	case err != nil:
		return one(Unknown, "", "whether the clock is synchronised is not known: %v", err)
	case !synchronised:
		return one(Warning, do, "nothing synchronises the clock of this machine")
	}
	return one(OK, "", "%s, synchronised", report.Moment(in.now))
}

// leastRoom is the free space below which a new set may not fit.
const leastRoom = 256 << 20

// checkFolder checks that the data folder is there, and has room.
func checkFolder(_ context.Context, in *installation) []Finding {
	if in.config == nil {
		return nil
	}
	dir := in.config.DataDir
	_, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) && in.status == nil:
		return one(OK, "", "%s does not exist yet: the server creates it", dir)
	case errors.Is(err, fs.ErrNotExist):
		return one(Problem, "restart the server, which creates it", "%s does not exist", dir)
	case err != nil:
		return one(Unknown, "run this command as root, or as the server's user", "%v", err)
	}
	free, err := freeSpace(dir)
	switch {
	case err != nil:
		return one(Unknown, "", "the free space of %s is not known: %v", dir, err)
	case free < leastRoom:
		return one(Warning, "make room: a new set needs space beside the old one", "%s has %s left", dir, report.Bytes(free))
	}
	return one(OK, "", "%s, %s free", dir, report.Bytes(free))
}

// checkBuffers checks that the kernel's buffers hold the queries that arrive during a restart or a burst.
func checkBuffers(_ context.Context, in *installation) []Finding {
	if in.status == nil {
		return nil
	}
	var dropped uint64
	for _, text := range in.status.Listening {
		at, err := netip.ParseAddrPort(text)
		if err != nil {
			continue
		}
		sockets, err := in.machine.Sockets(at.Port())
		if err != nil {
			return one(Unknown, "", "the sockets of this machine cannot be read: %v", err)
		}
		for _, s := range sockets {
			if s.At == at {
				dropped += s.Drops
			}
		}
	}
	most, err := in.machine.Number("proc/sys/net/core/rmem_max")
	if err != nil {
		return one(Unknown, "", "the limit of the kernel's buffers is not known: %v", err)
	}
	do := fmt.Sprintf(`allow larger ones: "echo net.core.rmem_max=%d > /etc/sysctl.d/50-rempart.conf && sysctl --system", then restart`, listen.ReceiveRoom)
	switch {
	case dropped > 0:
		return one(Warning, do, "the kernel dropped %s because the sockets' buffers were full", report.Count(int(dropped), "query"))
	case most < listen.ReceiveRoom:
		return one(Warning, do, "sockets get at most %s of the %s that Rempart asks for: many queries at once may be lost", report.Bytes(int64(most)), report.Bytes(listen.ReceiveRoom))
	}
	return one(OK, "", "%s for each socket, and no query was dropped", report.Bytes(listen.ReceiveRoom))
}
