package blocklist

import (
	"math"
	"math/bits"
	"net/netip"
	"runtime"
	"slices"
	"sort"
)

// Action is the action of a verdict.
type Action uint8

const (
	Pass      Action = iota // no listing reaches the name
	Allowed                 // the operator's allow reaches it
	BlockedBy               // a block reaches it
	Actions                 // the number of actions
)

func (a Action) String() string { return [...]string{"pass", "allow", "block"}[a] }

// Forever is a Verdict's Until if time does not change the verdict.
const Forever int64 = math.MaxInt64

// Verdict is a view's verdict on a name: plain numbers, which have a meaning together with the view that returned them.
type Verdict struct {
	Action    Action
	Scope     Scope
	Category  Category
	Mark      Mark
	HoldsPass bool   // the deciding subtree contains a name that passes, because of an allow or of its source's exception
	over      bool   // the deciding record is in the overlay
	At        uint8  // byte of the judged name at which the deciding entry's name begins
	fact      uint32 // of the deciding record
	Entry     uint64 // identifies the deciding entry and its category, see View.Named; 0 of a pass
	Until     int64  // Unix seconds at which time alone may change it
}

// Match judges a canonical name at now (Unix seconds) under a policy that enforces those categories. It walks the name's suffixes from the longest: an allow
// that reaches the name wins at any length; among blocks the longest decides, and at equal length an exact one. It allocates nothing.
func (v *View) Match(name []byte, enforced Categories, now int64) Verdict {
	return v.match(name, enforced, nil, now)
}

func (v *View) match(name []byte, enforced Categories, continued *Continuable, now int64) Verdict {
	key := name[:len(name)-1]
	var p path
	p.read(key)
	verdict := Verdict{Until: Forever}
	var base, over uint64
	base = v.base.maybe(key, &p)
	if v.over != nil {
		over = v.over.maybe(key, &p)
	}
	if base|over != 0 {
		m := matcher{view: v, key: key, path: &p, enforced: enforced, continued: continued, now: now, verdict: verdict}
		m.suffixes(base, over)
		verdict = m.verdict
	}
	runtime.KeepAlive(v) // the snapshot's bytes may be released once nobody holds the view
	return verdict
}

// batch is the number of names that MatchBatch works on at a time: about as many memory reads as a core has under way.
const batch = 32

// MatchBatch stores Match of names[i] in verdicts[i], which has the same length. The reads of memory for different names overlap.
func (v *View) MatchBatch(names [][]byte, enforced Categories, now int64, verdicts []Verdict) {
	if len(names) == 1 {
		verdicts[0] = v.Match(names[0], enforced, now) // nothing would overlap
		return
	}
	for len(names) > 0 {
		n := min(len(names), batch)
		v.matchSome(names[:n], enforced, now, verdicts[:n])
		names, verdicts = names[n:], verdicts[n:]
	}
	runtime.KeepAlive(v)
}

// matchSome goes through the names once for each step of Match that reads memory: a loop that does little else has many reads under way.
func (v *View) matchSome(names [][]byte, enforced Categories, now int64, verdicts []Verdict) {
	var paths [batch]path
	var masks [batch]uint64
	var hashes [batch]uint64 // of the suffixes that may be listed
	for i, name := range names {
		paths[i].read(name[:len(name)-1])
	}
	near := uint64(0)
	for i := range names {
		near += v.base.filter.line(paths[i].hash)[0]
	}
	maybe := 0
	for i, name := range names {
		key, p := name[:len(name)-1], &paths[i]
		masks[i] = v.base.maybe(key, p)
		if n := bits.Len64(masks[i]) - 1; n >= 0 {
			hashes[maybe] = p.suffixHash(key, min(n, p.labels))
			maybe++
		}
	}
	near += v.base.nearNames(hashes[:maybe])
	runtime.KeepAlive(near)
	for i, name := range names {
		key := name[:len(name)-1]
		var over uint64
		if v.over != nil {
			over = v.over.maybe(key, &paths[i])
		}
		verdicts[i] = Verdict{Until: Forever}
		if masks[i]|over != 0 {
			m := matcher{view: v, key: key, path: &paths[i], enforced: enforced, now: now, verdict: verdicts[i]}
			m.suffixes(masks[i], over)
			verdicts[i] = m.verdict
		}
	}
}

