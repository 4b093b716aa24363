package changeset

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/signing"
)

// sign makes the desk sign an upload that no author signed, and checks the signatures of the others. It holds an upload that needs
// more signatures.
func (l *Lifecycle) sign(u *Upload, r *Stored) error {
	sum, err := u.sum()
	if err != nil {
		return ReadError(err)
	}
	r.Digest = hex.EncodeToString(sum)
	if u.signatures == nil {
		u.signatures = []signing.Signature{l.cfg.Desk.Sign(signing.KindChanges, sum)}
	}
	now := time.Now().Unix()
	if err := u.set.CheckPublishable(now); err != nil {
		return NewError(Invalid, "body", err.Error())
	}
	st := l.cfg.Control.State()
	r.Authors = st.Signers(signing.KindChanges, sum, u.signatures, now, signing.RoleAuthor)
	if len(r.Authors) == 0 {
		return NewError(Forbidden, "body", "no key that signed the change set has the role author in the key ring: a root key can grant it (rempart keys grant)")
	}
	if n, t := l.signers(u, sum, now), st.Threshold(); t.Keys > 1 && u.accepted > t.Changes && n < t.Keys {
		u.hold(Refusal{Guard: "threshold", Why: fmt.Sprintf("a change set of more than %d changes needs the signatures of %d keys, and this one has %d: approve it with --key", t.Changes, t.Keys, n)})
	}
	if !u.isSmall() && (u.scoped || u.set.Stage != nil) {
		return NewError(Invalid, "body", fmt.Sprintf("countries, operators and stages are only possible in change sets of at most %d changes", journal.MaxChanges))
	}
	return nil
}

const (
	smallTime = time.Minute      // for a record to be stored, and in force at control
	largeTime = 15 * time.Minute // for a snapshot
)

// publishUpload publishes an upload and writes its receipt. If the receipt cannot be written, a later call reads the journal instead.
func (l *Lifecycle) publishUpload(ctx context.Context, u *Upload, r *Stored) error {
	limit := smallTime
	if !u.isSmall() {
		limit = largeTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit) // the end of the call must not interrupt a publication
	defer cancel()
	published, err := l.append(ctx, u, r)
	if errors.Is(err, publish.ErrRefused) {
		return l.markRefused(ctx, r, err)
	}
	if errors.Is(err, publish.ErrDamaged) { // detected since the call began; nothing was appended
		return NewError(Damaged, "", err.Error())
	}
	if err != nil {
		return &Error{Kind: Unavailable, Detail: "it is not known whether the change set was published: push it again with the same id", Err: err}
	}
	if err := r.markPublished(published, l.newStage(u.set, published)); err != nil {
		return err
	}
	r.updateReach(l.cfg.Fleet)
	l.stats.addState(r.State)
	if err := l.save(ctx, r); err != nil {
		l.log.Error("a receipt was not written; it is made from the journal when it is needed", "id", r.ID, "err", err)
	}
	if r.Undoes != "" {
		l.noteUndone(ctx, r.Undoes, r.ID)
	}
	return nil
}

// markRefused stores in the receipt that the journal refused a change set, and returns the error for the caller.
func (l *Lifecycle) markRefused(ctx context.Context, r *Stored, cause error) error {
	if err := r.apply(Refuse); err != nil {
		return err
	}
	r.Note = cause.Error()
	l.stats.addState(Refused)
	if err := l.save(ctx, r); err != nil {
		l.log.Error("a receipt was not written", "id", r.ID, "err", err)
	}
	return NewError(Invalid, "body", cause.Error())
}

// append publishes an upload as a record or, if it is large, as a snapshot.
func (l *Lifecycle) append(ctx context.Context, u *Upload, r *Stored) (publish.Receipt, error) {
	if u.isSmall() {
		payload, err := u.payload()
		if err != nil {
			return publish.Receipt{}, err
		}
		body := append(signing.SealHead(signing.KindChanges, u.signatures), payload...)
		return l.publish(ctx, publish.Draft{Kind: journal.RecordChanges, By: r.By, Approved: r.Approved, Refused: u.skip, Body: body})
	}
	digest, err := u.sum()
	if err != nil {
		return publish.Receipt{}, err
	}
	object, err := l.cfg.Control.PutChangeSet(ctx, u.file)
	if err != nil {
		return publish.Receipt{}, err
	}
	large := &journal.LargeChangeSet{ChangeSet: *u.set, Count: u.accepted, Object: object, Digest: digest, Signatures: u.signatures, Refused: u.skip}
	published, err := l.cfg.Control.PublishSnapshot(ctx, publish.SnapshotDraft{By: r.By, Approved: r.Approved, Changes: large, Compile: func(w io.Writer, st *journal.State) error {
		view, err := journal.Apply(st.View(), u.set, u.changes())
		if err == nil {
			err = view.Compact(w, view.Info())
		}
		if err == nil {
			err = l.save(ctx, r) // a control that reads the receipt meanwhile sees that it is still being published
		}
		return err
	}})
	if err == nil {
		if err := l.cfg.Control.Follower().Wait(ctx, published.Version); err != nil {
			l.log.Warn("a large change set is published, and not in force at control yet", "id", r.ID, "err", err)
		}
	}
	return published, err
}

// publish appends a record. Calls wait for their turn: behind a slow journal, a call fails before its client gives up.
func (l *Lifecycle) publish(ctx context.Context, d publish.Draft) (publish.Receipt, error) {
	leave, err := l.records.Enter(ctx, "the journal is slow, and other calls are waiting to publish")
	if err != nil {
		return publish.Receipt{}, err
	}
	defer leave()
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), smallTime)
	defer stop()
	return l.cfg.Control.Publish(ctx, d)
}
