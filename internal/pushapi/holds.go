package pushapi

import (
	"bufio"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
	"rempart/internal/journal/stream"
)

// holding is a held change set as the bucket keeps it; what its author signed is an object.
type holding struct {
	Set        journal.Set         `json:"set"`
	Object     journal.Object      `json:"object"`
	Signatures []journal.Signature `json:"signatures"`
	Skip       []int               `json:"skip,omitempty"`
	Lines      int                 `json:"lines"`
	Accepted   int                 `json:"accepted"`
}

// hold keeps an upload until a second person decides.
func (a *API) hold(ctx context.Context, u *upload, k *kept) error {
	object, err := a.cfg.Control.PutSet(ctx, u.file)
	if err != nil {
		return err
	}
	data, err := json.Marshal(holding{*u.set, object, u.signatures, u.skip, u.lines, u.accepted})
	if err == nil {
		_, err = a.holds.Put(ctx, k.ID, data)
	}
	if err != nil {
		return err
	}
	k.State = Held
	return a.save(ctx, k)
}

// held reads a held change set back. Close the upload.
func (a *API) held(ctx context.Context, id string) (*upload, error) {
	data, _, err := a.holds.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	var h holding
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, err
	}
	o, err := a.cfg.Control.Object(ctx, h.Object.SHA256+journal.SetSuffix)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	u, err := newUpload(a.cfg.Dir, &h.Set)
	if err != nil {
		return nil, err
	}
	u.signatures, u.skip, u.lines, u.accepted = h.Signatures, h.Skip, h.Lines, h.Accepted
	if _, err := io.Copy(u.out, o); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

type idInput struct {
	ID string `path:"id" maxLength:"100" doc:"The change set's."`
}

type approveInput struct {
	ID   string       `path:"id" maxLength:"100"`
	Body *approveBody `required:"false"`
}

type approveBody struct {
	Key       string `json:"key" doc:"ID of the approver's own key: name+hash."`
	Signature string `json:"signature" doc:"Its Ed25519ph signature over the change set's digest, in base64."`
}

type receiptsOutput struct {
	Body struct {
		ChangeSets []Receipt `json:"changesets"`
	}
}

func (a *API) registerHolds() {
	op := func(id, method, path, summary string, roles ...Role) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: path, Summary: summary, Metadata: may(roles...), Tags: []string{"change sets"},
			Security: secured, Errors: []int{401, 403, 404, 409, 422, 429, 503}}
	}
	huma.Register(a.api, op("changesets", http.MethodGet, "/v1/changesets", "List change sets, the newest first", people...),
		func(ctx context.Context, in *struct {
			State string `query:"state" enum:"pending,published,staged,held,rejected,refused,undone" doc:"Only those."`
			Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
		}) (*receiptsOutput, error) {
			out := &receiptsOutput{}
			out.Body.ChangeSets = []Receipt{}
			return out, a.eachReceipt(ctx, func(k *kept) {
				if (in.State == "" || string(k.State) == in.State) && len(out.Body.ChangeSets) < in.Limit {
					k.Refused, k.Held = k.Refused[:min(len(k.Refused), 10)], k.Held[:min(len(k.Held), 10)]
					out.Body.ChangeSets = append(out.Body.ChangeSets, k.Receipt)
				}
			})
		})
	huma.Register(a.api, op("changeset", http.MethodGet, "/v1/changesets/{id}", "Say what became of a change set", people...),
		func(ctx context.Context, in *idInput) (*receiptOutput, error) {
			k, err := a.receipt(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			return &receiptOutput{http.StatusOK, k.Receipt}, nil
		})
	huma.Register(a.api, op("content", http.MethodGet, "/v1/changesets/{id}/content", "Read the octets of a held change set that its author signed", people...), a.content)
	huma.Register(a.api, op("approve", http.MethodPost, "/v1/changesets/{id}/approve", "Let a held change set go, as a second person", Approver), a.approve)
	huma.Register(a.api, op("reject", http.MethodPost, "/v1/changesets/{id}/reject", "Reject a held change set", Approver), a.reject)
	huma.Register(a.api, op("undo", http.MethodPost, "/v1/changesets/{id}/undo", "Undo a whole change set", Publisher, Approver), a.undo)
}

