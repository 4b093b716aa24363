package main

import (
	"context"
	"net/netip"
	"time"

	"rempart/cmd/rempart/setup/certificates"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/listen"
)

// designateEvery is the time after which a loaded certificate, or the expiry of one, changes the encrypted transports that clients discover.
const designateEvery = 10 * time.Second

// transportAddresses are the addresses on which an encrypted transport listens.
type transportAddresses struct {
	transport wire.Transport
	addrs     []netip.AddrPort
}

// encryptedAddresses returns the encrypted transports that listen, in the order in which clients should prefer them: TLS costs the least CPU.
func encryptedAddresses(sockets *listen.Server) (all []transportAddresses) {
	for _, t := range []wire.Transport{wire.TLS, wire.HTTPS, wire.QUIC} {
		if addrs := sockets.AddrsOf(t); len(addrs) > 0 {
			all = append(all, transportAddresses{t, addrs})
		}
	}
	return all
}

// designate keeps the encrypted transports that clients discover equal to those that listen with the certificates in use. It returns when ctx ends.
func (s *server) designate(ctx context.Context) error {
	var endpoints []resolver.Endpoint
	for _, t := range s.encryptedAt {
		endpoints = append(endpoints, certificates.Endpoints(t.transport, t.addrs)...)
	}
	ticker := time.NewTicker(designateEvery)
	defer ticker.Stop()
	for {
		s.resolver.SetDesignated(certificates.Designated(endpoints, s.secure.Leaves(), time.Now()))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
