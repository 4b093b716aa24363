package limits

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"rempart/internal/wire"
)

// everyone returns a limit for all clients, followed by others.
func everyone(bytes, answers int64, others ...Limit) []Limit {
	return append([]Limit{{netip.MustParsePrefix("0.0.0.0/0"), bytes, answers}, {netip.MustParsePrefix("::/0"), bytes, answers}}, others...)
}

func prefix(text string, bytes, answers int64) Limit {
	return Limit{netip.MustParsePrefix(text), bytes, answers}
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// query returns an answered query of a client.
func query(t testing.TB, client string, size int) *wire.Query {
	t.Helper()
	m := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	m.SetEdns0(1232, false)
	packet, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{Packet: packet, Client: netip.MustParseAddr(client), Transport: wire.UDP}
	q.Parse(0)
	q.Fail(wire.Success)
	q.Out = append(q.Out, make([]byte, max(0, size-len(q.Out)))...)
	return q
}

// counted reports whether an answer is within the limit of answers.
func counted(l *Limiter, q *wire.Query, now time.Duration) bool {
	before := l.Stats()[Answers]
	batch := []wire.Query{*q}
	l.Count(batch, now)
	return l.Stats()[Answers] == before
}

// weighed reports whether an answer that is charged with that many bytes is within the limit of bytes.
func weighed(t *testing.T, l *Limiter, client string, bytes int64, now time.Duration) bool {
	q := query(t, client, 0)
	q.Out = append(q.Out, make([]byte, int(bytes)+paidFactor*(len(q.Packet)+ipHeaders)-ipHeaders-len(q.Out))...)
	before := l.Stats()[Bytes]
	l.Weigh(q, now)
	return l.Stats()[Bytes] == before
}

// TestBytes checks the arithmetic of the limit of bytes.
func TestBytes(t *testing.T) {
	// 198.51.100.0/28 has the same first address as the network that contains it.
	l := New(Config{Limits: everyone(1000, 0, prefix("192.0.2.8/29", 4000, 0), prefix("198.51.100.0/28", 4000, 0)), Action: Observe})
	for i, c := range []struct {
		client string
		bytes  int64
		at     float64
		want   bool
	}{
		{"192.0.2.1", 600, 0, true},
		{"192.0.2.200", 600, 0, false}, // the same network
		{"192.0.2.200", 400, 0, true},
		{"192.0.2.1", 100, 0, false},
		{"192.0.2.1", 500, 0.5, true},
		{"192.0.2.1", 100, 0.5, false},
		{"192.0.2.1", 1001, 9, false}, // the allowance never exceeds that of one second
		{"192.0.2.1", 1000, 9, true},
		{"192.0.3.1", 1000, 9, true},
		{"192.0.2.9", 4000, 9, true},
		{"192.0.2.15", 100, 9, false},
		{"192.0.2.15", 66, 9, true}, // three times its query: free,
		{"198.51.100.200", 1000, 9, true},
		{"198.51.100.1", 4000, 9, true}, // its allowance does not depend on its neighbours
		{"198.51.100.201", 100, 9, false},
		{"2001:db8::1", 1000, 9, true},
		{"2001:db8:0:ff::1", 100, 9, false},
		{"2001:db8:0:100::1", 1000, 9, true},
	} {
		if got := weighed(t, l, c.client, c.bytes, seconds(c.at)); got != c.want {
			t.Errorf("%d: %d bytes for %s at %v s: %v", i, c.bytes, c.client, c.at, got)
		}
	}
	if small := query(t, "192.0.2.1", 0); true {
		if l.Weigh(small, seconds(9)); l.Stats()[Bytes][Observe] == 0 || small.Outcome != wire.Answered {
			t.Error("the numbers of limited answers are missing, or a small answer was changed")
		}
	}
	if New(Config{Limits: everyone(0, 0)}) != nil {
		t.Error("a limiter was made although there is no limit")
	}
}

// TestAnswers checks the arithmetic of the limit of answers, with networks of other sizes than the defaults.
func TestAnswers(t *testing.T) {
	l := New(Config{Limits: everyone(0, 10, prefix("192.0.2.8/29", 0, 20), prefix("198.51.100.0/24", 0, 0)), IPv4Bits: 28, IPv6Bits: 64, Action: Observe})
	within := func(client string, asked int, at float64) (n int) {
		for range asked {
			if counted(l, query(t, client, 0), seconds(at)) {
				n++
			}
		}
		return n
	}
	for i, c := range []struct {
		client string
		at     float64
		want   int // of 40
	}{
		{"192.0.2.1", 0, 10},
		{"192.0.2.7", 0, 0},
		{"192.0.2.9", 0, 20}, // a limit of its own
		{"192.0.2.17", 0, 10},
		{"192.0.2.1", 0.5, 5},
		{"192.0.2.1", 100, 10},
		{"198.51.100.1", 0, 40}, // no limit
		{"2001:db8::1", 0, 10},
		{"2001:db8::ffff:1", 0, 0},
		{"2001:db8:0:1::1", 0, 10},
	} {
		if got := within(c.client, 40, c.at); got != c.want {
			t.Errorf("%d: %d answers for %s at %v s, want %d", i, got, c.client, c.at, c.want)
		}
	}
}

// TestActions checks what happens to an answer above a limit.
func TestActions(t *testing.T) {
	for _, tt := range []struct {
		action Action
		cookie wire.Cookie
		want   Action // Actions: nothing
	}{
		{Truncate, wire.NoCookie, Truncate},
		{Truncate, wire.ClientCookie, AskCookie},
		{Truncate, wire.WrongCookie, AskCookie},
		{Truncate, wire.ValidCookie, Actions},
		{Drop, wire.NoCookie, Drop},
		{Drop, wire.ClientCookie, Drop},
		{Drop, wire.ValidCookie, Actions},
		{Observe, wire.NoCookie, Observe},
		{Observe, wire.ClientCookie, Observe},
	} {
		for k, limited := range map[Kind][]Limit{Answers: everyone(0, 1), Bytes: everyone(1800, 0)} {
			l := New(Config{Limits: limited, Action: tt.action})
			var q *wire.Query
			for range 2 {
				q = query(t, "192.0.2.1", 1200)
				q.Cookie = tt.cookie
				batch := []wire.Query{*q}
				l.Count(batch, 0)
				if *q = batch[0]; q.Outcome != wire.Dropped {
					l.Weigh(q, 0)
				}
			}
			var want Stats
			if tt.want < Actions {
				want[k][tt.want] = 1
			}
			if got := l.Stats(); *got != want {
				t.Errorf("%v, cookie %v, %v: numbers %v, want %v", tt.action, tt.cookie, k, *got, want)
			}
			var m dns.Msg
			err := m.Unpack(q.Out)
			switch tt.want {
			case Truncate:
				if err != nil || !m.Truncated || m.Rcode != dns.RcodeSuccess || len(q.Out) > len(q.Packet) {
					t.Errorf("%v, cookie %v, %v: %v, want a truncated answer", tt.action, tt.cookie, k, &m)
				}
			case AskCookie:
				if err != nil || m.Truncated || m.Rcode != dns.RcodeBadCookie {
					t.Errorf("%v, cookie %v, %v: %v, want BADCOOKIE", tt.action, tt.cookie, k, &m)
				}
			case Drop:
				if q.Outcome != wire.Dropped {
					t.Errorf("%v, cookie %v, %v: outcome %v, want the answer dropped", tt.action, tt.cookie, k, q.Outcome)
				}
			default:
				if len(q.Out) < 1200 {
					t.Errorf("%v, cookie %v, %v: the answer was changed", tt.action, tt.cookie, k)
				}
			}
		}
	}
}

// TestQueryOfTheSlowPathIsRefused checks that a query above the limit that has no answer yet is answered at once.
func TestQueryOfTheSlowPathIsRefused(t *testing.T) {
	l := New(Config{Limits: everyone(0, 1)})
	batch := []wire.Query{*query(t, "192.0.2.1", 0), *query(t, "192.0.2.2", 0), *query(t, "192.0.2.3", 0)}
	batch[0].Outcome, batch[1].Outcome = wire.Dropped, wire.Slow
	batch[2].Outcome, batch[2].Out = wire.Slow, nil
	l.Count(batch, 0)
	if batch[0].Outcome != wire.Dropped || batch[1].Outcome != wire.Slow || batch[2].Outcome != wire.Answered || wire.Flags(batch[2].Out)&wire.FlagTC == 0 {
		t.Errorf("outcomes %v, %v, %v; want dropped, slow and a truncated answer", batch[0].Outcome, batch[1].Outcome, batch[2].Outcome)
	}
}

// TestFlood checks that a flood from 65,536 networks, each far above its limit, makes no honest network lose an answer, and that the table does not grow.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long with the race detector")
	}
	const (
		attackers = 1 << 16
		honest    = 200
		rate      = 100
	)
	if size := unsafe.Sizeof(accounts{}.sets[0]) * sets; size > 1<<20 {
		t.Errorf("the table has %d bytes, want 1 MiB", size)
	}
	l := New(Config{Limits: everyone(0, rate), Action: Observe})
	r := rand.New(rand.NewPCG(1, 2))
	addr := func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n<<8|7)))
	}
	batch := []wire.Query{*query(t, "192.0.2.1", 0)}
	q := &batch[0]
	ask := func(n uint32, now time.Duration) bool {
		q.Client, q.Outcome = addr(n), wire.Answered
		before := l.limited[Answers][Observe].Load()
		l.Count(batch, now)
		return l.limited[Answers][Observe].Load() == before
	}
	passed, lost := 0, 0
	const rounds = 400 // of each attacker's queries, in two seconds
	for round := range rounds {
		now := seconds(2 * float64(round) / rounds)
		for i := range uint32(attackers) {
			if ask(i, now) {
				passed++
			}
		}
		if round%4 != 0 {
			continue
		}
		for range honest / 2 { // each honest network asks half as often as it may
			if n := attackers + uint32(r.IntN(honest)); !ask(n, now) {
				lost++
			}
		}
	}
	if lost > 0 {
		t.Errorf("honest networks lost %d answers", lost)
	}
	if most := attackers * rate * 3; passed > most+most/20 { // the allowance of the first second, and of two more
		t.Errorf("the flood got %d answers, want at most %d", passed, most)
	}
	t.Logf("the flood got %d answers to %d queries", passed, attackers*rounds)
}

