package feed

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/feed/guardfile"
	"rempart/blocklist/guard"
	"rempart/internal/durable"
)

// maxHeld is how much of what was not taken is kept for people to read, of each list and guard or reason;
// beyond it is counted only.
const (
	maxHeld    = 2000
	maxRefused = 50
)

// Held is one listing that a guard refused or holds, or a line that was not understood.
type Held struct {
	List    string `json:"list,omitempty"`
	Line    int    `json:"line"` // of the list, or the entry of a JSON one
	Name    string `json:"name,omitempty"`
	Outcome string `json:"outcome"` // "refuse" or "hold"
	Guard   string `json:"guard"`   // the guard's name, or the Reason of a line
	Why     string `json:"why,omitempty"`
	Rank    int    `json:"rank,omitempty"` // in the popularity list
}

// held gathers, while a list is taken in, what is not.
type held struct {
	entries  []Held
	byGuard  [guard.GuardCount][2]int // by outcome: refused, held
	byReason format.Refusals
}

// pass reports whether a listing counts: no guard objects, or a person released it.
func (h *held) pass(g *guardfile.Guards, line int, l blocklist.Listing) bool {
	f := g.Check(l)
	if f.Outcome == guard.Pass || f.Outcome == guard.Hold && g.IsReleased(l) {
		return true
	}
	n := &h.byGuard[f.Guard][f.Outcome-guard.Refuse]
	if *n++; *n > maxHeld {
		return false
	}
	e := Held{Line: line, Outcome: f.Outcome.String(), Guard: f.Guard.String(), Why: f.Explain(l.Name)}
	if l.Prefix.IsValid() {
		e.Name = l.Prefix.String()
	} else {
		e.Name = blocklist.NameText(l.Name)
		e.Rank, _ = g.Rank(l.Name)
	}
	h.entries = append(h.entries, e)
	return false
}

// refused notes a line that was not understood.
func (h *held) refused(line int, why format.Reason) {
	if h.byReason[why]++; h.byReason[why] <= maxRefused {
		h.entries = append(h.entries, Held{Line: line, Outcome: guard.Refuse.String(), Guard: why.String(), Why: why.Sentence()})
	}
}

// counts are how many listings each guard refused or holds, by "refuse GUARD" and "hold GUARD".
func (h *held) counts() map[string]int {
	var m map[string]int
	for g, n := range h.byGuard {
		for i, outcome := range []guard.Outcome{guard.Refuse, guard.Hold} {
			if n[i] > 0 {
				if m == nil {
					m = map[string]int{}
				}
				m[outcome.String()+" "+guard.Guard(g).String()] = n[i]
			}
		}
	}
	return m
}

// saveHeld keeps what was not taken of a list.
func (s store) saveHeld(key string, entries []Held) error {
	return durable.WriteFile(s.path(key, heldSuffix), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, e := range entries {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Held calls each for all that was not taken of the lists as they are in force, list by list, until it returns an error, which it returns.
// It reads what was kept of each when it was last read: call it after Start.
func (l *Lists) Held(each func(Held) error) error {
	for _, li := range l.lists {
		emit := func(e Held) error {
			e.List = li.name
			return each(e)
		}
		if li.memory != nil {
			for _, e := range li.memory.held.entries {
				if err := emit(e); err != nil {
					return err
				}
			}
			continue
		}
		if err := l.store.readHeld(li.key, emit); err != nil {
			return fmt.Errorf("what was not taken of %s: %w", li.name, err)
		}
	}
	return nil
}

func (s store) readHeld(key string, each func(Held) error) error {
	f, err := os.Open(s.path(key, heldSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		var e Held
		if err := dec.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
