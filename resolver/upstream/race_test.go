package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/pause"
	"rempart/internal/wire"
	"rempart/resolver/upstream/transport"
)

// fake is an upstream in memory: it answers after what delay says, and never if that is
// negative. It runs under virtual time.
type fake struct {
	mu      sync.Mutex
	delay   func() time.Duration
	slow    func(*Question) bool // questions that take a second; may be nil
	lost    func(*Question) bool // questions that are never answered; may be nil
	refused func(*Question) bool // questions that a port refuses; may be nil
	rcode   int
	err     error // instead of an answer
	asked   int   // questions, probes not counted
	probed  int
	heard   func(*Question)        // called with every question; may be nil
	text    func(*Question) string // of the TXT record to answer with, "" for none; may be nil
	current atomic.Int64
}

const never = time.Duration(-1)

func after(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func (f *fake) set(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = after(d)
}

func (f *fake) setErr(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fake) counts() (asked, probed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked, f.probed
}

func (f *fake) Retire() {}

func (f *fake) Exchange(ctx context.Context, request *transport.Request) (transport.Reply, error) {
	q := &request.Question
	f.current.Add(1)
	defer f.current.Add(-1)
	f.mu.Lock()
	if q.Type == wire.TypeA {
		f.asked++
	} else {
		f.probed++
	}
	d, rcode, err, heard := f.delay(), f.rcode, f.err, f.heard
	f.mu.Unlock()
	if f.slow != nil && f.slow(q) {
		d = time.Second
	}
	if f.lost != nil && f.lost(q) {
		d = never
	}
	if f.refused != nil && f.refused(q) {
		err = syscall.ECONNREFUSED
	}
	if heard != nil {
		heard(q)
	}
	if d < 0 {
		<-ctx.Done()
		return transport.Reply{}, context.Cause(ctx)
	}
	if !pause.For(ctx, d) {
		return transport.Reply{}, context.Cause(ctx)
	}
	if err != nil {
		return transport.Reply{}, err
	}
	packed := transport.AppendQuery(nil, q, 1, transport.Form{})
	wire.SetFlags(packed, wire.FlagQR|uint16(rcode))
	if f.text != nil {
		if text := f.text(q); text != "" {
			wire.SetCount(packed, wire.SectionAnswer, 1)
			packed = append(packed, 0xc0, wire.HeaderLen, 0, byte(wire.TypeTXT), 0, byte(q.Class), 0, 0, 0, 0, 0, byte(len(text)+1), byte(len(text)))
			packed = append(packed, text...)
		}
	}
	return transport.Read(packed, q)
}

// scene is a pool over fakes, in a bubble of virtual time. Run runs until the test ends.
func scene(t *testing.T, fakes []*fake, f func(t *testing.T, p *Pool)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := Config{Identity: "0123456789abcdef"}
		byAddr := map[string]*fake{}
		for i, fake := range fakes {
			e, err := transport.ParseEndpoint(fmt.Sprintf("192.0.2.%d", i+1))
			if err != nil {
				t.Fatal(err)
			}
			c.Endpoints = append(c.Endpoints, e)
			byAddr[e.String()] = fake
		}
		c.open = func(e transport.Endpoint) exchanger { return byAddr[e.String()] }
		p, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); p.Run(ctx) }()
		f(t, p)
		cancel()
		<-ended
		for i, fake := range fakes {
			if n := fake.current.Load(); n != 0 {
				t.Errorf("%d attempts at upstream %d outlived the pool", n, i+1)
			}
		}
		for _, s := range p.Stats().Upstreams {
			if s.InFlight != 0 {
				t.Errorf("in flight at the end: %+v", s)
			}
		}
	})
}

// ask asks once and returns how long it took.
func ask(t *testing.T, p *Pool) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); err != nil {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
	return time.Since(start)
}

func TestDeadFirstUpstream(t *testing.T) {
	for _, warm := range []int{0, 1, 50} {
		t.Run(fmt.Sprintf("after %d answers", warm), func(t *testing.T) {
			first, second := &fake{delay: after(20 * time.Millisecond)}, &fake{delay: after(20 * time.Millisecond)}
			scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
				for range warm {
					ask(t, p)
				}
				first.set(never)
				if took := ask(t, p); took >= 300*time.Millisecond {
					t.Errorf("the first client waited %v", took)
				}
				time.Sleep(300 * time.Millisecond) // a hedge may have answered before the silence says enough
				before, _ := first.counts()
				for range 100 {
					if took := ask(t, p); took != 20*time.Millisecond {
						t.Fatalf("a later client waited %v", took)
					}
				}
				if n, _ := first.counts(); n != before {
					t.Errorf("%d later clients asked the upstream that does not answer", n-before)
				}
				if p.Stats().Upstreams[0].Healthy || !p.Stats().Upstreams[1].Healthy {
					t.Errorf("health: %+v", p.Stats().Upstreams)
				}
			})
		})
	}
}

