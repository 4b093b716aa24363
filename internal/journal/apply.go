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

// translate returns the blocklist changes that changes of a change set make to a view, in order. A list's change names exactly the listing that it makes or
// withdraws. An operator's change replaces the earlier operators' claims about the same name and scope; a withdrawal without scope withdraws all operators'
// claims about the name.
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

// FromListing returns the change that makes, or withdraws, a source's listing.
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

// applyChunk is the number of changes that are applied to a view at a time. It bounds memory: a change takes a quarter of a kilobyte. Applying a million names
// to a million takes 7.6 s, and 10.3 s with chunks of 50,000 (BenchmarkApply).
const applyChunk = 200_000

// Apply returns the view after the changes of a change set. It holds at most applyChunk changes in memory.
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

// ReadChanges returns the changes that follow the first line of an encoded change set, one per line, up to the end of r. It stops at the first error.
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

// SkipRefused returns changes without the refused ones. refused holds their indices from 0, in ascending order.
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

// ReadLine returns a line of at most that many bytes, without its line end. The slice is valid until the next read of r. The last line needs no line end.
func ReadLine(r *bufio.Reader, most int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull || len(line) > most+1:
		return nil, fmt.Errorf("a line of more than %d bytes", most)
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err != nil && err != io.EOF:
		return nil, err
	}
	return bytes.TrimSuffix(line, []byte("\n")), nil
}
