package changeset

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// Countersignature is the signature of an approver's own key over a held change set.
type Countersignature struct {
	Key       string `json:"key" doc:"The ID of the approver's own key: name+hash."`
	Signature string `json:"signature" doc:"The Ed25519ph signature of that key over the change set's digest, in base64."`
}

// Approve publishes a held change set. A second person must approve: neither the token nor the person who pushed it. with is nil
// if the approver does not sign.
func (l *Lifecycle) Approve(ctx context.Context, id string, by By, with *Countersignature) (*Result, error) {
	unlock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := l.readHeld(ctx, id, Approve)
	if err != nil {
		return nil, err
	}
	if by.Person == r.Owner || by.Token == r.By {
		return nil, NewError(Forbidden, "", "the person who pushed a change set cannot approve it: a second person must")
	}
	u, err := l.loadHeld(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return nil, NewError(Conflict, "path.id", "the change set is pending, and its content is not stored any more: push it again with the same id")
	}
	if err != nil {
		return nil, Fail("the held change set cannot be read", err)
	}
	defer u.Close()
	if err := l.countersign(u, r, with); err != nil {
		return nil, err
	}
	r.Approved = []string{by.Token}
	if err := r.apply(Approve); err != nil {
		return nil, err
	}
	if err := l.save(ctx, r); errors.Is(err, stream.ErrBehind) {
		return nil, NewError(Conflict, "path.id", "the change set was approved or rejected at the same time: read its receipt")
	} else if err != nil {
		return nil, Fail("the change set was not approved", err)
	}
	err = l.publishUpload(ctx, u, r)
	if r.State != Pending {
		l.deleteHeld(ctx, id, r.State != Refused && !u.isSmall())
	}
	return &Result{Stored: r}, err
}

// Reject ends a held change set: its changes are never applied.
func (l *Lifecycle) Reject(ctx context.Context, id string, by By) (*Result, error) {
	unlock, err := l.lock(ctx, id)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := l.readHeld(ctx, id, Reject)
	if err != nil {
		return nil, err
	}
	r.Decider = by.Token
	if err := l.markRejected(ctx, r, Reject, "rejected by "+by.Token); err != nil {
		return nil, Fail("the change set was not rejected", err)
	}
	return &Result{Stored: r}, nil
}

// markRejected applies Reject or Expire to a held change set.
func (l *Lifecycle) markRejected(ctx context.Context, r *Stored, e Event, note string) error {
	if err := r.apply(e); err != nil {
		return err
	}
	r.Note = note
	if err := l.save(ctx, r); err != nil {
		return err
	}
	l.stats.addState(Rejected)
	l.deleteHeld(ctx, r.ID, false)
	return nil
}

// readHeld reads the receipt of a change set for a decision about it, if the decision is possible. A change set whose approval was
// interrupted is held again. The caller holds the lock of the ID.
func (l *Lifecycle) readHeld(ctx context.Context, id string, decision Event) (*Stored, error) {
	r, err := l.receipt(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State == Pending {
		unpublished, err := l.resolve(ctx, r)
		if err != nil {
			return nil, err
		}
		if unpublished {
			if err := r.apply(Reopen); err != nil {
				return nil, err
			}
		}
	}
	return r, r.check(decision)
}

// countersign adds the approver's own signature, and checks that the number of signatures reaches the threshold of the key ring.
func (l *Lifecycle) countersign(u *Upload, r *Stored, with *Countersignature) error {
	digest, err := u.sum()
	if err != nil {
		return Fail("the held change set cannot be read", err)
	}
	if hex.EncodeToString(digest) != r.Digest {
		return Fail("the held change set is damaged", errors.New("its digest differs from the digest of its receipt"))
	}
	now, st := time.Now().Unix(), l.cfg.Control.State()
	if with != nil {
		signature, err := base64.StdEncoding.DecodeString(with.Signature)
		if err != nil {
			return NewError(Invalid, "body.signature", "the signature is not base64")
		}
		s := signing.Signature{Key: with.Key, Bytes: signature}
		if slices.ContainsFunc(u.signatures, func(o signing.Signature) bool { return o.Key == s.Key }) {
			return NewError(Forbidden, "body.key", "this key signed the change set already: a second person must approve it")
		}
		if len(st.Signers(signing.KindChanges, digest, []signing.Signature{s}, now, signing.RoleApprover, signing.RoleAuthor)) == 0 {
			return NewError(Invalid, "body.signature", "the signature is wrong, or its key has neither the role approver nor the role author in the key ring")
		}
		u.signatures = append(u.signatures, s)
	}
	if n, t := l.signers(u, digest, now), st.Threshold(); t.Keys > 1 && u.accepted > t.Changes && n < t.Keys {
		return NewError(Invalid, "body", fmt.Sprintf("the change set needs the signatures of %d keys, and has %d: approve it with a key (rempart approve --key)", t.Keys, n))
	}
	return nil
}

// signers returns the number of keys of authors and approvers that signed an upload.
func (l *Lifecycle) signers(u *Upload, digest []byte, now int64) int {
	return len(l.cfg.Control.State().Signers(signing.KindChanges, digest, u.signatures, now, signing.RoleAuthor, signing.RoleApprover))
}
