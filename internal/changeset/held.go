package changeset

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/signing"
)

// heldUpload is the upload of a held change set as the bucket of holds stores it; its signed bytes are an object.
type heldUpload struct {
	Set        journal.ChangeSet   `json:"set"`
	Object     journal.Object      `json:"object"`
	Signatures []signing.Signature `json:"signatures"`
	Skip       []int               `json:"skip,omitempty"`
	Lines      int                 `json:"lines"`
	Accepted   int                 `json:"accepted"`
}

// storeHeld stores an upload until a second person decides.
func (l *Lifecycle) storeHeld(ctx context.Context, u *Upload, id string) error {
	if err := l.checkRoom(); err != nil {
		return err
	}
	object, err := l.cfg.Control.PutChangeSet(ctx, u.file)
	if err != nil {
		return err
	}
	data, err := json.Marshal(heldUpload{*u.set, object, u.signatures, u.skip, u.lines, u.accepted})
	if err != nil {
		return err
	}
	_, err = l.holds.Put(ctx, id, data)
	return err
}

// loadHeld reads a stored upload. The caller closes it. If none is stored, the error is stream.ErrNone.
func (l *Lifecycle) loadHeld(ctx context.Context, id string) (*Upload, error) {
	data, _, err := l.holds.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	var h heldUpload
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, err
	}
	o, err := l.cfg.Control.Object(ctx, h.Object.SHA256+journal.ChangeSetSuffix)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	u, err := newUpload(l.cfg.Dir, &h.Set)
	if err != nil {
		return nil, err
	}
	u.signatures, u.skip, u.lines, u.accepted = h.Signatures, h.Skip, h.Lines, h.Accepted
	_, err = io.Copy(u.out, o)
	if err == nil {
		err = u.out.Flush()
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// HeldContent returns the upload of a held change set, for an approver to read and sign. The caller closes it.
func (l *Lifecycle) HeldContent(ctx context.Context, id string) (*Upload, error) {
	u, err := l.loadHeld(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return nil, NewError(NotFound, "path.id", "no change set with this id is held")
	}
	if err != nil {
		return nil, Fail("the held change set cannot be read", err)
	}
	return u, nil
}

// deleteHeld deletes a stored upload. If keepObject is true, the journal refers to the object of the upload, which is not deleted.
func (l *Lifecycle) deleteHeld(ctx context.Context, id string, keepObject bool) {
	ctx = context.WithoutCancel(ctx)
	data, _, err := l.holds.Get(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return
	}
	var h heldUpload
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err == nil {
		err = l.holds.Delete(ctx, id)
	}
	if err == nil && !keepObject {
		err = l.cfg.Control.Stream.DeleteObject(ctx, h.Object.SHA256+journal.ChangeSetSuffix)
	}
	if err != nil {
		l.log.Warn("the content of a change set that is not held any more stays on disk", "id", id, "err", err)
	}
}
