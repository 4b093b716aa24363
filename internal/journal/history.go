package journal

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	"rempart/internal/journal/stream"
)

// FindSet is the record that published the change set of an ID; stream.ErrNone where none did. It reads the whole journal.
func (c *Control) FindSet(ctx context.Context, id string) (*Record, *Set, error) {
	var found *Record
	var of *Set
	err := c.Each(ctx, func(r *Record, body []byte) error {
		if found == nil {
			if s := setOf(r, body, id); s != nil {
				found, of = r, s
			}
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
	case r.Kind == RecordChanges && bytes.Contains(body, []byte(id)):
		if sealed, err := Unseal(KindChanges, body); err == nil {
			line, _, _ := bytes.Cut(sealed.Payload, []byte("\n"))
			if s, err := ParseSet(line); err == nil && s.ID == id {
				return s
			}
		}
	}
	return nil
}

// Told is a change in the journal, and who published it, when.
type Told struct {
	Record *Record
	Set    *Set
	Change Change
	Counts bool // false where a guard refused it
}

// changesOf reads the changes of a record, from the object store where they are many. contain, where it is not nil, is part of every line that matters.
func (c *Control) changesOf(ctx context.Context, r *Record, body, contain []byte) iter.Seq2[Told, error] {
	return func(yield func(Told, error) bool) {
		var set *Set
		var lines *bufio.Reader
		var refused []int
		switch {
		case r.Snapshot != nil && r.Snapshot.Changes != nil:
			o, err := c.Object(ctx, r.Snapshot.Changes.Object.SHA256+SetSuffix)
			if err != nil {
				yield(Told{}, fmt.Errorf("change set %s: %w", r.Snapshot.Changes.Set.ID, err))
				return
			}
			defer o.Close()
			set, lines = &r.Snapshot.Changes.Set, bufio.NewReaderSize(o, 256<<10)
		case r.Kind == RecordChanges && (contain == nil || bytes.Contains(body, contain)):
			s, err := Unseal(KindChanges, body)
			if err == nil {
				first, _, _ := bytes.Cut(s.Payload, []byte("\n"))
				set, err = ParseSet(first)
				lines, refused = bufio.NewReaderSize(bytes.NewReader(s.Payload), MaxLine+2), r.Refused
			}
			if err != nil {
				yield(Told{}, err)
				return
			}
		default:
			return
		}
		if _, err := ReadLine(lines, MaxLine); err != nil {
			yield(Told{}, err)
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
			if err == nil && contain != nil && !bytes.Contains(line, contain) {
				continue
			}
			var ch Change
			if err == nil {
				ch, err = ParseChange(line)
			}
			if !yield(Told{r, set, ch, counts}, err) || err != nil {
				return
			}
		}
	}
}

// History hands each change about a name to each, oldest first. It reads the whole journal.
func (c *Control) History(ctx context.Context, name string, each func(Told) error) error {
	contain := fmt.Appendf(nil, `"name":%q`, name)
	return c.Each(ctx, func(r *Record, body []byte) error {
		for told, err := range c.changesOf(ctx, r, body, contain) {
			if err != nil {
				return err
			}
			if told.Change.Name == name {
				if err := each(told); err != nil {
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
	later  bool
}

const maxLeft = 1000

// Undo finds what leads back from the change set of an ID: what it did about a name is withdrawn, and what operators had said of it before is said again. It reads
// the whole journal, and holds the set's names in memory.
func (c *Control) Undo(ctx context.Context, id string) (*Undoing, error) {
	r, _, err := c.FindSet(ctx, id)
	if err != nil {
		return nil, err
	}
	names := map[string]*touched{}
	err = c.Each(ctx, func(o *Record, body []byte) error {
		if o.Version != r.Version || o.Epoch != r.Epoch {
			return nil
		}
		for told, err := range c.changesOf(ctx, o, body, nil) {
			if err != nil {
				return err
			}
			if told.Counts {
				names[told.Change.Name] = &touched{}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = c.Each(ctx, func(o *Record, body []byte) error {
		if o.Version == r.Version && o.Epoch == r.Epoch || o.By == "lists" {
			return nil
		}
		earlier := o.Epoch < r.Epoch || o.Epoch == r.Epoch && o.Version < r.Version
		for told, err := range c.changesOf(ctx, o, body, nil) {
			if err != nil {
				return err
			}
			t := names[told.Change.Name]
			switch {
			case t == nil || !told.Counts || told.Change.Source != "":
			case earlier:
				t.say(told.Change)
			default:
				t.later = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return undoing(names), nil
}

// say replaces what was said of the name before.
func (t *touched) say(c Change) {
	kept := t.before[:0]
	for _, b := range t.before {
		if b.Scope != c.Scope && !(c.Do == Withdraw && c.Scope == "") {
			kept = append(kept, b)
		}
	}
	if c.Do != Withdraw {
		kept = append(kept, c)
	}
	t.before = kept
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
