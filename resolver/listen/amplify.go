package listen

import (
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"rempart/internal/wire"
)

const (
	// freeFactor is how many times larger than its query a UDP answer may be before it is charged, including IP and UDP headers. Source addresses can be
	// forged; RFC 9000 section 8.1 sets the same bound for QUIC.
	freeFactor   = 3
	ipHeaders    = 20 + 8
	limitBuckets = 1 << 16 // 512 KiB, however many networks ask
	limitBurst   = time.Second
	netIPv4      = 24 // bits of a client's network
	netIPv6      = 56
)

// AnswerLimit limits the UDP answers that one client network may receive, if they are much larger than their queries.
type AnswerLimit struct {
	Clients netip.Prefix // the clients that the limit applies to; of several limits, the one with the longest prefix applies, of equal prefixes the last
	Bytes   int64        // per second, and at most this many at once. 0: no limit
}

// amplification limits how many bytes an attacker who forges source addresses can make this server send to other people. For each client network (IPv4 /24,
// IPv6 /56) it limits the bytes by which UDP answers exceed freeFactor times their queries. The methods may be called concurrently.
type amplification struct {
	limits    []AnswerLimit
	seed      maphash.Seed // so that nobody can choose networks that share a bucket
	began     time.Time
	buckets   []atomic.Int64 // the time, since began, at which a network has its whole allowance again
	truncated atomic.Uint64
}

// newAmplification returns the limiter of a server, or nil if nothing is limited.
func newAmplification(limits []AnswerLimit) *amplification {
	if !slices.ContainsFunc(limits, func(l AnswerLimit) bool { return l.Bytes > 0 }) {
		return nil
	}
	return &amplification{limits: limits, seed: maphash.MakeSeed(), began: time.Now(), buckets: make([]atomic.Int64, limitBuckets)}
}

// enforce truncates the answer to q if the client's network has used up its allowance. A client whose address is not forged asks again over TCP.
func (a *amplification) enforce(q *wire.Query) {
	over := len(q.Out) + ipHeaders - freeFactor*(len(q.Packet)+ipHeaders)
	if over <= 0 || a == nil || a.charge(q.Client, int64(over), time.Since(a.began)) {
		return
	}
	q.Shorten()
	a.truncated.Add(1)
}

// charge takes bytes from the allowance of the client's network. If fewer bytes are left, charge takes none and returns false.
func (a *amplification) charge(client netip.Addr, bytes int64, now time.Duration) bool {
	limit, bits := a.limit(client)
	if limit == 0 {
		return true
	}
	cost := int64(time.Second) * bytes / limit
	bucket := a.bucket(client, bits)
	for {
		paid := bucket.Load()
		next := max(paid, int64(now)) + cost
		if next > int64(now+limitBurst) {
			return false
		}
		if bucket.CompareAndSwap(paid, next) {
			return true
		}
	}
}

// limit returns the limit that applies to client, and the prefix length of the network that shares the limit.
func (a *amplification) limit(client netip.Addr) (bytes int64, bits int) {
	bits = netIPv4
	if client.Is6() {
		bits = netIPv6
	}
	longest := -1
	for _, l := range a.limits {
		if l.Clients.Bits() >= longest && l.Clients.Contains(client) {
			longest, bytes = l.Clients.Bits(), l.Bytes
		}
	}
	return bytes, max(bits, longest)
}

// bucket returns the bucket of client's network. Networks that begin at one address and differ in length have buckets of their own: a prefix with a limit
// of its own is often a part of a network that has another limit.
func (a *amplification) bucket(client netip.Addr, bits int) *atomic.Int64 {
	network, _ := client.Prefix(bits)
	var key [17]byte
	addr := network.Addr().As16()
	key[copy(key[:], addr[:])] = byte(bits)
	return &a.buckets[maphash.Bytes(a.seed, key[:])%limitBuckets]
}

// localAddr returns the address and port that conn is bound to.
func localAddr(conn *net.UDPConn) netip.AddrPort {
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}
