package certificates

import (
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"time"

	"rempart/internal/wire"
	"rempart/resolver"
)

// Endpoints returns the endpoints of a transport that listens on addrs, one for each port.
func Endpoints(transport wire.Transport, addrs []netip.AddrPort) (all []resolver.Endpoint) {
	params := wire.ParamsOf(transport, 0)
	e := resolver.Endpoint{Transport: transport, ALPN: params.ALPN, Path: params.Path}
	at := map[uint16]int{} // indices of all, by port
	for _, addr := range addrs {
		i, known := at[addr.Port()]
		if !known {
			i = len(all)
			at[addr.Port()] = i
			e.Port = addr.Port()
			all = append(all, e)
		}
		all[i].Addrs = append(all[i].Addrs, addr.Addr())
	}
	return all
}

// OwnName returns the name of this resolver, canonical and as text: the first name in its certificate that is not a wildcard.
func OwnName(leaf *x509.Certificate) (name []byte, text string, err error) {
	for _, text := range leaf.DNSNames {
		if strings.HasPrefix(text, "*") {
			continue
		}
		if name, err = wire.AppendName(nil, text); err == nil {
			return name, wire.Text(name), nil
		}
	}
	if err == nil {
		err = errors.New("the certificate holds no DNS name other than wildcards, so that this resolver has no name of its own")
	}
	return nil, "", err
}

// Designated returns the description of this resolver that clients discover. leaves are the certificates in use in the order of REMPART_CERT: the first one
// names this resolver, and clients that discovered the name receive it. The result is nil if there is nothing to discover: no endpoint, no certificate with a
// name, or a certificate that is not valid at the time now. Call it again when a certificate was loaded.
func Designated(endpoints []resolver.Endpoint, leaves []*x509.Certificate, now time.Time) *resolver.Designated {
	if len(endpoints) == 0 || len(leaves) == 0 || validNow(leaves[0], now) != nil {
		return nil
	}
	name, _, err := OwnName(leaves[0])
	if err != nil {
		return nil
	}
	d := &resolver.Designated{Name: name, Endpoints: endpoints}
	for _, ip := range leaves[0].IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			d.Covered = append(d.Covered, addr.Unmap())
		}
	}
	return d
}
