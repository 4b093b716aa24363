package blocklist

import "net/netip"

// Continuable describes the blocks that people may pass after a warning ("continue"). The zero value describes none.
type Continuable struct {
	Categories Categories // blocks in these categories, except external orders (mark Censored)
	Orders     int64      // external orders, for this many seconds after they begin; 0: none
}

// IsZero reports whether c describes no block.
func (c Continuable) IsZero() bool { return c == Continuable{} }

// until returns the time in Unix seconds until which people may pass the block of f; 0: they may not. An order begins at its start, or, if it has none, on the day
// on which a source first listed the name. If neither is known, people may not pass it.
func (c *Continuable) until(f *fact) int64 {
	if f.Mark != Censored {
		if c.Categories&(1<<f.Category) != 0 {
			return Forever
		}
		return 0
	}
	begin := f.Start
	if begin == 0 {
		begin = f.since.unix()
	}
	if begin == 0 || c.Orders == 0 {
		return 0
	}
	return begin + c.Orders
}

// MatchContinued returns the verdict on a name for a client that continues after a warning: that of Match without the blocks that c describes. The verdict is
// still a block if another block reaches the name. If c is nil, MatchContinued returns the verdict of Match.
func (v *View) MatchContinued(name []byte, enforced Categories, c *Continuable, now int64) Verdict {
	return v.match(name, enforced, c, now)
}

// MatchAddrContinued is like MatchContinued, for an address in an answer: it returns the verdict of MatchAddr without the blocks that c describes.
func (v *View) MatchAddrContinued(addr netip.Addr, enforced Categories, c *Continuable, now int64) Verdict {
	return v.matchAddr(addr, enforced, c, now)
}

// mayContinue reports whether a client may pass the block of f now. If so, it limits Until of the verdict to the time until which the client may.
func (m *matcher) mayContinue(f *fact) bool {
	until := m.continued.until(f)
	if until <= m.now {
		return false
	}
	m.verdict.Until = min(m.verdict.Until, until)
	return true
}