// mayDecide is a held change set's receipt, if who calls may decide about it.
func (a *API) mayDecide(ctx context.Context, id string) (*kept, error) {
	k, err := a.receipt(ctx, id)
	if err != nil {
		return nil, err
	}
	if k.State == Pending && time.Since(time.Unix(k.Touched, 0)) > claimTime { // a crash came between
		if found, err := a.inJournal(ctx, k); err != nil || !found {
			k.State = Held
		}
	}
	if k.State != Held {
		return nil, problem(http.StatusConflict, "path.id", "it is not held but "+string(k.State))
	}
	return k, nil
}

func (a *API) approve(ctx context.Context, in *approveInput) (*receiptOutput, error) {
	k, err := a.mayDecide(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	c := callerOf(ctx)
	if c.Owner == k.Owner || c.Name == k.By {
		return nil, problem(http.StatusForbidden, "", "who pushed a change set cannot approve it: a second person must")
	}
	u, err := a.held(ctx, in.ID)
	if err != nil {
		return nil, a.unavailable("the held change set cannot be read", err)
	}
	defer u.close()
	if err := a.countersign(u, k, in.Body); err != nil {
		return nil, err
	}
	k.Approved = append(k.Approved, c.Name)
	k.State = Pending
	if err := a.save(ctx, k); errors.Is(err, stream.ErrBehind) {
		return nil, problem(http.StatusConflict, "path.id", "somebody else decided just now")
	} else if err != nil {
		return nil, a.unavailable("it was not approved", err)
	}
	out, err := a.publishUpload(ctx, u, k)
	if err == nil {
		a.letGo(ctx, in.ID)
	}
	return out, err
}

// countersign adds the approver's own signature, and checks that there are as many as the key ring asks for.
func (a *API) countersign(u *upload, k *kept, body *approveBody) error {
	digest, err := u.sum()
	if err != nil {
		return a.unavailable("the held change set cannot be read", err)
	}
	if hex.EncodeToString(digest) != k.Digest {
		return a.unavailable("the held change set is damaged", errors.New("its digest is another one"))
	}
	now, st := time.Now().Unix(), a.cfg.Control.State()
	if body != nil {
		signature, err := base64.StdEncoding.DecodeString(body.Signature)
		if err != nil {
			return problem(http.StatusUnprocessableEntity, "body.signature", "not base64")
		}
		s := journal.Signature{Key: body.Key, Bytes: signature}
		if slices.ContainsFunc(u.signatures, func(o journal.Signature) bool { return o.Key == s.Key }) {
			return problem(http.StatusForbidden, "body.key", "that key signed it already: a second person must approve it")
		}
		if len(st.Signers(journal.KindChanges, digest, []journal.Signature{s}, now, journal.RoleApprover, journal.RoleAuthor)) == 0 {
			return problem(http.StatusUnprocessableEntity, "body.signature", "it is no signature over this change set by a key that is an approver's in the key ring")
		}
		u.signatures = append(u.signatures, s)
	}
	all := st.Signers(journal.KindChanges, digest, u.signatures, now, journal.RoleAuthor, journal.RoleApprover)
	if t := st.Threshold(); t.Keys > 1 && u.accepted > t.Changes && len(all) < t.Keys {
		return problem(http.StatusUnprocessableEntity, "body", fmt.Sprintf("it needs the signatures of %d keys, and has %d: approve it with a key (rempart approve --key)", t.Keys, len(all)))
	}
	return nil
}

func (a *API) reject(ctx context.Context, in *idInput) (*receiptOutput, error) {
	k, err := a.mayDecide(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	k.State, k.Note = Rejected, "rejected by "+callerOf(ctx).Name
	if err := a.save(ctx, k); err != nil {
		return nil, a.unavailable("it was not rejected", err)
	}
	a.counts.set(Rejected)
	a.letGo(ctx, in.ID)
	return &receiptOutput{http.StatusOK, k.Receipt}, nil
}

// letGo forgets what was held.
func (a *API) letGo(ctx context.Context, id string) {
	if err := a.holds.Delete(context.WithoutCancel(ctx), id); err != nil {
		a.log.Warn("what was held stays on disk", "id", id, "err", err)
	}
}

// content gives the octets of a held change set, for an approver to look at and to sign.
func (a *API) content(ctx context.Context, in *idInput) (*huma.StreamResponse, error) {
	u, err := a.held(ctx, in.ID)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusNotFound, "path.id", "no change set of that id is held")
	}
	if err != nil {
		return nil, a.unavailable("the held change set cannot be read", err)
	}
	if _, err := u.sum(); err != nil {
		u.close()
		return nil, a.unavailable("the held change set cannot be read", err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer u.close()
		hc.SetHeader("Content-Type", TypeNDJSON)
		if _, err := u.file.Seek(0, io.SeekStart); err == nil {
			_, _ = io.Copy(hc.BodyWriter(), u.file) // the digest tells whether it came whole
		}
	}}, nil
}

