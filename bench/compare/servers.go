package main

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/miekg/dns"

	"rempart/bench"
)

// loading is how long a server may take until it blocks.
const loading = 3 * time.Minute

// server is a peer that runs. It is paused except while it is measured.
type server struct {
	peer
	*process
	addr   string
	forget []string
}

// fleet is everything that was started, the upstream first.
type fleet struct {
	running []*process
}

// end ends everything, the last first.
func (f *fleet) end() { f.endAfter(0) }

// endServers ends all but the upstream.
func (f *fleet) endServers() { f.endAfter(1) }

func (f *fleet) endAfter(kept int) {
	for len(f.running) > kept {
		last := len(f.running) - 1
		f.running[last].end()
		f.running = f.running[:last]
	}
}

// start launches a peer, waits until it blocks and forwards correctly, and pauses it. env is added to the peer's own environment; name is the name of its
// folder.
func (s *session) start(ctx context.Context, p peer, name, cores string, env ...string) (*server, error) {
	addr, err := bench.FreeAddr()
	if err != nil {
		return nil, err
	}
	run, forget, err := s.setup.prepare(p, name, addr, env...)
	if err != nil {
		return nil, err
	}
	run.cores = cores
	began := time.Now()
	process, err := launch(run)
	if err != nil {
		return nil, err
	}
	s.fleet.running = append(s.fleet.running, process)
	sv := &server{peer: p, process: process, addr: addr, forget: forget}
	ready := func() error { return sv.check(s.loads) }
	switch p.key {
	case echo:
		ready = sv.echoes
	case forward:
		ready = func() error { return sv.expect(s.loads.popular[0], origin.String()) }
	}
	err = process.waitUntil(ctx, loading, ready)
	if err != nil {
		return nil, err
	}
	say("  %s answers after %.1f s, resident %d MB", p.name, time.Since(began).Seconds(), bench.Memory(process.pid(), "VmRSS"))
	return sv, sv.pause()
}

// check asks for listed names from the whole list, and popular ones, and checks each answer. A server may block some names while it still reads others.
func (sv *server) check(l *loads) error {
	const samples = 50
	for i := range samples {
		if err := sv.expect(l.names[i*(len(l.names)-1)/(samples-1)], landing.String()); err != nil {
			return fmt.Errorf("it does not block all of the list: %w", err)
		}
		if err := sv.expect(l.popular[i*(len(l.popular)-1)/(samples-1)], origin.String()); err != nil {
			return fmt.Errorf("it does not forward: %w", err)
		}
	}
	return nil
}

// expect asks for a name and checks that exactly one address is in the answer.
func (sv *server) expect(name, address string) error {
	c := dns.Client{Timeout: 500 * time.Millisecond}
	a, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA), sv.addr)
	if err != nil {
		return fmt.Errorf("asking for %s: %w", name, err)
	}
	if len(a.Answer) == 1 {
		if r, ok := a.Answer[0].(*dns.A); ok && r.A.String() == address {
			return nil
		}
	}
	return fmt.Errorf("%s has the answer %v (%s), not %s", name, a.Answer, dns.RcodeToString[a.Rcode], address)
}

// echoes checks that anything is returned: the reply of bench/echo need not be a whole answer.
func (sv *server) echoes() error {
	conn, err := net.Dial("udp", sv.addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	query, err := new(dns.Msg).SetQuestion("echo.test.", dns.TypeA).Pack()
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		return err
	}
	if _, err := conn.Write(query); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, dns.MaxMsgSize))
	return err
}

// warmed are the loads whose names a server must know before another load is measured.
var warmed = map[string][]string{cached: {cached}, blocked: {blocked}, mixed: {cached, blocked}, typical: {cached, blocked}}

// fresh prepares it for a run of a load: it knows no distinct name, and all names of the other loads.
func (sv *server) fresh(ctx context.Context, s *session, load string) error {
	if load == distinct && len(sv.forget) > 0 {
		if out, err := exec.CommandContext(ctx, sv.forget[0], sv.forget[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("emptying the cache of %s: %w: %s", sv.peer.name, err, out)
		}
	}
	for _, l := range warmed[load] {
		if _, _, err := s.generator.load(ctx, loadCore, sv.addr, s.loads.path(l), "-n", "1", "-l", "20"); err != nil {
			return s.why(sv, fmt.Errorf("warming: %w", err))
		}
	}
	return nil
}
