package inspect

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"rempart/blocklist"
	"rempart/blocklist/feed"
	"rempart/blocklist/feed/store"
	"rempart/blocklist/guard"
	"rempart/cmd/rempart/report"
)

// explanation is everything that is known about a name.
type explanation struct {
	Claims  []listedClaim  `json:"claims"`         // for the name and the names above it, the longest name first
	Guards  []guardVerdict `json:"guards"`         // the verdicts if the name were listed now
	Held    []store.Held   `json:"held,omitempty"` // listings that guards refused or held when lists were read
	Rank    int            `json:"rank,omitempty"` // in the popularity list
	Below   []rankedName   `json:"popular_below,omitempty"`
	BelowIn int            `json:"popular_below_count"` // Below holds only the first of them
}

// listedClaim is an entry with its name, and its place in each list.
type listedClaim struct {
	Name string `json:"name"`
	entryJSON
	Weight int        `json:"weight"` // sum of the lists that block the name
	Quorum int        `json:"quorum"` // weight that this entry needs
	Lines  []listedAt `json:"lines"`
}

// guardVerdict is the verdict of the guards on a listing of the name with a scope.
type guardVerdict struct {
	Scope    string `json:"scope"`
	Outcome  string `json:"outcome"`
	Guard    string `json:"guard,omitempty"`
	Why      string `json:"why,omitempty"`
	Released bool   `json:"released,omitempty"`
}

// rankedName is a name of the popularity list.
type rankedName struct {
	Rank int    `json:"rank"`
	Name string `json:"name"`
}

// maxBelow is the largest number of popular names below a name that are shown.
const maxBelow = 100

