package rpz

// maxHistory bounds what the differences of a zone hold, and how many they are.
const (
	maxHistory = 100_000 // records
	maxDeltas  = 10_000
)

// delta is what leads from one serial to the next.
type delta struct {
	from, to       uint32
	removed, added []record
	tooLong        bool // more than a history holds: removed and added are not all
}

func (d *delta) size() int { return len(d.removed) + len(d.added) }

// add takes in what leads from the records of a name to others of it.
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

// addMaps takes in what leads from stand-ins to others.
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

// addLists takes in what leads from records to others.
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

// history is a chain of deltas, the oldest first. It does not change.
type history struct {
	deltas []*delta
	size   int // records of all
}

// after is the history with one more delta, and without the oldest if it grew too long.
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

// since are the deltas that lead from a serial to the newest; false if it does not reach back.
func (h history) since(serial uint32) ([]*delta, bool) {
	for i, d := range h.deltas {
		if d.from == serial {
			return h.deltas[i:], true
		}
	}
	return nil, false
}
