package resolver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
	"rempart/resolver/cache"
	"rempart/resolver/upstream"
	"rempart/resolver/upstream/transport"
)

// quickUpstream answers queries over UDP in one goroutine, so that thousands of questions per second do not slow the test down.
type quickUpstream struct {
	addr netip.AddrPort
	conn *net.UDPConn
	// answerAfter returns the time after which a name is answered; a negative time means never. It is called in one goroutine.
	answerAfter func(name string) time.Duration
	queries     atomic.Int64
}

func newQuickUpstream(t testing.TB, answerAfter func(name string) time.Duration) *quickUpstream {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadBuffer(4 << 20) // the system may allow less
	u := &quickUpstream{addr: conn.LocalAddr().(*net.UDPAddr).AddrPort(), conn: conn, answerAfter: answerAfter}
	done := make(chan struct{})
	go func() {
		defer close(done)
		u.run()
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return u
}

func (u *quickUpstream) run() {
	buf := make([]byte, 2048)
	for {
		n, from, err := u.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		u.queries.Add(1)
		query := buf[:n]
		end := wire.HeaderLen + wire.NameLen(query[wire.HeaderLen:])
		after := u.answerAfter(strings.ToLower(wire.Text(query[wire.HeaderLen:end])))
		if after < 0 {
			continue
		}
		answer := slices.Concat(query[:end+4], []byte("\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04\xc0\x00\x02\x01"), query[end+4:])
		answer[2] |= 0x80
		binary.BigEndian.PutUint16(answer[6:], 1)
		send := func() { _, _ = u.conn.WriteToUDPAddrPort(answer, from) }
		if after == 0 {
			send()
			continue
		}
		time.AfterFunc(after, send)
	}
}

// start returns a pool that asks the upstream, and runs until the test ends.
func (u *quickUpstream) start(t testing.TB) *upstream.Pool {
	t.Helper()
	pool, err := upstream.New(upstream.Config{Endpoints: []transport.Endpoint{{Addr: u.addr}}})
	if err != nil {
		t.Fatal(err)
	}
	dnstest.Running(t, pool.Run)
	return pool
}

// crowd is many clients of one resolver, each with an address of its own.
type crowd struct {
	b     *bench
	names []string
	all   []wire.Query
	asked []time.Time

	returned atomic.Int64
	longest  atomic.Int64 // time until an answer, in nanoseconds
}

// reply is the Returner of query number i of a crowd.
type reply struct {
	c     *crowd
	i     int
	times int
}

func (r *reply) Return(queries []*wire.Query) {
	r.times += len(queries)
	took := int64(time.Since(r.c.asked[r.i]))
	for old := r.c.longest.Load(); took > old && !r.c.longest.CompareAndSwap(old, took); old = r.c.longest.Load() {
	}
	r.c.returned.Add(1)
}

// newCrowd prepares one query for A of each name. clients is the number of clients, each in another network.
func newCrowd(b *bench, names []string, clients int) *crowd {
	c := &crowd{b: b, names: names, all: make([]wire.Query, len(names)), asked: make([]time.Time, len(names))}
	for i, name := range names {
		packed, err := query(b.t, name, "A", "+edns").Pack()
		if err != nil {
			b.t.Fatal(err)
		}
		n := i % clients
		c.all[i] = wire.Query{
			Packet: packed, Out: make([]byte, 0, 512), Client: netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 1}), Return: &reply{c: c, i: i},
		}
	}
	return c
}

// send passes queries from to to to the resolver as a listener does. It is called by one goroutine at a time.
func (c *crowd) send(from, to int) {
	batch := c.all[from:to]
	now := time.Now()
	for i := range batch {
		c.asked[from+i] = now
	}
	c.b.w.Fast(batch)
	var slow []*wire.Query
	for i := range batch {
		if q := &batch[i]; q.Outcome == wire.Slow {
			slow = append(slow, q)
		} else {
			q.Return.Return([]*wire.Query{q})
		}
	}
	if left := c.b.w.Forward(context.Background(), slow); len(left) > 0 {
		c.b.t.Errorf("%d queries are left to Slow", len(left))
	}
}

