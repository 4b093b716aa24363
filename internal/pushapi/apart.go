package pushapi

import (
	"context"
	"errors"
	"net/http"

	"rempart/internal/journal"
)

// heldSuffix ends the ID of the change set of the changes that were set apart because a guard holds them.
const heldSuffix = "~held"

// heldID returns the ID of the change set that holds what is set apart of another.
func heldID(id string) string {
	if held := id + heldSuffix; len(held) <= 100 {
		return held
	}
	return journal.HashOf([]byte(id))[:32] + heldSuffix
}

// setApart makes the upload that takes the changes which a guard holds, where they are asked to be set apart from those of set.
func (a *API) setApart(j *judging, set *journal.Set) error {
	if !j.split {
		return nil
	}
	other := *set
	other.ID = heldID(set.ID)
	var err error
	j.apart, err = a.write(&other)
	return err
}

// errSignedWhole refuses to split what an author signed: the signature is over all of it.
var errSignedWhole = errors.New("what an author signed is published as a whole: leave the names that guards hold out of it (a dry run lists them), and push those as a change set of their own")

// tally is what an upload says of its changes as a whole.
type tally struct{ holds, added, removed int }

// moveTo takes what the last change added to an upload's holds since a tally, and adds it to another upload.
func (u *upload) moveTo(other *upload, before tally) {
	holds := u.holds - before.holds
	kept := min(before.holds, len(u.held))
	for _, h := range u.held[kept:] {
		other.hold(h)
	}
	if missing := holds - (len(u.held) - kept); missing > 0 { // beyond those that are listed one by one
		other.holds += missing
	}
	other.added, other.removed = other.added+u.added-before.added, other.removed+u.removed-before.removed
	u.held, u.holds, u.added, u.removed = u.held[:kept], before.holds, before.added, before.removed
}

// holdApart holds the changes that were set apart as a change set of their own, linked with the one that they were pushed with. Asked again with the same content,
// it does nothing.
func (a *API) holdApart(ctx context.Context, v *upload, with *kept, c *caller) (*kept, error) {
	k := &kept{Content: with.Content + " held", Owner: c.Owner}
	k.PartOf = with.ID
	if err := a.signed(v, k); err != nil {
		return nil, err
	}
	k.describe(v, c)
	a.reach(k)
	leave, err := a.enter(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	defer leave()
	done, err := a.claim(ctx, k)
	if err != nil || done != nil {
		return done, err
	}
	if _, err := a.settle(ctx, v, k); err != nil {
		return nil, err
	}
	return k, nil
}

// refuseSplit is the answer to a signed upload that is asked to be split; nil where it need not be.
func (in *pushInput) refuseSplit(mediaType string) error {
	if in.WithoutHeld && mediaType == TypeSigned {
		return problem(http.StatusUnprocessableEntity, "without_held", errSignedWhole.Error())
	}
	return nil
}
