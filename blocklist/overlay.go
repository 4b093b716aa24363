package blocklist

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Change is one difference between two states of the set: a source lists something, or withdraws what it listed.
type Change struct {
	Source   Source
	Listing  Listing // its Since is ignored for a withdrawal; its Name is borrowed for the call only
	Withdraw bool
}

// With returns the view after changes, with the description info: the same snapshot, under an overlay that contains all claims about each name that changed
// since the snapshot. Its time and memory are proportional to the number of entries in the overlay.
func (v *View) With(info Info, changes []Change) (*View, error) {
	defer runtime.KeepAlive(v)
	ed := newEditing(v)
	for _, c := range changes {
		if err := ed.apply(c); err != nil {
			return nil, fmt.Errorf("changing the set: %w", err)
		}
	}
	var buf bytes.Buffer
	info.Base = v.base.checksum
	c := newCompiler(&buf, info)
	c.keepGone = true
	err := c.addInput(ed.input(), mergedInput{replace: true})
	if err == nil && v.over != nil {
		err = c.addInput(v.over.Input(), mergedInput{})
	}
	if err == nil {
		err = c.run(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("changing the set: %w", err)
	}
	return v.under(buf.Bytes())
}

// Overlay returns the bytes of the difference from the snapshot, for Under to use again; nil if there is none.
func (v *View) Overlay() []byte {
	if v.over == nil {
		return nil
	}
	return v.over.data
}

// Under returns the view with that overlay instead of its own; data is borrowed. Its error wraps ErrSnapshot, also if the overlay was made for another
// snapshot.
func (v *View) Under(data []byte) (*View, error) {
	n, err := v.under(data)
	if err == nil {
		err = n.over.Verify()
	}
	if err == nil && n.over.info.Base != v.base.checksum {
		err = fmt.Errorf("%w: the overlay is of another one", ErrSnapshot)
	}
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (v *View) under(data []byte) (*View, error) {
	over, err := Open(data)
	if err != nil {
		return nil, err
	}
	n := &View{base: v.base, over: over, version: over.info.Version, hold: v.hold}
	for _, src := range over.sourceList {
		n.twins = append(n.twins, slices.IndexFunc(v.base.sourceList, func(s Source) bool { return s.Name == src.Name }))
	}
	n.names = v.base.count + over.changed(v.base)
	return n, nil
}

// changed returns by how many names an overlay increases its base.
func (s *Snapshot) changed(base *Snapshot) (n int) {
	for at := 0; ; {
		name, id, next := record(s.names, at)
		if next == 0 {
			return n
		}
		f, _ := s.fact(id)
		_, _, again := record(s.names, next)
		if again > 0 && bytes.HasPrefix(s.names[next+1:], name) && int(s.names[next]) == len(name) {
			at = next // another record of this name follows: the last one applies
			continue
		}
		at = next
		switch was := len(base.lookup(name)) > 0; {
		case f.Decision == gone && was:
			n--
		case f.Decision != gone && !was:
			n++
		}
	}
}

// Compact writes the view as one snapshot, with the overlay merged in. The view can be used meanwhile.
func (v *View) Compact(w io.Writer, info Info) error {
	defer runtime.KeepAlive(v) // otherwise the bytes that its inputs use may be released
	c := newCompiler(w, info)
	if v.over != nil {
		if err := c.addInput(v.over.Input(), mergedInput{replace: true}); err != nil {
			return err
		}
	}
	return c.run([]*Input{v.base.Input()})
}

// overlayEditor is the state of one call of With.
type overlayEditor struct {
	view    *View
	sources []Source
	entries map[string][]sourcedClaim // by key, after the changes
}

func newEditing(v *View) *overlayEditor {
	ed := &overlayEditor{view: v, entries: map[string][]sourcedClaim{}}
	for _, src := range v.base.sourceList {
		ed.number(src)
	}
	return ed
}

// number returns the source's number in the overlay. Its weight and quorum are those of the compilation: another weight or quorum needs another compilation.
func (ed *overlayEditor) number(src Source) uint16 {
	i := slices.IndexFunc(ed.sources, func(s Source) bool { return s.Name == src.Name })
	if i < 0 {
		i = len(ed.sources)
		ed.sources = append(ed.sources, src)
	}
	return uint16(i)
}

func (ed *overlayEditor) apply(c Change) error {
	var key []byte
	if l := &c.Listing; l.Prefix.IsValid() {
		key, l.Scope = appendPrefix(nil, l.Prefix), Exact
	} else {
		key = l.Name[:len(l.Name)-1]
	}
	if len(ed.sources) > 1<<15 {
		return ErrFull
	}
	entry, ok := ed.entries[string(key)]
	if !ok {
		entry = ed.current(key)
	}
	l := c.Listing
	cl := claim{l.Decision, l.Scope, l.Category, l.Mark, l.Start, l.Expiry, l.ID}
	src := ed.number(c.Source)
	ed.sources[src].Fetched = c.Source.Fetched
	at := slices.IndexFunc(entry, func(s sourcedClaim) bool { return s.claim == cl })
	switch {
	case c.Withdraw && at >= 0:
		entry[at].sources = slices.DeleteFunc(entry[at].sources, func(s uint16) bool { return s == src })
		if len(entry[at].sources) == 0 {
			entry = slices.Delete(entry, at, at+1)
		}
	case !c.Withdraw && at < 0:
		entry = limitEntry(append(entry, sourcedClaim{cl, dayOf(l.Since), []uint16{src}}))
	case !c.Withdraw && !slices.Contains(entry[at].sources, src):
		entry[at].sources = append(entry[at].sources, src)
		slices.Sort(entry[at].sources)
		entry[at].since = earlier(entry[at].since, dayOf(l.Since))
	}
	ed.entries[string(key)] = entry
	return nil
}

// current returns the claims of the view about a key.
func (ed *overlayEditor) current(key []byte) (entry []sourcedClaim) {
	s, ids := ed.view.lookup(key)
	for _, id := range ids {
		f, ok := s.fact(id)
		if !ok || f.Decision == gone {
			continue
		}
		c := sourcedClaim{claim: f.claim, since: f.since}
		for _, src := range s.sources(f.set) {
			c.sources = append(c.sources, ed.number(s.sourceList[src]))
		}
		slices.Sort(c.sources)
		entry = append(entry, c)
	}
	return entry
}

// input returns the entries after the changes; an empty one hides the snapshot's.
func (ed *overlayEditor) input() *Input {
	in := &Input{sources: ed.sources}
	var records []keyed
	for key, entry := range ed.entries {
		if len(entry) == 0 {
			entry = []sourcedClaim{{claim: claim{Decision: gone}}}
		}
		hash := xxhash.Sum64String(key)
		for _, c := range entry {
			records = append(records, keyed{hash, []byte(key), uint32(len(in.claims))})
			in.claims = append(in.claims, c)
		}
	}
	slices.SortStableFunc(records, keyed.compare)
	in.size = len(records)
	in.walk = func() cursor { return &keyedCursor{records: records} }
	return in
}

// Diff emits the changes from one content of sources to the next, without changes of dates, until emit returns false. A source is identified by its name.
// Emitted changes are borrowed for the call. It reads both contents in pieces.
func Diff(before, after *Input, emit func(Change) bool) error {
	b, a := newGroups(before), newGroups(after)
	for {
		switch order := b.compare(a); {
		case !b.ok && !a.ok:
			return errors.Join(b.err(), a.err())
		case order == 0:
			if !emitChanges(b, a, emit) {
				return nil
			}
			b.next()
			a.next()
		case order < 0:
			if !b.emit(b.claims, true, emit) {
				return nil
			}
			b.next()
		default:
			if !a.emit(a.claims, false, emit) {
				return nil
			}
			a.next()
		}
	}
}

// Each emits every claim of every source, as a listing, until emit returns false. The claims about a name follow each other. Emitted changes are borrowed for
// the call. It reads the input in pieces.
func (in *Input) Each(emit func(Change) bool) error {
	nothing := &Input{walk: func() cursor { return &keyedCursor{} }}
	return Diff(nothing, in, emit)
}

// EachName calls name once for each name, and prefix for each claim about a prefix of addresses, in no particular order, until name returns an error, which it
// returns. Both arguments are borrowed for the call.
func (in *Input) EachName(name func([]byte) error, prefix func(Change)) error {
	var last []byte
	var failed error
	err := in.Each(func(c Change) bool {
		switch {
		case c.Listing.Prefix.IsValid():
			prefix(c)
		case !bytes.Equal(c.Listing.Name, last):
			last = append(last[:0], c.Listing.Name...)
			failed = name(last)
		}
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// emitChanges emits the differences of the claims about one name, source by source.
func emitChanges(b, a *groups, emit func(Change) bool) bool {
	if len(b.claims) == 1 && len(a.claims) == 1 && b.claims[0].claim == a.claims[0].claim && b.says(a, b.claims[0].sources, a.claims[0].sources) {
		return true
	}
	return b.emit(b.missing(a), true, emit) && a.emit(a.missing(b), false, emit)
}

// says reports whether sources, in g's numbering, are the others in the other's.
func (g *groups) says(o *groups, sources, others []uint16) bool {
	return len(sources) == len(others) && !slices.ContainsFunc(sources, func(s uint16) bool { return !g.among(o, s, others) })
}

func (g *groups) among(o *groups, source uint16, others []uint16) bool {
	name := g.in.sources[source].Name
	return slices.ContainsFunc(others, func(s uint16) bool { return o.in.sources[s].Name == name })
}

// missing returns the claims that the other does not make about the name, each with its sources that do not make it there.
func (g *groups) missing(o *groups) (out []sourcedClaim) {
	for _, c := range g.claims {
		var also []uint16 // sources that make the same claim there
		for _, oc := range o.claims {
			if oc.claim == c.claim {
				also = append(also, oc.sources...)
			}
		}
		only := sourcedClaim{claim: c.claim, since: c.since}
		for _, s := range c.sources {
			if !g.among(o, s, also) {
				only.sources = append(only.sources, s)
			}
		}
		if len(only.sources) > 0 {
			out = append(out, only)
		}
	}
	return out
}

// groups walks an input name by name.
type groups struct {
	in     *Input
	cursor cursor
	hash   uint64
	key    []byte
	claims []sourcedClaim
	ok     bool
	ahead  keyed
	more   bool

	damaged bool
}

func newGroups(in *Input) *groups {
	g := &groups{in: in, cursor: in.walk()}
	g.read()
	g.next()
	return g
}

func (g *groups) read() {
	g.ahead.hash, g.ahead.key, g.ahead.claim, g.more = g.cursor.next()
	if g.more && (int(g.ahead.claim) >= len(g.in.claims) || !sound(g.ahead.key)) {
		g.more, g.damaged = false, true
	}
}

func (g *groups) err() error {
	if g.damaged {
		return fmt.Errorf("%w: %w", ErrSnapshot, errDamaged)
	}
	return g.cursor.err()
}

func (g *groups) next() {
	if g.ok = g.more; !g.ok {
		return
	}
	g.hash, g.key, g.claims = g.ahead.hash, append(g.key[:0], g.ahead.key...), g.claims[:0]
	for g.more && g.ahead.hash == g.hash && bytes.Equal(g.ahead.key, g.key) {
		g.claims = append(g.claims, g.in.claims[g.ahead.claim])
		g.read()
	}
}

// compare orders two groups; one that has ended is last.
func (g *groups) compare(o *groups) int {
	switch {
	case !g.ok:
		return 1
	case !o.ok:
		return -1
	}
	return keyed{hash: g.hash, key: g.key}.compare(keyed{hash: o.hash, key: o.key})
}

func (g *groups) emit(claims []sourcedClaim, withdraw bool, emit func(Change) bool) bool {
	for _, c := range claims {
		l := Listing{
			Decision: c.Decision, Scope: c.Scope, Category: c.Category, Mark: c.Mark,
			Since: c.since.unix(), Start: c.Start, Expiry: c.Expiry, ID: c.ID,
		}
		if p, ok := prefixOf(g.key); ok {
			l.Prefix = p
		} else {
			l.Name = append(g.key[:len(g.key):len(g.key)], 0)
		}
		for _, src := range c.sources {
			if !emit(Change{g.in.sources[src], l, withdraw}) {
				return false
			}
		}
	}
	return true
}
