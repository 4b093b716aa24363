package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

func TestLoopsAreDetected(t *testing.T) {
	var pool atomic.Pointer[Pool]
	tests := map[string]dnstest.Handler{
		"loop to this process": func(q *dnstest.Query) {
			if q.Msg.Question[0].Qclass == dns.ClassCHAOS {
				dnstest.Answer(`@ 0 CH TXT "0123456789abcdef"`)(q)
				return
			}
			dnstest.Answer()(q)
		},
		"loop through another server": func(q *dnstest.Query) {
			if answerProbe(t, pool.Load(), q) {
				return
			}
			dnstest.Rcode(dns.RcodeNameError)(q)
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			u := dnstest.NewUpstream(t, handler)
			p := newPool(t, nil, overUDP(u))
			pool.Store(p)
			m := p.members[0]
			if got := p.checkLoop(t.Context(), m); got != isLoop || !p.Stats().Upstreams[0].Looping {
				t.Fatalf("not detected: %d, %+v", got, p.Stats().Upstreams[0])
			}
			if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrLoop) {
				t.Errorf("error %v, want ErrLoop", err)
			}
			// Another instance behind it is fine.
			u.Handle(dnstest.Answer(`@ 0 CH TXT "fedcba9876543210"`))
			if got := p.checkLoop(t.Context(), m); got != noLoop {
				t.Errorf("checked again: %d", got)
			}
			if p.Stats().Upstreams[0].Looping {
				t.Error("the upstream is still refused, though it no longer forwards back")
			}
		})
	}
	if pool.Load().Sighted(dnstest.WireName(t, "0123456789abcdef."+ProbeZone)) != "" {
		t.Error("a name that was not sent was accepted as a probe")
	}
}

// answerProbe answers a loop probe of p as the resolver does, and reports whether q is one.
func answerProbe(t testing.TB, p *Pool, q *dnstest.Query) bool {
	asked := q.Msg.Question[0]
	name := dnstest.WireName(t, asked.Name)
	if !isProbe(t, &Question{Name: name, Class: asked.Qclass}) {
		return false
	}
	secret := p.Sighted(name)
	if secret == "" {
		return false
	}
	dnstest.Answer(`@ 0 IN TXT "` + secret + `"`)(q)
	return true
}

// TestObserverCannotDisableUpstream checks that an observer who sees every probe and sends queries for its name at once cannot disable an upstream: upstreams
// that answer stay in use.
func TestObserverCannotDisableUpstream(t *testing.T) {
	var pool atomic.Pointer[Pool]
	observer := func(q *Question) {
		if isProbe(t, q) {
			for range 3 {
				if pool.Load().Sighted(q.Name) == "" {
					t.Errorf("the probe %q is not known", q.Name)
				}
			}
		}
	}
	healthy := &fake{delay: after(time.Millisecond), heard: observer}
	// It answers everything except probes, like an upstream whose own upstream is slow for such names.
	halting := &fake{delay: after(time.Millisecond), heard: observer, lost: func(q *Question) bool { return isProbe(t, q) }}
	scene(t, []*fake{healthy, halting}, func(t *testing.T, p *Pool) {
		pool.Store(p)
		for range 600 {
			ask(t, p)
			p.members[1].health.answered(time.Millisecond, useful) // a client's question, answered
			time.Sleep(time.Second)
		}
		for _, s := range p.Stats().Upstreams {
			if s.Looping {
				t.Errorf("%s is refused", s.Upstream)
			}
		}
	})
}

// isProbe reports whether q is a loop probe, below the zone of probes.
func isProbe(t testing.TB, q *Question) bool {
	zone := dnstest.WireName(t, ProbeZone)
	return q.Class == wire.ClassIN && len(q.Name) > len(zone) && strings.HasSuffix(string(q.Name), string(zone))
}

func TestRunFindsLoops(t *testing.T) {
	var pool atomic.Pointer[Pool]
	var leads atomic.Bool
	leads.Store(true)
	first, second := &fake{delay: after(time.Millisecond)}, &fake{delay: after(20 * time.Millisecond)}
	first.text = func(q *Question) (secret string) {
		if isProbe(t, q) && leads.Load() {
			if secret = pool.Load().Sighted(q.Name); secret == "" {
				t.Errorf("the probe %q is not known", q.Name)
			}
		}
		return secret
	}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		pool.Store(p)
		time.Sleep(2 * firstCheck)
		if s := p.Stats().Upstreams; !s[0].Looping || s[0].Healthy || s[1].Looping {
			t.Errorf("upstreams %+v, want the first looping and unhealthy, and the second not looping", s)
		}
		if took := ask(t, p); took != 20*time.Millisecond {
			t.Errorf("answered after %v, by the upstream that forwards back", took)
		}
		leads.Store(false)
		time.Sleep(time.Minute)
		if p.Stats().Upstreams[0].Looping {
			t.Error("the upstream is still refused, though it no longer forwards back")
		}
	})
}

