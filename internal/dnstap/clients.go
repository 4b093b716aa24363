package dnstap

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

// Clients is what is sent of clients' addresses.
type Clients uint8

const (
	Cut   Clients = iota // the network: IPv4 /24, IPv6 /48
	Keyed                // a pseudonym, an address in fd00::/8 that changes every day
	None                 // nothing
)

const (
	cutIPv4 = 24
	cutIPv6 = 48
	keyLife = 24 * time.Hour
)

// hider replaces the addresses of clients. It is safe for concurrent use.
type hider struct {
	clients Clients
	keys    *keys
}

// keys holds the key of pseudonyms, which lives in memory for a day.
type keys struct {
	mu    sync.Mutex
	key   [32]byte
	until time.Time
}

func newHider(c Clients) hider { return hider{c, &keys{}} }

// address returns the address that is sent for a client at the time now; ok is false if none is.
func (h hider) address(client netip.Addr, now time.Time) (address netip.Addr, ok bool) {
	switch {
	case !client.IsValid() || h.clients == None:
		return netip.Addr{}, false
	case h.clients == Keyed:
		key := h.keys.at(now)
		mac := hmac.New(sha256.New, key[:])
		mac.Write(client.AsSlice())
		var pseudonym [16]byte
		copy(pseudonym[:], mac.Sum(nil))
		pseudonym[0] = 0xfd // RFC 4193
		return netip.AddrFrom16(pseudonym), true
	}
	bits := cutIPv4
	if client.Is6() {
		bits = cutIPv6
	}
	network, err := client.Prefix(bits)
	return network.Addr(), err == nil
}

// at returns the key at the time now.
func (k *keys) at(now time.Time) [32]byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !now.Before(k.until) {
		_, _ = rand.Read(k.key[:]) // it never fails (crypto/rand)
		k.until = now.Add(keyLife)
	}
	return k.key
}