// waitFor waits until n queries were returned.
func (c *crowd) waitFor(n int) {
	c.b.t.Helper()
	for end := time.Now().Add(time.Minute); c.returned.Load() < int64(n); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			c.b.t.Fatalf("%d of %d queries were answered", c.returned.Load(), n)
		}
	}
}

// crowdResult are the answers that a crowd got.
type crowdResult struct {
	good, failed, shed int // with an address; SERVFAIL with an extended error; those of failed that say "overloaded"
}

// result checks that each query whose name ok accepts was answered once, with an address or with SERVFAIL and an extended error, and counts the answers.
func (c *crowd) result(ok func(name string) bool) (r crowdResult) {
	c.b.t.Helper()
	for i := range c.all {
		if !ok(c.names[i]) {
			continue
		}
		q := &c.all[i]
		if n := q.Return.(*reply).times; n != 1 || q.Outcome != wire.Answered {
			c.b.t.Fatalf("%s was returned %d times with outcome %d, want one answer", c.names[i], n, q.Outcome)
		}
		m := new(dns.Msg)
		if err := m.Unpack(q.Out); err != nil {
			c.b.t.Fatal(err)
		}
		if m.Question[0].Name != c.names[i]+"." {
			c.b.t.Fatalf("%s got the answer to %s", c.names[i], m.Question[0].Name)
		}
		if m.Rcode == dns.RcodeSuccess && len(m.Answer) == 1 {
			r.good++
			continue
		}
		opt := m.IsEdns0()
		if m.Rcode != dns.RcodeServerFailure || opt == nil || len(opt.Option) == 0 {
			c.b.t.Fatalf("%s got neither an address nor SERVFAIL with an extended error:\n%v", c.names[i], m)
		}
		r.failed++
		if e, is := opt.Option[0].(*dns.EDNS0_EDE); is && e.ExtraText == "overloaded" {
			r.shed++
		}
	}
	return r
}

func everyName(string) bool { return true }

// numbered returns n names.
func numbered(n int, format string) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf(format, i))
	}
	return names
}

