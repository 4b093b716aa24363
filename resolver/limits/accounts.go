package limits

import (
	"encoding/binary"
	"hash/maphash"
	"sync/atomic"
	"time"
)

const (
	ways = 8       // accounts of a set: one line of the processor's cache
	sets = 1 << 14 // 131,072 accounts in 1 MiB, however many networks ask

	// An account is one word: a tag of the network in the high bits, and in the low bits the time, in ticks, at which the network has its whole allowance again.
	timeBits = 44
	timeMask = 1<<timeBits - 1

	tick  = 16 * time.Nanosecond
	ticks = int64(time.Second / tick) // per second, and so the allowance: that of one second
)

// accounts holds the used allowance of each network that asked recently, in a bounded table.
//
// A network that needs an account takes the place of the network in its set that has used least. That one gets its whole allowance again when it asks next. So a
// flood from more networks than there are accounts weakens the limits, but it never makes another network lose an answer. Networks share an account only if their tags
// in one set are equal, one pair in a million.
//
// The time of an account is compared modulo 2^44 ticks, three days. An account that was last used a multiple of this time ago, to the second, seems to be used up;
// its network loses what it would lose if it had just asked.
type accounts struct {
	seed maphash.Seed // so that nobody can choose networks that share an account
	sets [][ways]atomic.Uint64
}

func newAccounts() accounts {
	return accounts{maphash.MakeSeed(), make([][ways]atomic.Uint64, sets)}
}

// charge is a payment from an account.
type charge struct {
	set  *[ways]atomic.Uint64
	tag  uint64 // in place
	cost int64  // in ticks
}

// charge prepares a payment.
func (a *accounts) charge(n network, k Kind, cost int64) charge {
	var key [18]byte
	binary.LittleEndian.PutUint64(key[:], n.first.hi)
	binary.LittleEndian.PutUint64(key[8:], n.first.lo)
	key[16], key[17] = byte(n.bits), byte(k)
	hash := maphash.Bytes(a.seed, key[:])
	return charge{set: &a.sets[hash%sets], tag: hash &^ timeMask, cost: cost}
}

// pay takes the cost from the allowance. If less is left, pay takes nothing and returns false.
func (c *charge) pay(now time.Duration) bool {
	ticksNow := uint64(now/tick) & timeMask
	for {
		way, word := c.find(ticksNow)
		used := c.cost
		if word&^timeMask == c.tag {
			used += usedAt(word, ticksNow)
		}
		if used > ticks {
			return false
		}
		if c.set[way].CompareAndSwap(word, c.tag|(ticksNow+uint64(used))&timeMask) {
			return true
		}
	}
}

// find returns the place of the account and the word that is there: of another network, the one that has used least, if there is no account yet.
func (c *charge) find(now uint64) (way int, word uint64) {
	for i := range c.set {
		if w := c.set[i].Load(); w&^timeMask == c.tag {
			return i, w
		}
	}
	least := 2*ticks + 1
	for i := range c.set {
		w := c.set[i].Load()
		u := usedAt(w, now)
		if u == 0 {
			return i, w
		}
		if u < least {
			way, word, least = i, w, u
		}
	}
	return way, word
}

// usedAt returns the ticks of an account's allowance that are used.
func usedAt(word, now uint64) int64 {
	used := int64((word - now) & timeMask)
	if used > 2*ticks { // not ticks: another worker's clock may be a little ahead
		return 0 // the time has passed
	}
	return used
}
