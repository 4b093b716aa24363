package journal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"rempart/blocklist"
)

// translate turns changes into what they do to a view, in their order. Changes of lists say exactly what is claimed or withdrawn. An
// operator's replaces whatever operators said of that name and scope before; a withdrawal of no scope takes all they said of the name.
func translate(view *blocklist.View, set *ChangeSet, changes []Change) (out []blocklist.Change, err error) {
	sources := map[string]blocklist.Source{Operator: {Name: Operator}}
	for _, s := range set.Sources {
		src := blocklist.Source{Name: s.Name, Weight: s.Weight, Quorum: s.Quorum}
		if s.Fetched > 0 {
			src.Fetched = time.Unix(s.Fetched, 0)
		}
		sources[s.Name] = src
	}
	touched := map[string][]blocklist.Change{} // by name: what operators claim of it by now, made by this change set
	for _, c := range changes {
		listing, err := c.Listing()
		if err != nil {
			return nil, err
		}
		if c.Source != "" {
			src, ok := sources[c.Source]
			if !ok {
				src = blocklist.Source{Name: c.Source}
			}
			out = append(out, blocklist.Change{Source: src, Listing: listing, Withdraw: c.Do == Withdraw})
			continue
		}
		claims, seen := touched[string(listing.Name)]
		if !seen {
			claims = operatorClaims(view, listing.Name)
		}
		remaining := claims[:0:0]
		for _, claim := range claims {
			if !c.replaces(claim.Listing.Scope) {
				remaining = append(remaining, claim)
				continue
			}
			if c.Do != Withdraw && sameClaim(claim.Listing, listing) {
				listing.Since = claim.Listing.Since // a renewal
			}
			claim.Withdraw = true
			out = append(out, claim)
		}
		if c.Do != Withdraw {
			n := blocklist.Change{Source: sources[Operator], Listing: listing}
			out, remaining = append(out, n), append(remaining, n)
		}
		touched[string(listing.Name)] = remaining
	}
	return out, nil
}

// claimed is what operators claim of a name in a view.
func operatorClaims(view *blocklist.View, name []byte) (claims []blocklist.Change) {
	for _, e := range view.Claims(name) {
		if slices.Contains(e.Sources, Operator) {
			claims = append(claims, blocklist.Change{Source: blocklist.Source{Name: Operator}, Listing: listingOf(e, name)})
		}
	}
	return claims
}

// listingOf is an entry as the listing that made it.
func listingOf(e blocklist.Entry, name []byte) blocklist.Listing {
	return blocklist.Listing{
		Name: bytes.Clone(name), Scope: e.Scope, Category: e.Category, Decision: e.Decision, Mark: e.Mark,
		Since: e.Since, Start: e.Start, Expiry: e.Expiry, ID: e.ID,
	}
}

// sameClaim reports whether two listings of a name say the same of it, dates of first listing apart.
func sameClaim(a, b blocklist.Listing) bool {
	return a.Scope == b.Scope && a.Category == b.Category && a.Decision == b.Decision && a.Mark == b.Mark &&
		a.Start == b.Start && a.Expiry == b.Expiry && a.ID == b.ID
}

// FromListing is a listing of a source as a change.
func FromListing(c blocklist.Change) Change {
	l := c.Listing
	out := Change{
		Do:    Act(l.Decision.String()),
		Scope: l.Scope.String(), Category: l.Category.String(), Mark: MarkText(l.Mark), Decision: l.ID,
		Start: l.Start, Expiry: l.Expiry, Source: c.Source.Name, Since: l.Since,
	}
	if l.Prefix.IsValid() {
		out.Prefix = l.Prefix.String()
	} else {
		out.Name = blocklist.NameText(l.Name)
	}
	if c.Withdraw {
		out.Was, out.Do = out.Do, Withdraw
	}
	return out
}

// chunk is how many changes are put over a view at a time: memory stays bounded however many there are, a quarter of a kilobyte each. A million names
// on a million take 7.6 s, and 10.3 s by 50,000 (BenchmarkApply).
const applyChunk = 200_000

// Apply is a view after changes of a set, however many, read to their end.
func Apply(view *blocklist.View, set *ChangeSet, changes iter.Seq2[Change, error]) (*blocklist.View, error) {
	pending := make([]Change, 0, applyChunk)
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		translated, err := translate(view, set, pending)
		if err == nil {
			view, err = view.With(view.Info(), translated)
		}
		pending = pending[:0]
		return err
	}
	for c, err := range changes {
		if err != nil {
			return nil, err
		}
		if pending = append(pending, c); len(pending) == applyChunk {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	return view, flush()
}

// ReadChanges reads what follows a set's first line, a change a line, to its end.
func ReadChanges(r *bufio.Reader) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		for {
			line, err := ReadLine(r, MaxLine)
			if err == io.EOF {
				return
			}
			c := Change{}
			if err == nil {
				c, err = ParseChange(line)
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// Counting are changes without those that were refused: by their place, from 0, in order.
func SkipRefused(changes iter.Seq2[Change, error], refused []int) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		rest, at := refused, 0
		for c, err := range changes {
			skipped := err == nil && len(rest) > 0 && rest[0] == at
			if at++; skipped {
				rest = rest[1:]
			} else if !yield(c, err) {
				return
			}
		}
	}
}

// ReadLine reads a line of at most that many octets, without its end; it is the reader's until the next. A last line without an end counts.
func ReadLine(r *bufio.Reader, most int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(line) > most+1:
		return nil, fmt.Errorf("a line of more than %d octets", most)
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err != nil && err != io.EOF:
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}