// TestMoreNetworksThanAccounts checks that networks in excess of the table are served, and that a network which floods alone is still limited.
func TestMoreNetworksThanAccounts(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes long with the race detector")
	}
	l := New(Config{Limits: everyone(0, 1000), Action: Observe})
	batch := []wire.Query{*query(t, "2001:db8::1", 0)}
	for i := range uint64(4 * sets * ways) {
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], 0x2001_0db8<<32|i<<8)
		batch[0].Client = netip.AddrFrom16(b)
		l.Count(batch, seconds(float64(i)/1e6))
	}
	if n := l.Stats()[Answers][Observe]; n > 0 {
		t.Errorf("%d answers to networks that asked once are above the limit", n)
	}
	passed := 0
	for range 5000 {
		if counted(l, query(t, "192.0.2.1", 0), seconds(1)) {
			passed++
		}
	}
	if passed != 1000 {
		t.Errorf("a flooding network got %d answers, want 1000", passed)
	}
}

// TestAllowance checks by random sequences that one network never gets more than its rate and the allowance of a second, and never less than a network that asks
// within its rate needs, across the end of the range of an account's time.
func TestAllowance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 1_000_000).Draw(t, "rate")
		start := time.Duration(rapid.Int64Range(0, 1<<45).Draw(t, "start")) * tick
		a := newAccounts()
		cost := (ticks + rate - 1) / rate
		n := network{addressOf(netip.MustParseAddr("192.0.2.0")), 120}
		now, paid := start, int64(0)
		for range rapid.IntRange(1, 300).Draw(t, "queries") {
			now += time.Duration(rapid.Int64Range(0, 2*int64(time.Second)/rate).Draw(t, "pause"))
			c := a.charge(n, Answers, cost)
			if c.pay(now) {
				paid++
			} else if float64(paid) < float64(rate)*0.98-1 {
				t.Fatalf("the answer after %d answers is refused, at %d answers per second", paid, rate)
			}
			if most := float64(rate)*(1+(now-start).Seconds()) + 1; float64(paid) > most {
				t.Fatalf("%d answers in %v, at %d answers per second", paid, now-start, rate)
			}
		}
	})
}