func (k *checker) explain(name []byte) (*explanation, error) {
	w := &explanation{Claims: []listedClaim{}}
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		w.Claims = append(w.Claims, k.claims(name[i:])...)
	}
	if err := k.addLines(name, w.Claims); err != nil {
		return nil, err
	}
	for _, scope := range []blocklist.Scope{blocklist.Subtree, blocklist.Exact} {
		f, released, err := k.lists.Judge(blocklist.Listing{Name: name, Scope: scope})
		if err != nil {
			return nil, err
		}
		j := guardVerdict{Scope: scope.String(), Outcome: f.Outcome.String(), Released: released}
		if f.Outcome != guard.Pass {
			j.Guard, j.Why = f.Guard.String(), f.Explain(name)
		}
		w.Guards = append(w.Guards, j)
	}
	text := blocklist.NameText(name)
	err := k.lists.Held(func(e store.Held) error {
		if isGuarded(e) && (e.Name == text || strings.HasSuffix(text, "."+e.Name)) {
			w.Held = append(w.Held, e)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return w, k.lists.Guards().EachPopular(func(rank int, n []byte) error {
		w.popular(rank, n, name, text)
		return nil
	})
}

// popular adds a name of the popularity list if it is the examined name, or below it.
func (w *explanation) popular(rank int, popular, name []byte, text string) {
	if !bytes.HasSuffix(popular, name) {
		return
	}
	below := blocklist.NameText(popular)
	switch {
	case below == text:
		w.Rank = rank
	case strings.HasSuffix(below, "."+text):
		if w.BelowIn++; w.BelowIn <= maxBelow {
			w.Below = append(w.Below, rankedName{rank, below})
		}
	}
}

// claims returns the entries of one name.
func (k *checker) claims(name []byte) (claims []listedClaim) {
	entries := k.view.Claims(name)
	weight := k.weight(entries)
	for _, e := range entries {
		c := listedClaim{Name: e.Name, entryJSON: describeEntry(e), Weight: weight, Quorum: k.quorum(e)}
		for _, list := range c.Lists {
			c.Lines = append(c.Lines, listedAt{List: list})
		}
		claims = append(claims, c)
	}
	return claims
}

// weight returns the sum of the weights of the lists that block a name.
func (k *checker) weight(entries []blocklist.Entry) (weight int) {
	var lists []string
	for _, e := range entries {
		if e.Decision == blocklist.Block {
			lists = append(lists, e.Sources...)
		}
	}
	slices.Sort(lists)
	for _, list := range slices.Compact(lists) {
		weight += max(1, k.feed(list).Weight)
	}
	return weight
}

// quorum returns the smallest quorum of the lists of an entry.
func (k *checker) quorum(e blocklist.Entry) int {
	least := 0
	for _, list := range e.Sources {
		if q := max(1, k.feed(list).Quorum); least == 0 || q < least {
			least = q
		}
	}
	return least
}

func (k *checker) feed(list string) feed.Feed {
	for _, l := range k.status.Lists {
		if l.Name == list {
			return l.Feed
		}
	}
	return feed.Feed{}
}

// addLines finds the lines of entries, reading each list once. A list that changed since, and the built-in one, have no line to show.
func (k *checker) addLines(name []byte, claims []listedClaim) error {
	read := map[string][]feed.Line{}
	for _, c := range claims {
		for i := range c.Lines {
			at := &c.Lines[i]
			lines, known := read[at.List]
			if !known {
				var err error
				lines, err = k.lists.Lines(k.cmd.Context(), at.List, name)
				if stopped := k.cmd.Context().Err(); stopped != nil && errors.Is(err, stopped) {
					return err
				}
				read[at.List] = lines
			}
			for _, line := range lines {
				if line.Name == c.Name {
					at.Line, at.Text = line.Number, line.Text
				}
			}
		}
	}
	return nil
}

func (w *explanation) write(out io.Writer) error {
	var b strings.Builder
	if len(w.Claims) == 0 {
		fmt.Fprintln(&b, "  no list has an entry for it")
	}
	for _, c := range w.Claims {
		text := c.text()
		if c.Since != "" {
			text += ", since " + c.Since
		}
		if c.Quorum > 1 {
			text += fmt.Sprintf(" (its lists have a weight of %d, and it needs %d)", c.Weight, c.Quorum)
		}
		fmt.Fprintf(&b, "  %s: %s\n", c.Name, text)
		for _, f := range c.Lines {
			fmt.Fprintf(&b, "    %s\n", f)
		}
	}
	fmt.Fprintf(&b, "  guards: %s\n", w.guards())
	for _, e := range w.Held {
		fmt.Fprintf(&b, "  %s: %s\n", e.List, heldLine(e))
	}
	if w.Rank > 0 {
		fmt.Fprintf(&b, "  it has rank %d in popularity\n", w.Rank)
	}
	if w.BelowIn > 0 {
		fmt.Fprintf(&b, "  below it, %s of the popularity list: %s\n", report.Count(w.BelowIn, "name"), w.below(5))
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// guards returns the verdict of the guards, once if it is the same for both scopes.
func (w *explanation) guards() string {
	subtree, exact := w.Guards[0], w.Guards[1]
	switch {
	case subtree.Why == exact.Why:
		return subtree.text()
	case exact.Outcome == guard.Pass.String():
		return "with all below: " + subtree.text()
	}
	return "with all below: " + subtree.text() + "; itself: " + exact.text()
}

func (j guardVerdict) text() string {
	switch {
	case j.Outcome == guard.Pass.String():
		return "they accept it"
	case j.Released:
		return fmt.Sprintf("%s would hold it (%s), but a person released it", j.Guard, j.Why)
	case j.Outcome == guard.Hold.String():
		return fmt.Sprintf("%s holds it: %s", j.Guard, j.Why)
	}
	return fmt.Sprintf("%s refuses it: %s", j.Guard, j.Why)
}

// below returns the first n popular names below the name.
func (w *explanation) below(n int) string {
	var names []string
	for _, r := range w.Below[:min(n, len(w.Below))] {
		names = append(names, fmt.Sprintf("%s (%d)", r.Name, r.Rank))
	}
	if w.BelowIn > n {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}