// If every query loops and no answer arrives, the upstream becomes unhealthy, perhaps several times. Probes are still sent, and several that arrive here
// without an answer are enough to detect the loop.
func TestLoopIsDetectedWithoutAnswers(t *testing.T) {
	var pool atomic.Pointer[Pool]
	only := &fake{delay: after(never)}
	only.heard = func(q *Question) {
		if isProbe(t, q) {
			pool.Load().Sighted(q.Name)
		}
	}
	scene(t, []*fake{only}, func(t *testing.T, p *Pool) {
		pool.Store(p)
		var client sync.WaitGroup
		client.Go(func() {
			if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrUnreachable) {
				t.Errorf("error %v, want ErrUnreachable", err)
			}
		})
		for range 10 {
			time.Sleep(100 * time.Millisecond)
			select {
			case p.members[0].changed <- struct{}{}:
			default:
			}
		}
		if !p.members[0].isDown() {
			t.Error("the upstream is healthy: the test checks nothing")
		}
		time.Sleep(maxReturns * (checkTimeout + 5*time.Second))
		if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrLoop) {
			t.Errorf("half a minute after Run: error %v, want ErrLoop", err)
		}
		client.Wait()
	})
}

// A message that is not an answer to the probe shows neither that there is a loop nor that there is none.
func TestLoopIsNotDisprovedByFailure(t *testing.T) {
	for name, upstream := range map[string]*fake{
		"SERVFAIL": {delay: after(time.Millisecond), rcode: wire.ServFail},
		"silence":  {delay: after(never)},
		"an error": {delay: after(0), err: os.ErrPermission},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, []*fake{upstream}, func(t *testing.T, p *Pool) {
				m := p.members[0]
				if got := p.checkLoop(t.Context(), m); got != unknown || m.looping.Load() {
					t.Errorf("state %d, looping %v", got, m.looping.Load())
				}
				if s := p.Stats().Upstreams[0]; !s.Healthy {
					t.Errorf("a check made it unhealthy: %+v", s)
				}
				m.looping.Store(true)
				if got := p.checkLoop(t.Context(), m); got != unknown || !m.looping.Load() {
					t.Errorf("after the loop was found: state %d, looping %v", got, m.looping.Load())
				}
			})
		})
	}
}

func TestOldProbesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, nil, "192.0.2.1")
		name := p.newProbe()
		time.Sleep(probeMemory + time.Second)
		if p.Sighted(name) != "" {
			t.Error("the name of an old probe is still known")
		}
		name = p.newProbe()
		time.Sleep(2 * checkTimeout)
		if p.Sighted(name) == "" {
			t.Error("a probe that returned late is not known")
		}
		if len(p.probes) != 1 {
			t.Errorf("%d probes are remembered, want 1", len(p.probes))
		}
	})
}

func FuzzHasText(f *testing.F) {
	q := Question{Name: dnstest.WireName(f, "www.example.org"), Type: wire.TypeTXT, Class: wire.ClassCH}
	sent := transport.AppendQuery(nil, &q, 77, transport.Form{EDNS: true})
	answer := transport.AppendQuery(nil, &q, 77, transport.Form{})
	wire.SetFlags(answer, wire.FlagQR)
	f.Add(answer)
	via := via(newPool(f, nil, "udp://192.0.2.1"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		if m, err := via.JudgeDatagram(msg, sent, false, false); m == transport.Foreign || err != nil {
			return
		}
		if r, err := transport.Read(bytes.Clone(msg), &q); err == nil {
			hasText(r.Packed, "identity", wire.ClassCH)
		}
	})
}

// A probe must pass through resolvers that answer special-use names themselves.
func TestLoopThroughUnbound(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts another server")
	}
	program, err := exec.LookPath("unbound")
	if err != nil {
		t.Skip(err)
	}
	var pool atomic.Pointer[Pool]
	here := dnstest.NewUpstream(t, func(q *dnstest.Query) { // as the resolver does
		if answerProbe(t, pool.Load(), q) {
			return
		}
		dnstest.Answer("@ 300 IN A 192.0.2.1")(q)
	})
	p := newPool(t, nil, "udp://"+startUnbound(t, program, here.Addr).String())
	pool.Store(p)
	dnstest.Eventually(t, "Unbound answers", func() bool {
		_, err := exchangeWith(p, t.Context(), question(t, "www.example.org"))
		return err == nil
	})
	if got := p.checkLoop(t.Context(), p.members[0]); got != isLoop {
		t.Errorf("a loop through Unbound is not found: %d", got)
	}
}

// startUnbound starts an Unbound that forwards everything to upstream, and ends with the test.
func startUnbound(t *testing.T, program string, upstream netip.AddrPort) netip.AddrPort {
	t.Helper()
	// A port that we use on another loopback address: the system gives it to nobody meanwhile.
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), dnstest.NewUpstream(t, nil).Addr.Port())
	dir := t.TempDir()
	file := filepath.Join(dir, "unbound.conf")
	conf := fmt.Sprintf(`server:
	interface: %v@%d
	do-daemonize: no
	use-syslog: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	num-threads: 1
	module-config: "iterator"
	do-not-query-localhost: no
	access-control: 127.0.0.0/8 allow
remote-control:
	control-enable: no
forward-zone:
	name: "."
	forward-addr: %v@%d
`, at.Addr(), at.Port(), dir, upstream.Addr(), upstream.Port())
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-c", file)
	var wrote strings.Builder
	cmd.Stdout, cmd.Stderr = &wrote, &wrote
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Wait() // an error: it was killed when the context ended
		if t.Failed() {
			t.Logf("unbound wrote:\n%s", wrote.String())
		}
	})
	return at
}
