package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/miekg/dns"

	"rempart/bench"
	"rempart/internal/wire"
	"rempart/resolver/listen"
)

// upstreamCommand is the hidden argument by which the command runs itself as the upstream of all servers.
const upstreamCommand = "serve-upstream"

// countName is a name whose address is the number of queries that the upstream has received.
const countName = "count.upstream.invalid"

// origin is the upstream's answer for every name, landing the servers' answer for a listed one.
var (
	origin  = netip.AddrFrom4([4]byte{192, 0, 2, 1})
	landing = netip.AddrFrom4([4]byte{192, 0, 2, 66})
)

const upstreamTTL = 3600 // seconds

// upstream answers all A queries with one address, and everything else with no data.
type upstream struct {
	asked *atomic.Uint32
	count []byte // countName in wire form
}

func (u upstream) Fast(batch []wire.Query) {
	for i := range batch {
		q := &batch[i]
		if q.Outcome = wire.Dropped; q.Parse(0) != wire.Common {
			continue
		}
		q.Begin(wire.Success)
		switch {
		case string(q.Name()) == string(u.count):
			var n [4]byte
			binary.BigEndian.PutUint32(n[:], u.asked.Load())
			q.AddAddress(0, netip.AddrFrom4(n))
		case q.Type == wire.TypeA:
			u.asked.Add(1)
			q.AddAddress(upstreamTTL, origin)
		default:
			u.asked.Add(1)
			q.AddSOA(upstreamTTL, 0)
		}
		q.Finish(wire.Success)
	}
}

func (upstream) Slow(context.Context, *wire.Query) {}
func (upstream) Shed(*wire.Query)                  {}

// serveUpstream is the child process. It answers at the address addr over UDP and TCP, and at the address encrypted over TLS, until it gets a signal.
func serveUpstream(addr, encrypted, certificate string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	count, err := wire.AppendName(nil, countName)
	if err != nil {
		return err
	}
	var asked atomic.Uint32
	s, err := listen.New(listen.Config{Addrs: []netip.AddrPort{at}, Workers: 1,
		NewHandler: func() listen.Handler { return upstream{&asked, count} }})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	secure, err := listenTLS(encrypted, certificate)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { secure.Close() })
	go acceptTLS(secure, upstream{&asked, count})
	return s.Run(ctx)
}

// upstreamAsked returns the number of queries that the upstream at addr has received, modulo 2^32.
func upstreamAsked(addr string) (uint32, error) {
	a, err := dns.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(countName), dns.TypeA), addr)
	if err != nil {
		return 0, fmt.Errorf("asking the upstream what it was asked: %w", err)
	}
	if len(a.Answer) == 1 {
		if r, ok := a.Answer[0].(*dns.A); ok {
			return binary.BigEndian.Uint32(r.A.To4()), nil
		}
	}
	return 0, fmt.Errorf("the upstream does not say what it was asked: %v", a)
}

// endpoints holds the addresses at which the upstream answers.
type endpoints struct {
	addr      string // over UDP and TCP
	encrypted string // over TLS
	pin       string // SHA-256 hash of its key, in base64
}

// launchUpstream runs this program again as the upstream, on the load generator's core.
func launchUpstream(dir string) (p *process, at endpoints, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, at, err
	}
	if at.addr, err = bench.FreeAddr(); err != nil {
		return nil, at, err
	}
	if at.encrypted, err = bench.FreeAddr(); err != nil {
		return nil, at, err
	}
	certificate := filepath.Join(dir, "upstream.pem")
	if at.pin, err = writeCertificate(certificate); err != nil {
		return nil, at, err
	}
	p, err = launch(program{name: "the upstream", path: self, args: []string{upstreamCommand, at.addr, at.encrypted, certificate}, cores: loadCore, env: []string{"GOMAXPROCS=1"}, dir: dir})
	return p, at, err
}