// TestManyQuestionsAtSilentUpstream asks 50,000 different questions at once, whose upstream never answers. Every client gets an answer, stale or SERVFAIL
// with an extended error, and blocked and cached names are answered meanwhile. At most 4,096 questions are on their way; the memory of the process grew by 70
// MB (113 MB with the race detector).
func TestManyQuestionsAtSilentUpstream(t *testing.T) {
	if !byForward {
		t.Skip("it calls Forward itself")
	}
	const questions, stale, clients, limit = 50_000, 500, 2000, 200 << 20
	silent := atomic.Bool{}
	u := newQuickUpstream(t, func(string) time.Duration {
		if silent.Load() {
			return -1
		}
		return 0
	})
	pool := u.start(t)
	fake := &fakeUpstreams{answer: usual}
	store, err := cache.New(64 << 20) // nothing is evicted
	if err != nil {
		t.Fatal(err)
	}
	b := newBench(t, func(c *Config) {
		c.Cache, c.Upstreams, c.Forward = store, pool, []Zone{{Name: dnstest.WireName(t, "cached.example"), Upstreams: fake}}
	}, "listed.example")
	earlier := newCrowd(b, numbered(stale, "stale%d.example"), clients)
	for i := 0; i < stale; i += 10 {
		earlier.send(i, i+10)
		earlier.waitFor(i + 10)
	}
	cached := numbered(chunk, "n%d.cached.example")
	for _, name := range cached {
		b.ask(query(t, name, "A"))
	}
	silent.Store(true)
	time.Sleep(1100 * time.Millisecond) // the TTL of the answers of the upstream ends
	known := newCrowd(b, append(numbered(chunk, "n%d.listed.example"), cached...), clients)
	c := newCrowd(b, append(numbered(stale, "stale%d.example"), numbered(questions-stale, "n%d.example")...), clients)

	before := usedMemory()
	var watching sync.WaitGroup
	over := make(chan struct{})
	most, looks, taken := before, 0, 0
	watching.Go(func() {
		for {
			batch := slices.Clone(known.all)
			b.w.Fast(batch)
			for i := range batch {
				if batch[i].Outcome != wire.Answered || batch[i].Rcode != wire.Success {
					t.Errorf("%s has outcome %d and rcode %d", known.names[i], batch[i].Outcome, batch[i].Rcode)
				}
			}
			looks++
			most, taken = max(most, usedMemory()), max(taken, b.r.flights.zones.Taken())
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	for i := 0; i < questions; i += chunk {
		c.send(i, min(i+chunk, questions))
	}
	c.waitFor(questions)
	close(over)
	watching.Wait()
	r := c.result(everyName)
	added := most - before
	t.Logf("%+v; at most %d questions on their way; the last answer after %v; blocked and cached names were asked %d times; %d MB in addition, %d packets",
		r, taken, time.Duration(c.longest.Load()), looks, added>>20, u.queries.Load())
	if r.good != stale {
		t.Errorf("%d queries got an address, want the %d with a stale answer", r.good, stale)
	}
	if taken > upstream.MaxInFlight {
		t.Errorf("%d questions were on their way", taken)
	}
	if d := time.Duration(c.longest.Load()); d > inTime {
		t.Errorf("the last answer took %v", d)
	}
	if added > limit {
		t.Errorf("the memory grew by %d MB, the limit is %d MB", added>>20, limit>>20)
	}
}

// usedMemory returns the memory that the process uses for its heap and its stacks, in bytes.
func usedMemory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestOtherNamesDuringFloodOfRandomNames asks for random names below one zone, which are answered after three seconds, and for as many other names, which the
// same upstream answers at once.
func TestOtherNamesDuringFloodOfRandomNames(t *testing.T) {
	if !byForward {
		t.Skip("it calls Forward itself")
	}
	for _, tt := range []struct {
		name, flooded, other string // the names, with a number
		clients              int
	}{
		{"many clients", "r%d.flooded.example", "n%d.example", 2000},
		{"one client", "r%d.flooded.example", "n%d.example", 1},
		{"other names below one zone", "r%d.flooded.example", "n%d.popular.example", 2000},
		{"zones of a registry with two labels", "r%d.flooded.co.uk", "n%d.co.uk", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const each, together, atOnce = 8000, 16, upstream.MaxInFlight + 512
			zone := tt.flooded[strings.IndexByte(tt.flooded, '.'):]
			flooded := func(name string) bool { return strings.HasSuffix(name, zone) }
			u := newQuickUpstream(t, func(name string) time.Duration {
				if flooded(name) {
					return 3 * time.Second
				}
				return 0
			})
			pool := u.start(t)
			b := newBench(t, func(c *Config) { c.Upstreams = pool })
			bad, good := newCrowd(b, numbered(atOnce+each, tt.flooded), tt.clients), newCrowd(b, numbered(each, tt.other), tt.clients)
			began := time.Now()
			bad.send(0, atOnce) // more than there are places, also where the machine is too slow to keep them taken with the loop below
			for i := 0; i < each; i += together {
				bad.send(atOnce+i, atOnce+i+together)
				good.send(i, i+together)
				good.waitFor(i + together)
			}
			sent := time.Since(began)
			bad.waitFor(atOnce + each)
			others, flood := good.result(everyName), bad.result(everyName)
			counted := b.r.slow.shed.Load()
			t.Logf("other names %+v, flooded zone %+v, %d counted as shed, within %v, longest other answer %v", others, flood, counted, sent, time.Duration(good.longest.Load()))
			if others.good < each*95/100 {
				t.Errorf("%d of %d other names were answered, want at least 95 %%", others.good, each)
			}
			if counted != uint64(flood.shed+others.shed) || flood.shed == 0 {
				t.Errorf("%d queries are counted as shed, want %d of the flooded zone and %d others", counted, flood.shed, others.shed)
			}
		})
	}
}
