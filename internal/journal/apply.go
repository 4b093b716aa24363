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

// translate converts changes of a change set to blocklist changes that can be applied to view, in order. A list's change concerns exactly one listing, which it
// adds or withdraws. An operator's change replaces all earlier claims of operators about the same name and scope. A withdrawal without scope withdraws all claims
// of operators about the name.
func translate(view *blocklist.View, set *ChangeSet, changes []Change) (out []blocklist.Change, err error) {
	sources := map[string]blocklist.Source{Operator: {Name: Operator}}
	for _, s := range set.Sources {
		src := blocklist.Source{Name: s.Name, Weight: s.Weight, Quorum: s.Quorum}
		if s.Fetched > 0 {
			src.Fetched = time.Unix(s.Fetched, 0)
		}
		sources[s.Name] = src
	}
	touched := map[string][]blocklist.Change{} // by name: the operators' claims after the changes so far
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
		listing.Since = set.Time // operators' changes carry no date of their own
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
				listing.Since = claim.Listing.Since // a renewal keeps the date of the first listing
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

// operatorClaims returns the operators' claims about a name in a view.
func operatorClaims(view *blocklist.View, name []byte) (claims []blocklist.Change) {
	for _, e := range view.Claims(name) {
		if slices.Contains(e.Sources, Operator) {
			claims = append(claims, blocklist.Change{Source: blocklist.Source{Name: Operator}, Listing: listingOf(e, name)})
		}
	}
	return claims
}

// listingOf returns the listing that an entry was made from.
func listingOf(e blocklist.Entry, name []byte) blocklist.Listing {
	return blocklist.Listing{
		Name: bytes.Clone(name), Scope: e.Scope, Category: e.Category, Decision: e.Decision, Mark: e.Mark,
		Since: e.Since, Start: e.Start, Expiry: e.Expiry, ID: e.ID,
	}
}

// sameClaim reports whether two listings of one name are equal, apart from the date of first listing.
func sameClaim(a, b blocklist.Listing) bool {
	return a.Scope == b.Scope && a.Category == b.Category && a.Decision == b.Decision && a.Mark == b.Mark &&
		a.Start == b.Start && a.Expiry == b.Expiry && a.ID == b.ID
}

// FromListing converts a blocklist change, which adds or withdraws one listing of a source, to a change of a change set.
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

// applyChunk is the largest number of changes that are applied to a view in one step. It bounds memory: a change takes about 250 bytes. Applying a million changes
// to a set of a million names takes 7.6 s, or 10.3 s with chunks of 50,000 changes (BenchmarkApply).
const applyChunk = 200_000

// Apply returns the view that results from applying the changes of a change set to view. It holds at most applyChunk changes in memory.
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

// ReadChanges reads changes from r, one per line, until the end of r or the first error. The first line of the encoded change set must have been read already.
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

// SkipRefused returns changes without the refused ones. refused holds the indices of the refused changes, from 0, in ascending order.
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

// ReadLine returns the next line of r without its line end. A line of more than maxLen bytes is an error. The last line needs no line end. The returned slice is
// valid until the next read of r.
func ReadLine(r *bufio.Reader, maxLen int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(line) > maxLen+1:
		return nil, fmt.Errorf("the line is longer than %d bytes", maxLen)
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err != nil && err != io.EOF:
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}
