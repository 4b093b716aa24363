package pushapi

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"rempart/internal/journal"
)

// signed has the desk sign what no author signed, and checks who signed the rest.
func (a *API) signed(u *upload, k *kept) error {
	sum, err := u.sum()
	if err != nil {
		return a.unreadable(err)
	}
	k.Digest = hex.EncodeToString(sum)
	if u.signatures == nil {
		u.signatures = []journal.Signature{a.cfg.Desk.Sign(journal.KindChanges, sum)}
	}
	now := time.Now().Unix()
	if err := u.set.Publishable(now); err != nil {
		return problem(http.StatusUnprocessableEntity, "body", err.Error())
	}
	st := a.cfg.Control.State()
	k.Authors = st.Signers(journal.KindChanges, sum, u.signatures, now, journal.RoleAuthor)
	if len(k.Authors) == 0 {
		return problem(http.StatusForbidden, "body", "no key signed it that is an author's in the key ring: have a root grant it that (rempart keys grant)")
	}
	all := st.Signers(journal.KindChanges, sum, u.signatures, now, journal.RoleAuthor, journal.RoleApprover)
	if t := st.Threshold(); t.Keys > 1 && u.accepted > t.Changes && len(all) < t.Keys {
		u.hold(Refusal{Guard: "threshold", Why: fmt.Sprintf("more than %d changes need the signatures of %d keys, and %d signed: approve it with a key", t.Changes, t.Keys, len(all))})
	}
	if !u.small() && (u.scoped || u.set.Stage != nil) {
		return problem(http.StatusUnprocessableEntity, "body", fmt.Sprintf("countries, operators and stages are for at most %d changes", journal.MaxChanges))
	}
	return nil
}

// settle publishes what is claimed, holds it, or says that nothing of it counts.
func (a *API) settle(ctx context.Context, u *upload, k *kept) (*receiptOutput, error) {
	if u.accepted > 0 && u.holds == 0 {
		return a.publishUpload(ctx, u, k)
	}
	status := http.StatusOK
	if k.State = Refused; u.accepted > 0 {
		status = http.StatusAccepted
		if err := a.hold(ctx, u, k); err != nil {
			return nil, a.unavailable("the change set was not held", err)
		}
	}
	if err := a.save(ctx, k); err != nil {
		return nil, a.unavailable("the receipt was not written", err)
	}
	a.counts.set(k.State)
	return &receiptOutput{status, k.Receipt}, nil
}

const (
	smallTime = time.Minute      // for a record to be kept and in force here
	largeTime = 15 * time.Minute // for a snapshot
)

// publishUpload hands an upload to the journal. The receipt is written after: where that fails, the journal says it.
func (a *API) publishUpload(ctx context.Context, u *upload, k *kept) (*receiptOutput, error) {
	limit := smallTime
	if !u.small() {
		limit = largeTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit) // half of it is worse than late
	defer cancel()
	r, err := a.append(ctx, u, k)
	if errors.Is(err, journal.ErrRefused) {
		k.State, k.Note = Refused, err.Error()
		a.counts.set(Refused)
		if err := a.save(ctx, k); err != nil {
			a.log.Error("a receipt was not written", "id", k.ID, "err", err)
		}
		return nil, problem(http.StatusUnprocessableEntity, "body", err.Error())
	}
	if errors.Is(err, journal.ErrDamaged) { // found since the call began; nothing was appended
		return nil, problem(http.StatusServiceUnavailable, "", err.Error())
	}
	if err != nil {
		return nil, a.unavailable("whether the change set was published is not known; push it again with the same id", err)
	}
	a.published(k, u.set, r)
	a.reach(k)
	a.counts.set(k.State)
	if err := a.save(ctx, k); err != nil {
		a.log.Error("a receipt was not written; the journal says what it would", "id", k.ID, "err", err)
	}
	if k.Undoes != "" {
		a.undone(ctx, k.Undoes, k.ID)
	}
	return &receiptOutput{http.StatusCreated, k.Receipt}, nil
}

// append publishes it as a record, or as a snapshot where it is large.
func (a *API) append(ctx context.Context, u *upload, k *kept) (journal.Receipt, error) {
	if u.small() {
		payload, err := u.payload()
		if err != nil {
			return journal.Receipt{}, err
		}
		body := append(journal.SealHead(journal.KindChanges, u.signatures), payload...)
		return a.publish(ctx, journal.Draft{Kind: journal.RecordChanges, By: k.By, Approved: k.Approved, Refused: u.skip, Body: body})
	}
	digest, err := u.sum()
	if err != nil {
		return journal.Receipt{}, err
	}
	object, err := a.cfg.Control.PutSet(ctx, u.file)
	if err != nil {
		return journal.Receipt{}, err
	}
	large := &journal.LargeSet{Set: *u.set, Count: u.accepted, Object: object, Digest: digest, Signatures: u.signatures, Refused: u.skip}
	r, err := a.cfg.Control.PublishSnapshot(ctx, journal.Load{By: k.By, Approved: k.Approved, Changes: large, Compile: func(w io.Writer, st *journal.State) error {
		view, err := journal.Apply(st.View(), u.set, u.changes())
		if err == nil {
			err = view.Compact(w, view.Info())
		}
		if err == nil {
			err = a.save(ctx, k) // whoever asks meanwhile is told that it is under way still
		}
		return err
	}})
	if err == nil {
		if err := a.cfg.Control.Follower().Wait(ctx, r.Version); err != nil {
			a.log.Warn("a large change set is published, and not in force at control yet", "id", k.ID, "err", err)
		}
	}
	return r, err
}

// publish appends a record, one at a time: who waits for a slow journal waits for less than a call may last.
func (a *API) publish(ctx context.Context, d journal.Draft) (journal.Receipt, error) {
	leave, err := a.turn(ctx, a.records, "the journal is slow, and others wait for it")
	if err != nil {
		return journal.Receipt{}, err
	}
	defer leave()
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), smallTime)
	defer stop()
	return a.cfg.Control.Publish(ctx, d)
}
