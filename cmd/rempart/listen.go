package main

import (
	"rempart/cmd/rempart/setup"
	"rempart/resolver/listen"
)

// binder opens sockets that the next process continues to use.
func (s *server) binder() listen.Binder { return listen.Binder{Sockets: s.store} }

// listen opens the DNS sockets, with one UDP socket per worker and address, or uses the sockets of the supervisor.
func (s *server) listen(workers int) (*listen.Server, error) {
	setup.LogAbsent(s.log, "REMPART_LISTEN", s.config.Listen)
	lc := listen.Config{
		Addrs: s.config.Listen, Log: s.log, Serves: s.resolver.Serves, Workers: workers, Spin: s.config.BusyPoll, MaxStreams: s.shares.Streams,
		NewHandler: s.newHandler, Backend: s.config.BackendListen, Proxies: s.config.Proxies,
		Binder: s.binder(), Unanswered: s.handed.Queries,
		Limits: setup.AnswerLimits(s.config), Handshakes: setup.HandshakeLimits(s.config), Ignored: s.config.IgnoredPorts,
	}
	if s.store.Enabled() {
		lc.Leave, lc.Drain = true, streamsDrain
	}
	activated, err := setup.ActivatedSockets(s.store.Activated())
	if err != nil {
		return nil, err
	}
	if len(activated.Packets)+len(activated.Streams) > 0 {
		lc.Addrs, lc.Packets, lc.Streams = nil, activated.Packets, activated.Streams
	}
	if s.secure != nil {
		lc.Secure, lc.TLS, lc.HTTPS, lc.QUIC = s.secure.TLS(), s.config.TLSListen, s.config.HTTPSListen, s.config.QUICListen
		setup.LogAbsent(s.log, "REMPART_TLS_LISTEN", lc.TLS)
		setup.LogAbsent(s.log, "REMPART_HTTPS_LISTEN", lc.HTTPS)
		setup.LogAbsent(s.log, "REMPART_QUIC_LISTEN", lc.QUIC)
	}
	return listen.New(lc)
}

// newHandler returns the handler of one loop over a socket.
func (s *server) newHandler() listen.Handler {
	if s.tap != nil {
		return s.tap.Wrap(s.resolver.NewWorker())
	}
	return s.resolver.NewWorker()
}