func TestFailoverUnderLoad(t *testing.T) {
	first, second := &fake{delay: after(20 * time.Millisecond)}, &fake{delay: after(20 * time.Millisecond)}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		for range 2000 {
			ask(t, p)
		}
		first.set(never)
		var clients sync.WaitGroup
		start := time.Now()
		for range 500 { // one every 2 ms
			clients.Go(func() {
				began := time.Since(start)
				if took := ask(t, p); took >= 300*time.Millisecond || began > 300*time.Millisecond && took > 20*time.Millisecond {
					t.Errorf("a client %v after the failure waited %v", began, took)
				}
			})
			time.Sleep(2 * time.Millisecond)
		}
		clients.Wait()
	})
}

func TestRecoveredUpstreamIsUsedAgain(t *testing.T) {
	first, second := &fake{delay: after(never)}, &fake{delay: after(20 * time.Millisecond)}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		ask(t, p)
		time.Sleep(10 * time.Minute)
		if _, probed := first.counts(); probed < 10 || probed > 80 {
			t.Errorf("%d probes in ten minutes", probed)
		}
		first.set(10 * time.Millisecond)
		time.Sleep(2 * maxBackoff)
		before, _ := first.counts()
		if took := ask(t, p); took != 10*time.Millisecond {
			t.Errorf("after the recovery a client waited %v", took)
		}
		if n, _ := first.counts(); n != before+1 {
			t.Error("the first upstream is not used again")
		}
	})
}

func TestOneLostPacketDoesNotTakeUpstreamDown(t *testing.T) {
	first, second := &fake{delay: after(20 * time.Millisecond)}, &fake{delay: after(20 * time.Millisecond)}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		for range 20 {
			ask(t, p)
		}
		first.set(never)
		ask(t, p)
		first.set(20 * time.Millisecond)
		time.Sleep(500 * time.Millisecond)
		if !p.Stats().Upstreams[0].Healthy {
			t.Error("the first upstream is still not in use")
		}
	})
}

func TestSlowNameDoesNotTakeUpstreamDown(t *testing.T) {
	// Names that take long everywhere, among others that do not.
	slow := atomic.Bool{}
	delay := func() time.Duration {
		if slow.CompareAndSwap(true, false) {
			return 1500 * time.Millisecond
		}
		return 20 * time.Millisecond
	}
	only := &fake{delay: delay}
	scene(t, []*fake{only}, func(t *testing.T, p *Pool) {
		for range 200 {
			ask(t, p)
		}
		var clients sync.WaitGroup
		for range 100 {
			clients.Go(func() { ask(t, p) })
			time.Sleep(5 * time.Millisecond)
			slow.Store(rand.N(10) == 0)
			if !p.Stats().Upstreams[0].Healthy {
				t.Fatal("a slow name made the upstream unhealthy")
			}
		}
		clients.Wait()
	})
}

