package pushapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
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
	k := &kept{Content: contentApart(with), Owner: c.Owner}
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

// claimPush claims a pushed change set. split is whether the changes that guards hold are to be set apart: then it replaces a held change set that
// was pushed before as a whole. done is the receipt of the earlier push where nothing is left to do.
func (a *API) claimPush(ctx context.Context, u *upload, k *kept, split bool) (done *kept, err error) {
	if k.HeldAs != "" {
		if err := a.mayHoldApart(ctx, k); err != nil {
			return nil, err
		}
	}
	done, err = a.claim(ctx, k)
	if err != nil || done == nil || done.State != Held || !split {
		return done, err
	}
	if u.accepted == 0 || u.holds > 0 && k.HeldAs == "" { // set apart, nothing would be left of it, or the rest would be held all the same
		return done, nil
	}
	return nil, a.replaceHeld(ctx, done, k)
}

// present sets in a receipt what is so at present and not written in it: the state of what was set apart, and of a staged change set the servers that have it.
func (a *API) present(ctx context.Context, k *kept) {
	if k.State == Staged {
		a.reach(k) // servers came and went since
		k.Nodes = a.fleet.holders(a.cfg.Control.State().Epoch, k)
	}
	if k.HeldAs == "" {
		return
	}
	if other, err := a.receipt(ctx, k.HeldAs); err == nil && other.PartOf == k.ID {
		k.HeldNow = other.State
	}
}

// mayHoldApart returns an error if the ID under which changes of k are to be held apart belongs to another change set.
func (a *API) mayHoldApart(ctx context.Context, k *kept) error {
	other, err := a.receipt(ctx, k.HeldAs)
	switch status := huma.StatusError(nil); {
	case errors.As(err, &status) && status.GetStatus() == http.StatusNotFound:
		return nil
	case err != nil:
		return err
	case other.Content != contentApart(k):
		return otherSet()
	}
	return nil
}

// contentApart is the hash of the content of the change set that holds what is set apart of k.
func contentApart(k *kept) string { return k.Content + " held" }

// replaceHeld makes k take the place of old, a held change set with the same ID and content, which was pushed as a whole. Whoever replaces it has
// entered the ID. At no moment are old and what is set apart of k both held. A crash on the way leaves a pending change set that is to be pushed again.
func (a *API) replaceHeld(ctx context.Context, old, k *kept) error {
	if old.Owner != k.Owner {
		return problem(http.StatusConflict, "id", fmt.Sprintf("it is held, and %s pushed it: who pushed it may push it again without what is held; others push it with a new id", old.By))
	}
	old.State = Pending
	switch err := a.save(ctx, old); { // from here on nobody approves or rejects it
	case errors.Is(err, stream.ErrBehind):
		return problem(http.StatusConflict, "id", "somebody else decided about it just now: see its receipt")
	case err != nil:
		return a.unavailable("the change set was not taken", err)
	}
	a.letGo(ctx, k.ID, false)
	k.State, k.revision = Pending, old.revision
	switch err := a.save(ctx, k); {
	case errors.Is(err, stream.ErrBehind):
		return underWay()
	case err != nil:
		return a.unavailable("the change set was not taken", err)
	}
	return nil
}

// refuseSplit is the answer to a signed upload that is asked to be split; nil where it need not be.
func (in *pushInput) refuseSplit(mediaType string) error {
	if in.WithoutHeld && mediaType == TypeSigned {
		return problem(http.StatusUnprocessableEntity, "without_held", errSignedWhole.Error())
	}
	return nil
}