// nearNames reads the records of hashes ahead. The sum has no meaning: it keeps the compiler from removing the reads.
func (s *Snapshot) nearNames(hashes []uint64) (near uint64) {
	var at [batch]uint32
	buckets := uint64(len(s.index) - 1)
	for i, h := range hashes {
		at[i] = s.index[scale(h, buckets)]
	}
	for i := range hashes {
		if p := uint64(at[i]) + lineBits/8; p < uint64(len(s.names)) {
			near += uint64(s.names[p]) + uint64(s.names[at[i]])
		}
	}
	return near
}

// bucket returns where the records of a hash are in names.
func (s *Snapshot) bucket(hash uint64) (at, end int) {
	b := scale(hash, uint64(len(s.index)-1))
	return int(s.index[b]), min(int(s.index[b+1]), len(s.names))
}

// matcher is the state of one call of Match.
type matcher struct {
	view      *View
	key       []byte
	path      *path
	enforced  Categories
	continued *Continuable // the blocks that take no part; nil: none
	now       int64
	verdict   Verdict
	excepted  [16]exceptedSource // distinct sources whose own exceptions reach the name; further ones are ignored
	excepts   int
}

// exceptedSource is a source, by its number in the snapshot or the overlay.
type exceptedSource struct {
	source uint16
	over   bool
}

// suffixes judges the suffixes that may be listed, given as masks of numbers of labels, from the longest.
func (m *matcher) suffixes(base, over uint64) {
	all := (base | over) & (labelBit(m.path.labels)<<1 - 1)
	if all&(1<<lastBit) != 0 {
		for n := m.path.labels; n >= lastBit; n-- {
			if m.judge(n, base&(1<<lastBit) != 0, over&(1<<lastBit) != 0) {
				return
			}
		}
		all &^= 1 << lastBit
	}
	for all != 0 {
		n := bits.Len64(all) - 1
		bit := uint64(1) << n
		if m.judge(n, base&bit != 0, over&bit != 0) {
			return
		}
		all &^= bit
	}
}

// judge weighs the records of the last n labels. If the overlay has records of a name, only they apply.
func (m *matcher) judge(n int, base, over bool) (final bool) {
	suffix := m.path.suffix(m.key, n)
	hash := m.path.suffixHash(m.key, n)
	if over {
		if found, final := m.records(m.view.over, true, suffix, hash, n); found {
			return final
		}
	}
	if base {
		_, final = m.records(m.view.base, false, suffix, hash, n)
	}
	return final
}

// records weighs the records of a name in one snapshot. It reports whether there are any, and whether the verdict is final.
func (m *matcher) records(s *Snapshot, over bool, suffix []byte, hash uint64, n int) (found, final bool) {
	need := Below
	if n == m.path.labels {
		need = Exact
	}
	p, end := s.bucket(hash)
	if next := p + lineBits/8; next < end { // both cache lines of most buckets are read at the same time, not one after the other
		runtime.KeepAlive(s.names[next])
	}
	if end-p > crowdedSize {
		p, end = s.narrow(p, end, hash, hash, suffix)
	}
	for p < end {
		name, id, next := record(s.names, p)
		if next == 0 {
			break
		}
		p = next
		if string(name) != string(suffix) {
			if found {
				break
			}
			continue
		}
		found = true
		if f, ok := s.fact(id); ok && f.Scope&need != 0 && m.weigh(s, over, &f) {
			holds := f.Decision == Block && m.view.holdsPass(hash)
			m.decide(&f, id, over, m.path.start(m.key, n), holds, hash)
			if f.Decision == Allow || !m.view.allows() {
				return true, true // no shorter name can change it
			}
		}
	}
	return found, false
}

// allows reports whether the view contains an allow.
func (v *View) allows() bool { return v.base.allows || v.over != nil && v.over.allows }

// weigh reports whether a fact that reaches the name decides the verdict, unless an allow follows.
func (m *matcher) weigh(s *Snapshot, over bool, f *fact) bool {
	if f.muted || f.Decision == gone || !m.inForce(f) {
		return false
	}
	switch f.Decision {
	case Allow:
		return true
	case Except:
		m.except(s.sources(f.set), over)
		return false
	}
	return m.verdict.Action == Pass && m.enforced&(1<<f.Category) != 0 && !m.cancelled(s.sources(f.set), over) &&
		(m.continued == nil || !m.mayContinue(f))
}

