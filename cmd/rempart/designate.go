package main

import (
	"context"
	"time"

	"rempart/cmd/rempart/setup"
	"rempart/internal/wire"
	"rempart/resolver"
	"rempart/resolver/listen"
)

// designateEvery is the time after which a loaded certificate, or the expiry of one, changes the encrypted transports that clients discover.
const designateEvery = 10 * time.Second

// designate keeps the encrypted transports that clients discover equal to those that listen with the certificates in use. It returns when ctx ends.
func (s *server) designate(ctx context.Context, sockets *listen.Server) error {
	var endpoints []resolver.Endpoint
	for _, transport := range []wire.Transport{wire.TLS, wire.HTTPS, wire.QUIC} { // TLS first: it costs the least CPU
		endpoints = append(endpoints, setup.Endpoints(transport, sockets.AddrsOf(transport))...)
	}
	ticker := time.NewTicker(designateEvery)
	defer ticker.Stop()
	for {
		s.resolver.SetDesignated(setup.Designated(endpoints, s.secure.Leafs(), time.Now()))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