func TestExchangeFailsWhenAllUpstreamsAreDown(t *testing.T) {
	fakes := []*fake{{delay: after(20 * time.Millisecond)}, {delay: after(20 * time.Millisecond)}, {delay: after(20 * time.Millisecond)}}
	scene(t, fakes, func(t *testing.T, p *Pool) {
		ask(t, p)
		for _, f := range fakes {
			f.set(never)
		}
		for range 3 {
			start := time.Now()
			_, err := exchangeWith(p, t.Context(), question(t, "www.example.org"))
			if !errors.Is(err, ErrUnreachable) || time.Since(start) != defaultTimeout {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		}
		for i, f := range fakes {
			if n, _ := f.counts(); n < 2 {
				t.Errorf("upstream %d was asked %d times", i+1, n)
			}
		}
		if s := p.Stats(); s.Upstreams[0].Failures[transport.Timeout] == 0 || s.Unanswered != 3 {
			t.Errorf("stats %+v, want timeouts of the first upstream and 3 unanswered questions", s)
		}
		fakes[2].set(10 * time.Millisecond)
		if took := ask(t, p); took >= time.Second {
			t.Errorf("after one upstream recovered, a client waited %v", took)
		}
	})
}

func TestHedging(t *testing.T) {
	for name, fakes := range map[string][]*fake{
		"hedged to the next upstream": {{}, {delay: after(5 * time.Millisecond)}},
		"hedged to the only upstream": {{}},
	} {
		t.Run(name, func(t *testing.T) {
			first := fakes[0]
			n := 0
			first.delay = func() time.Duration { // every 40th answer is slow
				if n++; n%40 == 0 {
					return 200 * time.Millisecond
				}
				return 20 * time.Millisecond
			}
			scene(t, fakes, func(t *testing.T, p *Pool) {
				for range 1000 {
					ask(t, p)
				}
				var worst time.Duration
				for range 400 {
					worst = max(worst, ask(t, p))
				}
				if worst >= 100*time.Millisecond {
					t.Errorf("the slowest answer took %v", worst)
				}
				hedges := uint64(0)
				for _, s := range p.Stats().Upstreams {
					hedges += s.Hedges
				}
				if hedges < 20 || hedges > 240 {
					t.Errorf("%d hedges in 1400 queries", hedges)
				}
			})
		})
	}
}

func TestRepeatedQuestionsAreBounded(t *testing.T) {
	// Whatever happens, no more than 10 % past the first 100.
	slow := func() time.Duration { return rand.N(400 * time.Millisecond) }
	for name, fakes := range map[string][]*fake{
		"random delays": {{delay: slow}, {delay: slow}},
		"all dead":      {{delay: after(never)}, {delay: after(never)}},
		"all refuse":    {{rcode: wire.Refused, delay: after(time.Millisecond)}, {rcode: wire.Refused, delay: after(time.Millisecond)}},
		"unreachable":   {{err: syscall.ECONNREFUSED, delay: after(0)}, {err: syscall.ECONNREFUSED, delay: after(0)}},
	} {
		t.Run(name, func(t *testing.T) {
			scene(t, fakes, func(t *testing.T, p *Pool) {
				const queries = 3000
				var clients sync.WaitGroup
				for range queries {
					clients.Go(func() { exchangeWith(p, t.Context(), question(t, "www.example.org")) })
					time.Sleep(3 * time.Millisecond)
				}
				clients.Wait()
				asked := 0
				for _, f := range fakes {
					n, _ := f.counts()
					asked += n
				}
				const most = queries + 2*maxTries*freeQueries + (queries-freeQueries)/10
				if asked < queries || asked > most {
					t.Errorf("%d questions were sent for %d asked", asked, queries)
				}
				// Upstreams that only refuse go down and get no retries, so that none is denied.
				if p.Stats().Denied == 0 && fakes[0].rcode == 0 {
					t.Error("no second question was denied")
				}
			})
		})
	}
}

func TestRepeatedErrorsTakeUpstreamDown(t *testing.T) {
	first, second := &fake{rcode: wire.Refused, delay: after(time.Millisecond)}, &fake{delay: after(20 * time.Millisecond)}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		for range 2 * maxStrikes {
			ask(t, p)
		}
		if n, _ := first.counts(); n != maxStrikes {
			t.Errorf("the upstream that refuses was asked %d times, want %d", n, maxStrikes)
		}
	})
}

func TestErrorIsReturnedWithoutWaitingForDeadUpstream(t *testing.T) {
	first, second := &fake{rcode: wire.ServFail, delay: after(time.Millisecond)}, &fake{delay: after(never)}
	scene(t, []*fake{first, second}, func(t *testing.T, p *Pool) {
		if took := ask(t, p); took > 2*time.Second {
			t.Errorf("SERVFAIL came after %v", took)
		}
		if took := ask(t, p); took != time.Millisecond {
			t.Errorf("with the second known to be down, SERVFAIL came after %v", took)
		}
	})
}

func TestTooManyQuestionsReturnErrBusy(t *testing.T) {
	scene(t, []*fake{{delay: after(time.Second)}}, func(t *testing.T, p *Pool) {
		var clients sync.WaitGroup
		for range MaxInFlight {
			clients.Go(func() { ask(t, p) })
		}
		time.Sleep(time.Millisecond)
		if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); !errors.Is(err, ErrBusy) {
			t.Errorf("error %v, want ErrBusy", err)
		}
		clients.Wait()
		ask(t, p)
		if s := p.Stats(); s.Shed != 1 || s.InFlight != 0 {
			t.Errorf("stats %+v, want one shed question and none in flight", s)
		}
	})
}

func TestContextDeadlineEndsExchange(t *testing.T) {
	scene(t, []*fake{{delay: after(never)}}, func(t *testing.T, p *Pool) {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := exchangeWith(p, ctx, question(t, "www.example.org"))
		if !errors.Is(err, ErrUnreachable) || time.Since(start) != 700*time.Millisecond {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no upstream":        {},
		"too many upstreams": {Endpoints: make([]transport.Endpoint, maxEndpoints+1)},
		"no address":         {Endpoints: make([]transport.Endpoint, 1)},
		"negative timeout":   {Endpoints: make([]transport.Endpoint, 1), Timeout: -1},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestExchangeRefusesMalformedNames(t *testing.T) {
	p := newPool(t, nil, "192.0.2.1")
	for _, name := range [][]byte{nil, {3, 'a'}, {0, 0}, {0xc0, 12}} {
		if _, err := exchangeWith(p, t.Context(), Question{Name: name, Type: 1, Class: 1}); !errors.Is(err, wire.ErrName) {
			t.Errorf("Exchange for the name %q: error %v, want ErrName", name, err)
		}
	}
}