type undoOutput struct {
	Status int
	Body   UndoResult
}

// UndoResult is the receipt of the change set that undoes another, and what it left.
type UndoResult struct {
	Receipt
	Left  []string `json:"left,omitempty" doc:"Names that later change sets changed again, and that stay as they are: the first thousand."`
	Lefts int      `json:"lefts" doc:"How many those are."`
}

func (a *API) undo(ctx context.Context, in *idInput) (*undoOutput, error) {
	k, err := a.receipt(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if k.State != Published && k.State != Staged {
		return nil, problem(http.StatusConflict, "path.id", "it is not in force but "+string(k.State))
	}
	return a.undoing(ctx, k, callerOf(ctx))
}

// undoing publishes what leads back from a change set.
func (a *API) undoing(ctx context.Context, k *kept, c *caller) (*undoOutput, error) {
	back, err := a.cfg.Control.Undo(ctx, k.ID)
	if err != nil {
		return nil, a.unavailable("the journal cannot be read", err)
	}
	guards, err := a.cfg.Guards()
	if err != nil {
		return nil, a.unavailable("the guards' lists cannot be read", err)
	}
	j := &judging{view: a.cfg.Control.State().View(), guards: guards, now: time.Now().Unix(), most: 3 * a.cfg.MaxChanges}
	u, err := a.begin(&journal.Set{ID: "undo-" + k.ID, Time: j.now, Comment: "undoes " + k.ID})
	defer u.close()
	if err == nil {
		err = u.enc.Encode(u.set)
	}
	line := 0
	if err == nil {
		for ch := range back.Changes {
			line++
			if err = j.take(u, line, ch, nil, false); err != nil {
				break
			}
		}
	}
	if err != nil {
		return nil, a.unavailable("what leads back was not made", err)
	}
	n := &kept{Content: "undo of " + k.ID, Owner: c.Owner}
	n.Receipt.ID, n.By, n.Undoes, n.Time = u.set.ID, c.Name, k.ID, time.Now().UTC()
	if err := a.signed(u, n); err != nil {
		return nil, err
	}
	n.Accepted, n.Refusals, n.Refused, n.Holds, n.Held = u.accepted, u.refusals, u.refused, u.holds, u.held
	done, err := a.claim(ctx, n)
	if err != nil {
		return nil, err
	}
	out := &undoOutput{http.StatusOK, UndoResult{Left: back.Left, Lefts: back.Lefts}}
	if done != nil {
		out.Body.Receipt = done.Receipt
		return out, nil
	}
	r, err := a.settle(ctx, u, n)
	if err != nil {
		return nil, err
	}
	out.Status, out.Body.Receipt = r.Status, r.Body
	if r.Body.State == Published {
		k.State, k.UndoneBy, k.Stage = Undone, n.ID, nil
		if err := a.save(ctx, k); err != nil {
			a.log.Error("a receipt was not written", "id", k.ID, "err", err)
		}
		a.counts.set(Undone)
	}
	return out, nil
}

// Digest is what is signed of a change set's octets.
func Digest(r io.Reader) ([]byte, error) {
	h := sha512.New()
	_, err := io.Copy(h, bufio.NewReader(r))
	return h.Sum(nil), err
}
