package report

import (
	"fmt"
	"strings"
	"time"

	"rempart/blocklist/feed"
	"rempart/blocklist/guard"
)

// GuardsLine describes how many listings the guards refused and held; "" for none.
func GuardsLine(status feed.Status) string {
	c := HeldTotals(status)
	held, refused := Total(c.Held), Total(c.Refused)
	switch {
	case held+refused == 0:
		return ""
	case refused == 0:
		return Count(held, "listing") + " held: \"rempart held\" shows which, and why"
	case held == 0:
		return Count(refused, "listing") + " refused: \"rempart held\" shows which, and why"
	}
	return fmt.Sprintf("%s held, %d refused: \"rempart held\" shows which, and why", Count(held, "listing"), refused)
}

// ListLine describes the state of a list.
func ListLine(l feed.ListStatus, now time.Time) string {
	switch {
	case l.Result == feed.Waiting && l.Err == "" && l.Kind == feed.KindURL:
		return l.Name + ": being fetched"
	case l.Result == feed.Waiting && l.Err == "":
		return l.Name + ": being read"
	case l.Result == feed.Failed, l.Result == feed.Waiting:
		return fmt.Sprintf("%s: not loaded: %s", l.Name, l.Err)
	case l.TooOld:
		return fmt.Sprintf("%s: it has no effect, because it is %s old: %s", l.Name, Age(now.Sub(l.Fetched)), l.Err)
	case l.Result == feed.Stale:
		return fmt.Sprintf("%s: %s, its last good content, %s old: %s", l.Name, Count(l.Entries, "entry"), Age(now.Sub(l.Fetched)), l.Err)
	}
	if l.Kind == feed.KindAllow {
		return fmt.Sprintf("%s: %s never blocked, %s old", l.Name, Count(l.Entries, "entry"), Age(now.Sub(l.Fetched)))
	}
	refused := 0
	for _, n := range l.Refused {
		refused += n
	}
	s := fmt.Sprintf("%s: %s, %s old", l.Name, Count(l.Entries, "entry"), Age(now.Sub(l.Fetched)))
	if refused > 0 {
		s += fmt.Sprintf(" (%s not understood)", Count(refused, "line"))
	}
	return s
}

// heldCounts is the last object of "rempart held --json".
type heldCounts struct {
	Refused       map[string]int    `json:"refused"`        // listings, by guard
	Held          map[string]int    `json:"held"`           // listings, by guard
	NotUnderstood map[string]int    `json:"not_understood"` // lines, by reason
	NotInForce    map[string]string `json:"not_in_force,omitempty"`
}

// HeldTotals returns the sums over all lists, including listings that are not stored.
func HeldTotals(status feed.Status) heldCounts {
	c := heldCounts{map[string]int{}, map[string]int{}, map[string]int{}, map[string]string{}}
	for _, l := range status.Lists {
		for what, n := range l.Held {
			if by, ok := strings.CutPrefix(what, guard.Hold.String()+" "); ok {
				c.Held[by] += n
			} else if by, ok := strings.CutPrefix(what, guard.Refuse.String()+" "); ok {
				c.Refused[by] += n
			}
		}
		for reason, n := range l.Refused {
			c.NotUnderstood[reason] += n
		}
		if l.Result == feed.Stale {
			c.NotInForce[l.Name] = l.Err
		}
	}
	return c
}

// Total returns the sum of the counts.
func Total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