// TestRules checks by random prefixes that the rule of a client is that of its longest prefix.
func TestRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.Custom(func(t *rapid.T) netip.Addr {
			// Few distinct bits, so that prefixes contain each other.
			b := [16]byte{}
			for _, i := range []int{0, 1, 6, 7, 15} {
				b[i] = rapid.SampledFrom([]byte{0, 1, 0x80, 0xff}).Draw(t, "byte")
			}
			if rapid.Bool().Draw(t, "IPv4") {
				return netip.AddrFrom4([4]byte{b[0], b[1], b[6], b[15]})
			}
			return netip.AddrFrom16(b)
		})
		c := Config{Limits: everyone(1, 0), IPv4Bits: 24, IPv6Bits: 56}
		for i := range rapid.IntRange(0, 12).Draw(t, "prefixes") {
			a := addr.Draw(t, "prefix")
			c.Limits = append(c.Limits, Limit{netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked(), int64(i + 2), 0})
		}
		r := newRules(c)
		for range 20 {
			client := addr.Draw(t, "client")
			if client.Is4In6() {
				continue
			}
			longest, want, bits := -1, int64(0), map[bool]int{true: 24, false: 56}[client.Is4()]
			for _, l := range c.Limits {
				if l.Clients.Contains(client) && l.Clients.Bits() >= longest {
					longest, want = l.Clients.Bits(), l.Bytes
				}
			}
			p, _ := client.Prefix(max(bits, longest))
			first, length := prefixOf(p)
			if got, n := r.find(client); got.bytes != want || n != (network{first, length}) {
				t.Fatalf("%v: limit %d for %v, want %d for %v", client, got.bytes, n, want, p)
			}
		}
	})
}

// TestNothingIsAllocated checks that limits allocate no memory for a query.
func TestNothingIsAllocated(t *testing.T) {
	l := New(Config{Limits: everyone(1024, 10)})
	q := query(t, "192.0.2.1", 1200)
	batch := make([]wire.Query, 32)
	out := make([]byte, 0, 2048)
	if n := testing.AllocsPerRun(100, func() {
		for i := range batch {
			batch[i] = *q
			batch[i].Out = append(out, q.Out...)
		}
		now := l.Now()
		l.Count(batch, now)
		for i := range batch {
			l.Weigh(&batch[i], now)
		}
	}); n != 0 {
		t.Errorf("%v allocations per batch, want none", n)
	}
}

func TestNilLimiter(t *testing.T) {
	var l *Limiter
	q := query(t, "192.0.2.1", 1200)
	l.Count([]wire.Query{*q}, l.Now())
	l.Weigh(q, 0)
	if l.Stats() != nil || len(q.Out) != 1200 {
		t.Error("no limiter limits an answer")
	}
}
