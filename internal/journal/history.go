package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/journal/stream"
)

// FindSet returns the record that published the change set of an ID, the last one where an epoch began with it again; stream.ErrNone where none did. It reads
// the whole journal.
func (c *Control) FindSet(ctx context.Context, id string) (*Record, *Set, error) {
	var found *Record
	var of *Set
	err := c.Each(ctx, func(r *Record, body []byte) error {
		if s := setOf(r, body, id); s != nil {
			found, of = r, s
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("change set %.100q: %w", id, stream.ErrNone)
	}
	return found, of, err
}

// setOf is the change set of that ID, if it is the record's.
func setOf(r *Record, body []byte, id string) *Set {
	switch {
	case r.Snapshot != nil && r.Snapshot.Changes != nil:
		if s := r.Snapshot.Changes.Set; s.ID == id {
			return &s
		}
	case r.Kind == RecordChanges:
		if s, _, err := splitSet(body); err == nil && s.ID == id {
			return s
		}
	}
	return nil
}

// splitSet reads what a sealed change set says of itself, without its digest, and returns its changes undecoded.
func splitSet(body []byte) (*Set, []byte, error) {
	_, payload, _ := bytes.Cut(body, []byte("\n\n")) // an empty line ends the signatures
	line, changes, _ := bytes.Cut(payload, []byte("\n"))
	set, err := ParseSet(line)
	return set, changes, err
}

// HistoryEntry is a change in the journal with the record and the change set that it belongs to.
type HistoryEntry struct {
	Record  *Record
	Set     *Set
	Change  Change
	Applied bool // false if a guard refused the change
}

// changesOf reads the changes of a record, from the object store where they are many. Where matters is not nil, octets it does not
// want hold none that matters.
func (c *Control) changesOf(ctx context.Context, r *Record, body []byte, matters func([]byte) bool) iter.Seq2[HistoryEntry, error] {
	return func(yield func(HistoryEntry, error) bool) {
		var set *Set
		var lines *bufio.Reader
		var refused []int
		switch {
		case r.Snapshot != nil && r.Snapshot.Changes != nil:
			o, err := c.Object(ctx, r.Snapshot.Changes.Object.SHA256+SetSuffix)
			if err != nil {
				yield(HistoryEntry{}, fmt.Errorf("change set %s: %w", r.Snapshot.Changes.Set.ID, err))
				return
			}
			defer o.Close()
			set, lines, refused = &r.Snapshot.Changes.Set, bufio.NewReaderSize(o, 256<<10), r.Snapshot.Changes.Refused
			if _, err := ReadLine(lines, MaxLine); err != nil { // the set's own
				yield(HistoryEntry{}, err)
				return
			}
		case r.Kind == RecordChanges && (matters == nil || matters(body)):
			s, changes, err := splitSet(body)
			if err != nil {
				yield(HistoryEntry{}, err)
				return
			}
			set, lines, refused = s, bufio.NewReaderSize(bytes.NewReader(changes), MaxLine+2), r.Refused
		default:
			return
		}
		for at := 0; ; at++ {
			line, err := ReadLine(lines, MaxLine)
			if err == io.EOF {
				return
			}
			counts := len(refused) == 0 || refused[0] != at
			if !counts {
				refused = refused[1:]
			}
			if err == nil && matters != nil && !matters(line) {
				continue
			}
			var ch Change
			if err == nil {
				ch, err = ParseChange(line)
			}
			if !yield(HistoryEntry{r, set, ch, counts}, err) || err != nil {
				return
			}
		}
	}
}

// History hands each change about a name, or about one above it that reaches it, to each, oldest first. It reads the whole journal.
func (c *Control) History(ctx context.Context, name string, each func(HistoryEntry) error) error {
	above := map[string]bool{name: true}
	var quoted [][]byte
	for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
		above[rest] = true
		quoted = append(quoted, fmt.Appendf(nil, "%q", rest))
	}
	matters := func(octets []byte) bool { // authors write JSON as they like: what is escaped is looked at
		return bytes.IndexByte(octets, '\\') >= 0 || slices.ContainsFunc(quoted, func(q []byte) bool { return bytes.Contains(octets, q) })
	}
	return c.Each(ctx, func(r *Record, body []byte) error {
		for entry, err := range c.changesOf(ctx, r, body, matters) {
			if err != nil {
				return err
			}
			ch := entry.Change
			if above[ch.Name] && (ch.Name == name || ch.Scope != blocklist.Exact.String()) {
				if err := each(entry); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Undoing is what leads back from a change set.
type Undoing struct {
	Changes iter.Seq[Change]
	Left    []string // names that later ones changed again: they stay; the first thousand
	Lefts   int
}

// touched is what is found out about a name of a change set.
type touched struct {
	before []Change // what operators said of it
	staged []Scoped // what they said for a share of the nodes only, so far
	own    []Change // what the change set to be undone says for a share only
	later  bool
}

const maxLeft = 1000

// Undo finds what leads back from the change set of an ID: what it did about a name is withdrawn, and what operators had said of it before is said again. It reads
// the whole journal, and holds the set's names in memory.
func (c *Control) Undo(ctx context.Context, id string) (*Undoing, error) {
	names := map[string]*touched{}
	var r *Record // the set's
	err := c.Each(ctx, func(o *Record, body []byte) error {
		if setOf(o, body, id) == nil {
			return nil
		}
		r, names = o, map[string]*touched{} // the last, where an epoch began with it again
		for entry, err := range c.changesOf(ctx, o, body, nil) {
			if err != nil {
				return err
			}
			if entry.Applied {
				names[entry.Change.Name] = &touched{}
			}
		}
		return nil
	})
	if err == nil && r == nil {
		err = fmt.Errorf("change set %.100q: %w", id, stream.ErrNone)
	}
	if err != nil {
		return nil, err
	}
	stages := map[string][]*touched{} // names that a change set touches whose stage was not seen to go on
	err = c.Each(ctx, func(o *Record, body []byte) error {
		own := o.Version == r.Version && o.Epoch == r.Epoch
		earlier := o.Epoch < r.Epoch || o.Epoch == r.Epoch && o.Version < r.Version
		if o.Kind == RecordAdvance {
			for _, t := range stages[o.Set] {
				t.advance(o.Set, earlier)
			}
			delete(stages, o.Set)
			if o.Set == id { // what was staged before it goes on no more
				for _, t := range names {
					for _, c := range t.own {
						t.replace(c)
					}
				}
			}
		}
		for entry, err := range c.changesOf(ctx, o, body, nil) {
			if err != nil {
				return err
			}
			t := names[entry.Change.Name]
			switch {
			case t == nil || !entry.Applied || entry.Change.Source != "":
			case !own && entry.Set.ID == id: // the same set, published before
			case earlier && entry.Set.Stage != nil:
				t.staged = append(t.staged, Scoped{Set: entry.Set.ID, Change: entry.Change})
				stages[entry.Set.ID] = append(stages[entry.Set.ID], t)
			case earlier:
				t.say(entry.Change)
			case !own:
				t.later = true
			case entry.Set.Stage == nil:
				t.replace(entry.Change)
			default:
				t.own = append(t.own, entry.Change)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return undoing(names), nil
}

// advance has what a staged change set says of the name count for all, as of now. After the one to be undone, that is a later word.
func (t *touched) advance(set string, earlier bool) {
	all := t.staged
	t.staged = nil
	for _, s := range all {
		switch {
		case s.Set != set:
			t.staged = append(t.staged, s)
		case earlier:
			t.say(s.Change) // over what was staged before it
		default:
			t.later = true
		}
	}
}

// replace takes away what is staged where it leaves nothing of that.
func (t *touched) replace(c Change) {
	if c.Do == Withdraw || c.Everywhere() {
		t.staged = slices.DeleteFunc(t.staged, func(s Scoped) bool { return overrides(c, s.Change) })
	}
}

// say replaces what was said of the name before: all of it there was, or what counted for the same nodes.
func (t *touched) say(c Change) {
	t.replace(c)
	t.before = slices.DeleteFunc(t.before, func(b Change) bool {
		return overrides(c, b) && (c.Do == Withdraw || c.Everywhere() || slices.Equal(b.Countries, c.Countries) && slices.Equal(b.Operators, c.Operators))
	})
	if c.Do != Withdraw {
		t.before = append(t.before, c)
	}
}

func undoing(names map[string]*touched) *Undoing {
	u := &Undoing{}
	for name, t := range names {
		if !t.later {
			continue
		}
		if u.Lefts++; len(u.Left) < maxLeft {
			u.Left = append(u.Left, name)
		}
		delete(names, name)
	}
	now := time.Now().Unix()
	u.Changes = func(yield func(Change) bool) {
		for name, t := range names {
			if !yield(Change{Do: Withdraw, Name: name}) {
				return
			}
			for _, b := range t.before {
				if (b.Expiry == 0 || b.Expiry > now) && !yield(b) {
					return
				}
			}
		}
	}
	return u
}
