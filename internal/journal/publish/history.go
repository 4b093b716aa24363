package publish

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
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// FindChangeSet returns the record that published the change set of an ID. If a later epoch published it again, it returns the later record. The error wraps
// stream.ErrNone if there is none. It reads the whole journal.
func (c *Control) FindChangeSet(ctx context.Context, id string) (*journal.Record, *journal.ChangeSet, error) {
	var found *journal.Record
	var changeSet *journal.ChangeSet
	err := c.Each(ctx, func(r *journal.Record, body []byte) error {
		if s := changeSetOf(r, body, id); s != nil {
			found, changeSet = r, s
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("change set %.100q: %w", id, stream.ErrNone)
	}
	return found, changeSet, err
}

// changeSetOf returns the record's change set if it has that ID; otherwise nil.
func changeSetOf(r *journal.Record, body []byte, id string) *journal.ChangeSet {
	switch {
	case r.Snapshot != nil && r.Snapshot.Changes != nil:
		if s := r.Snapshot.Changes.ChangeSet; s.ID == id {
			return &s
		}
	case r.Kind == journal.RecordChanges:
		if s, _, err := splitChangeSet(body); err == nil && s.ID == id {
			return s
		}
	}
	return nil
}

// splitChangeSet returns the first line of a sealed change set, parsed, and the lines of its changes. It checks no signature.
func splitChangeSet(body []byte) (*journal.ChangeSet, []byte, error) {
	_, payload, _ := bytes.Cut(body, []byte("\n\n")) // an empty line ends the signatures
	line, changes, _ := bytes.Cut(payload, []byte("\n"))
	set, err := journal.ParseChangeSet(line)
	return set, changes, err
}

// HistoryEntry is a change in the journal with its record and its change set.
type HistoryEntry struct {
	Record    *journal.Record
	ChangeSet *journal.ChangeSet
	Change    journal.Change
	Applied   bool // false if a guard refused the change
}

// changesOf returns the changes of a record, which are read from the object store if they are many. If mayMatch is not nil, changes in text for which it
// returns false are skipped.
func (c *Control) changesOf(ctx context.Context, r *journal.Record, body []byte, mayMatch func([]byte) bool) iter.Seq2[HistoryEntry, error] {
	return func(yield func(HistoryEntry, error) bool) {
		var set *journal.ChangeSet
		var lines *bufio.Reader
		var refused []int
		switch {
		case r.Snapshot != nil && r.Snapshot.Changes != nil:
			o, err := c.Object(ctx, r.Snapshot.Changes.Object.SHA256+journal.ChangeSetSuffix)
			if err != nil {
				yield(HistoryEntry{}, fmt.Errorf("change set %s: %w", r.Snapshot.Changes.ChangeSet.ID, err))
				return
			}
			defer o.Close()
			set, lines, refused = &r.Snapshot.Changes.ChangeSet, bufio.NewReaderSize(o, 256<<10), r.Snapshot.Changes.Refused
			if _, err := journal.ReadLine(lines, journal.MaxLine); err != nil { // the line of the change set itself
				yield(HistoryEntry{}, err)
				return
			}
		case r.Kind == journal.RecordChanges && (mayMatch == nil || mayMatch(body)):
			s, changes, err := splitChangeSet(body)
			if err != nil {
				yield(HistoryEntry{}, err)
				return
			}
			set, lines, refused = s, bufio.NewReaderSize(bytes.NewReader(changes), journal.MaxLine+2), r.Refused
		default:
			return
		}
		for at := 0; ; at++ {
			line, err := journal.ReadLine(lines, journal.MaxLine)
			if err == io.EOF {
				return
			}
			applied := len(refused) == 0 || refused[0] != at
			if !applied {
				refused = refused[1:]
			}
			if err == nil && mayMatch != nil && !mayMatch(line) {
				continue
			}
			var ch journal.Change
			if err == nil {
				ch, err = journal.ParseChange(line)
			}
			if !yield(HistoryEntry{r, set, ch, applied}, err) || err != nil {
				return
			}
		}
	}
}

// History calls each with each change of a name, and of a parent domain whose scope includes the name, oldest first. It reads the whole journal.
func (c *Control) History(ctx context.Context, name string, each func(HistoryEntry) error) error {
	above := map[string]bool{name: true}
	var quoted [][]byte
	for rest, more := name, true; more; _, rest, more = strings.Cut(rest, ".") {
		above[rest] = true
		quoted = append(quoted, fmt.Appendf(nil, "%q", rest))
	}
	mayMatch := func(text []byte) bool { // text with an escape sequence may match, because authors may escape any character
		return bytes.IndexByte(text, '\\') >= 0 || slices.ContainsFunc(quoted, func(q []byte) bool { return bytes.Contains(text, q) })
	}
	return c.Each(ctx, func(r *journal.Record, body []byte) error {
		for entry, err := range c.changesOf(ctx, r, body, mayMatch) {
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

// Undo returns the changes that undo the change set of an ID: each of its names is withdrawn, and the operators' claims about the name before the change set
// are made again. Names that were changed later are skipped. Undo reads the whole journal twice, and holds the names of the change set in memory. The error
// wraps stream.ErrNone if no change set has that ID.
func (c *Control) Undo(ctx context.Context, id string) (*journal.UndoPlan, error) {
	var u *journal.Undoer
	err := c.Each(ctx, func(r *journal.Record, body []byte) error {
		if changeSetOf(r, body, id) == nil {
			return nil
		}
		u = journal.NewUndoer(id, r) // the last one, if a new epoch published the change set again
		for e, err := range c.changesOf(ctx, r, body, nil) {
			if err != nil {
				return err
			}
			if e.Applied {
				u.AddName(e.Change.Name)
			}
		}
		return nil
	})
	if err == nil && u == nil {
		err = fmt.Errorf("change set %.100q: %w", id, stream.ErrNone)
	}
	if err != nil {
		return nil, err
	}
	err = c.Each(ctx, func(r *journal.Record, body []byte) error {
		if r.Kind == journal.RecordAdvance {
			u.ApplyAdvance(r)
		}
		for e, err := range c.changesOf(ctx, r, body, nil) {
			if err != nil {
				return err
			}
			if e.Applied {
				u.ApplyChange(r, e.ChangeSet, e.Change)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return u.Plan(time.Now().Unix()), nil
}
