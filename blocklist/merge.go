package blocklist

import (
	"bytes"
	"fmt"
	"slices"
)

// mergedInput is an input whose sources are renumbered for the merge.
type mergedInput struct {
	*Input
	claims  []sourcedClaim
	factOf  []uint32 // by claim: the fact of an entry with that claim alone, plus one; 0 while unknown
	renews  bool     // it gives the dates of first listings, and lists no name itself
	replace bool     // for a name in it, no later input applies
}

// merge walks inputs together, name by name.
type merge struct {
	hash     uint64
	key      []byte
	single   *head          // the only input that contains the name, with one claim; nil if there are several
	claim    uint32         // of single
	claims   []sourcedClaim // of all inputs about the name, if there are several
	since    []sourcedClaim // claims of the renewed input about it
	facts    []uint32       // scratch of compiler.factsOf
	keepGone bool           // include names about which nothing is claimed any more
	error    error

	heads  []*head // a heap, the lowest (hash, name, number) first
	copied []byte
}

// head is one input with its current listing.
type head struct {
	cursor
	in     *mergedInput
	number int
	hash   uint64
	key    []byte
	claim  uint32
}

func newMerge(inputs []mergedInput, keepGone bool) *merge {
	m := &merge{keepGone: keepGone}
	for i := range inputs {
		h := &head{cursor: inputs[i].walk(), in: &inputs[i], number: i}
		if m.advance(h) {
			m.heads = append(m.heads, h)
		}
	}
	for i := len(m.heads)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return m
}

func (m *merge) advance(h *head) (ok bool) {
	h.hash, h.key, h.claim, ok = h.next()
	if ok && (int(h.claim) >= len(h.in.claims) || !sound(h.key)) {
		ok, m.error = false, fmt.Errorf("%w: %w", ErrSnapshot, errDamaged)
	}
	if !ok && m.error == nil {
		m.error = h.err()
	}
	return ok
}

// next moves to the next listed name; false after the last, or at an error.
func (m *merge) next() bool {
	for m.error == nil && len(m.heads) > 0 {
		if m.gather() {
			return m.error == nil
		}
	}
	return false
}

// gather collects all claims about the lowest name; false if no source lists it.
func (m *merge) gather() bool {
	first := m.heads[0]
	m.hash = first.hash
	m.copied = append(m.copied[:0], first.key...)
	m.key = m.copied
	m.single, m.claims, m.since = nil, m.claims[:0], m.since[:0]
	listed, hidden, full := 0, 0, 16*maxClaims
	var one *head
	for len(m.heads) > 0 && m.heads[0].hash == m.hash && bytes.Equal(m.heads[0].key, m.key) {
		h := m.heads[0]
		switch {
		case h.in.renews:
			m.since = append(m.since, h.in.claims[h.claim])
		case hidden > 0 && h.number >= hidden:
		default:
			if h.in.replace {
				hidden = h.number + 1
			}
			if listed++; listed == 1 {
				one, m.claim = h, h.claim
			} else {
				if listed == 2 {
					m.claims = append(m.claims, one.in.claims[m.claim])
				}
				m.claims = append(m.claims, h.in.claims[h.claim])
			}
			if len(m.claims) >= full {
				m.claims = limitEntry(entryOf(m.claims))
				full = max(full, 2*len(m.claims))
			}
		}
		if !m.advance(h) {
			last := len(m.heads) - 1
			m.heads[0] = m.heads[last]
			m.heads = m.heads[:last]
		}
		m.sink(0)
	}
	if listed == 1 {
		m.single = one
		if !m.keepGone && one.in.claims[m.claim].Decision == gone {
			return false
		}
	}
	return listed > 0
}

// sound reports whether a key is a name without its root that consists of whole labels, or a prefix of addresses.
func sound(key []byte) bool {
	if !isName(key) {
		p, ok := prefixOf(key)
		return ok && p.IsValid()
	}
	at := 0
	for at < len(key) && key[at] != 0 && key[at] < 64 {
		at += 1 + int(key[at])
	}
	return at == len(key)
}

// entry returns the claims about the name, equal ones merged, with the dates of their first listings.
func (m *merge) entry(e *Exceptions) []sourcedClaim {
	if m.single != nil {
		m.claims = append(m.claims[:0], m.single.in.claims[m.claim])
	}
	kept := m.claims[:0]
	for _, c := range m.claims {
		if c.Decision == Block {
			if c.Scope = e.left(m.key, c.Scope); c.Scope == 0 {
				continue
			}
		}
		kept = append(kept, c)
	}
	entry := limitEntry(entryOf(kept))
	for i := range entry {
		if j := slices.IndexFunc(m.since, func(o sourcedClaim) bool { return o.claim == entry[i].claim }); j >= 0 {
			entry[i].since = earlier(entry[i].since, m.since[j].since)
		}
	}
	return entry
}

// sink restores the heap's order from i down.
func (m *merge) sink(i int) {
	for {
		low := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heads); child++ {
			if m.heads[child].before(m.heads[low]) {
				low = child
			}
		}
		if low == i {
			return
		}
		m.heads[i], m.heads[low] = m.heads[low], m.heads[i]
		i = low
	}
}

func (h *head) before(o *head) bool {
	if h.hash != o.hash {
		return h.hash < o.hash
	}
	if c := bytes.Compare(h.key, o.key); c != 0 {
		return c < 0
	}
	return h.number < o.number
}