func (m *matcher) decide(f *fact, id uint32, over bool, at int, holds bool, hash uint64) {
	a := BlockedBy
	if f.Decision == Allow {
		a = Allowed
	}
	m.verdict = Verdict{a, f.Scope, f.Category, f.Mark, holds, over, uint8(at), id, entryID(hash, f.Category), m.verdict.Until}
}

// inForce reports whether a fact applies now, and records when that changes.
func (m *matcher) inForce(f *fact) bool {
	if f.Start > m.now {
		m.verdict.Until = min(m.verdict.Until, f.Start)
		return false
	}
	if f.Expiry == 0 {
		return true
	}
	if f.Expiry <= m.now {
		return false
	}
	m.verdict.Until = min(m.verdict.Until, f.Expiry)
	return true
}

func (m *matcher) except(sources []uint16, over bool) {
	for _, s := range sources {
		if m.excepts < len(m.excepted) && !m.hasExcept(s, over) {
			m.excepted[m.excepts] = exceptedSource{s, over}
			m.excepts++
		}
	}
}

// hasExcept reports whether a source has an exception of its own for the name.
func (m *matcher) hasExcept(source uint16, over bool) bool {
	for _, e := range m.excepted[:m.excepts] {
		if e.over == over && e.source == source || e.over != over && m.view.sameSource(source, over, e.source) {
			return true
		}
	}
	return false
}

// cancelled reports whether every source of a block has an exception of its own for the name.
func (m *matcher) cancelled(sources []uint16, over bool) bool {
	if m.excepts == 0 {
		return false
	}
	for _, s := range sources {
		if !m.hasExcept(s, over) {
			return false
		}
	}
	return true
}

// MatchAddr judges an address in an answer, as Match judges a name: prefixes from the longest. The zone of the address is ignored.
func (v *View) MatchAddr(addr netip.Addr, enforced Categories, now int64) Verdict {
	return v.matchAddr(addr, enforced, nil, now)
}

func (v *View) matchAddr(addr netip.Addr, enforced Categories, continued *Continuable, now int64) Verdict {
	addr = addr.Unmap().WithZone("")
	m := matcher{view: v, enforced: enforced, continued: continued, now: now, verdict: Verdict{Until: Forever}}
	for bits := addr.BitLen(); bits >= 0; bits-- {
		p, err := addr.Prefix(bits)
		if err != nil {
			break
		}
		over := v.over != nil && v.over.hasLength(p) && v.over.holds(p)
		if over && m.prefix(v.over, true, p) || !over && v.base.hasLength(p) && m.prefix(v.base, false, p) {
			break
		}
	}
	runtime.KeepAlive(v)
	return m.verdict
}

// prefix weighs the records of one prefix. It reports whether the verdict is final.
func (m *matcher) prefix(s *Snapshot, over bool, p netip.Prefix) (final bool) {
	for i := s.search(p); i < len(s.prefixData)/prefixLen; i++ {
		q, id := s.prefix(i)
		if q != p {
			break
		}
		if f, ok := s.fact(id); ok && m.weigh(s, over, &f) {
			m.decide(&f, id, over, 0, true, prefixHash(p))
			if f.Decision == Allow || !m.view.allows() {
				return true
			}
		}
	}
	return false
}

// hasLength reports whether there is a prefix of p's family and length.
func (t *tables) hasLength(p netip.Prefix) bool {
	for _, length := range t.bits {
		if length.Bits() == p.Bits() && length.Addr().Is4() == p.Addr().Is4() {
			return true
		}
	}
	return false
}

// HoldsPrefixes reports whether MatchAddr can return anything but a pass.
func (v *View) HoldsPrefixes() bool {
	return len(v.base.bits) > 0 || v.over != nil && len(v.over.bits) > 0
}

// search returns the number of the first record that is not before p.
func (t *tables) search(p netip.Prefix) int {
	key := appendPrefix(make([]byte, 0, prefixKeyLen), p)
	return sort.Search(len(t.prefixData)/prefixLen, func(i int) bool {
		return slices.Compare(t.prefixData[i*prefixLen:][:prefixKeyLen-1], key[1:]) >= 0
	})
}

func (t *tables) holds(p netip.Prefix) bool {
	i := t.search(p)
	if i == len(t.prefixData)/prefixLen {
		return false
	}
	q, _ := t.prefix(i)
	return q == p
}
