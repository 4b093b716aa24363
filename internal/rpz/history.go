package rpz

// maxHistory bounds the records in the differences of a zone, and maxDeltas their number.
const (
	maxHistory = 100_000 // records
	maxDeltas  = 10_000
)

// delta is the difference from one serial to the next.
type delta struct {
	from, to       uint32
	removed, added []record
	tooLong        bool // more records than a history may hold: removed and added are incomplete
}

func (d *delta) size() int { return len(d.removed) + len(d.added) }

// add adds the difference between two records of a name.
func (d *delta) add(name []byte, from, to records) {
	if from == to || d.tooLong {
		return
	}
	if from.own == to.own {
		from.own, to.own = none, none
	}
	if from.below == to.below {
		from.below, to.below = none, none
	}
	from.each(name, func(r record) { d.removed = append(d.removed, r) })
	to.each(name, func(r record) { d.added = append(d.added, r) })
	d.check()
}

func (d *delta) check() {
	if d.size() > maxHistory {
		d.tooLong, d.removed, d.added = true, nil, nil
	}
}

// addMaps adds the difference between two sets of stand-ins.
func (d *delta) addMaps(from, to map[string]records) {
	for name, r := range from {
		d.add([]byte(name), r, to[name])
	}
	for name, r := range to {
		if _, ok := from[name]; !ok {
			d.add([]byte(name), records{}, r)
		}
	}
}

// addLists adds the difference between two lists of records.
func (d *delta) addLists(from, to []record) {
	if d.tooLong {
		return
	}
	have := make(map[record]struct{}, len(to))
	for _, r := range to {
		have[r] = struct{}{}
	}
	for _, r := range from {
		if _, ok := have[r]; ok {
			delete(have, r)
		} else {
			d.removed = append(d.removed, r)
		}
	}
	for _, r := range to {
		if _, ok := have[r]; ok {
			d.added = append(d.added, r)
		}
	}
	d.check()
}

// history is a chain of deltas, the oldest first. It is immutable.
type history struct {
	deltas []*delta
	size   int // records of all deltas
}

// after returns the history with one more delta, and without the oldest ones if it grew too long.
func (h history) after(d *delta) history {
	if d.tooLong {
		return history{}
	}
	size := h.size + d.size()
	drop := 0
	for size > maxHistory || len(h.deltas)-drop >= maxDeltas {
		size -= h.deltas[drop].size()
		drop++
	}
	kept := h.deltas[drop:]
	return history{append(kept[:len(kept):len(kept)], d), size}
}

// since returns the deltas from a serial to the newest; false if the history does not reach back.
func (h history) since(serial uint32) ([]*delta, bool) {
	for i, d := range h.deltas {
		if d.from == serial {
			return h.deltas[i:], true
		}
	}
	return nil, false
}
