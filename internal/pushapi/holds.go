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

// maxHeld bounds what is held: each may be large.
const maxHeld = 1000

// hold keeps an upload until a second person decides.
func (a *API) hold(ctx context.Context, u *upload, k *kept) error {
	if len(a.open.ids(Held)) >= maxHeld {
		return fmt.Errorf("%d are held already", maxHeld)
	}
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
	return nil
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
	_, err = io.Copy(u.out, o)
	if err == nil {
		err = u.out.Flush()
	}
	if err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

type idInput struct {
	ID string `path:"id" maxLength:"100" doc:"The change set's."`
}

type approveInput struct {
	settled
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
	const tag, one = "change sets", "/v1/changesets/{id}"
	add(a, operation{id: "changesets", path: "/v1/changesets", tag: tag, roles: people, summary: "List change sets, the newest first"}, a.list)
	add(a, operation{id: "changeset", path: one, tag: tag, roles: people, summary: "Say what became of a change set", errors: []int{404}},
		func(ctx context.Context, in *idInput) (*receiptOutput, error) {
			k, err := a.receipt(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			a.present(ctx, k)
			return &receiptOutput{http.StatusOK, k.Receipt}, nil
		})
	add(a, operation{id: "content", path: one + "/content", tag: tag, roles: people, errors: []int{404}, audited: true,
		summary: "Read the octets of a held change set that its author signed"}, a.content)
	decided := []int{404, 409, 422}
	add(a, operation{id: "approve", method: http.MethodPost, path: one + "/approve", tag: tag, roles: []Role{Approver}, errors: decided, publishes: true,
		summary: "Let a held change set go, as a second person", status: http.StatusCreated}, a.approve)
	add(a, operation{id: "reject", method: http.MethodPost, path: one + "/reject", tag: tag, roles: []Role{Approver}, errors: decided,
		summary: "Reject a held change set"}, a.reject)
	add(a, operation{id: "undo", method: http.MethodPost, path: one + "/undo", tag: tag, roles: []Role{Publisher, Approver}, errors: decided, status: http.StatusCreated, publishes: true,
		summary:     "Undo a whole change set",
		description: "What it said of names is withdrawn, and what operators had said of them before is said again; names that later change sets touched stay as they are."}, a.undo)
}

type listInput struct {
	State string `query:"state" enum:"pending,published,staged,held,rejected,refused,undone" doc:"Only those."`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"1000"`
}

func (a *API) list(ctx context.Context, in *listInput) (*receiptsOutput, error) {
	leave, err := a.turn(ctx, a.lists, "receipts were not read")
	if err != nil {
		return nil, err
	}
	defer leave()
	found, err := a.newest(ctx, in.Limit, func(k *kept) bool { return in.State == "" || string(k.State) == in.State })
	if err != nil {
		return nil, a.unavailable("receipts cannot be read", err)
	}
	out := &receiptsOutput{}
	out.Body.ChangeSets = append([]Receipt{}, found...)
	return out, nil
}

// enterHeld enters the ID of a change set and reads its receipt, if it is held. Whoever decides leaves it afterwards.
func (a *API) enterHeld(ctx context.Context, id string) (k *kept, leave func(), err error) {
	if leave, err = a.enter(ctx, id); err != nil {
		return nil, nil, err
	}
	if k, err = a.undecided(ctx, id); err != nil {
		leave()
		return nil, nil, err
	}
	return k, leave, nil
}

// undecided is a held change set's receipt.
func (a *API) undecided(ctx context.Context, id string) (*kept, error) {
	k, err := a.receipt(ctx, id)
	if err != nil {
		return nil, err
	}
	if k.State == Pending { // a crash came between an approval and its end
		if free, err := a.resolve(ctx, k); err != nil {
			return nil, err
		} else if free {
			k.State = Held
		}
	}
	if k.State != Held {
		return nil, problem(http.StatusConflict, "path.id", "it is not held but "+string(k.State))
	}
	return k, nil
}

func (a *API) approve(ctx context.Context, in *approveInput) (*receiptOutput, error) {
	k, leave, err := a.enterHeld(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	defer leave()
	c := callerOf(ctx)
	if c.Owner == k.Owner || c.Name == k.By {
		return nil, problem(http.StatusForbidden, "", "who pushed a change set cannot approve it: a second person must")
	}
	u, err := a.held(ctx, in.ID)
	if errors.Is(err, stream.ErrNone) {
		return nil, problem(http.StatusConflict, "path.id", "it is not held but "+string(Pending)+": push it again with the same id")
	}
	if err != nil {
		return nil, a.unavailable("the held change set cannot be read", err)
	}
	defer u.close()
	if err := a.countersign(u, k, in.Body); err != nil {
		return nil, err
	}
	k.Approved = []string{c.Name}
	k.State = Pending
	if err := a.save(ctx, k); errors.Is(err, stream.ErrBehind) {
		return nil, problem(http.StatusConflict, "path.id", "somebody else decided just now")
	} else if err != nil {
		return nil, a.unavailable("it was not approved", err)
	}
	out, err := a.publishUpload(ctx, u, k)
	if k.State != Pending {
		a.letGo(ctx, in.ID, k.State != Refused && !u.small())
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
	k, leave, err := a.enterHeld(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	defer leave()
	k.Decider = callerOf(ctx).Name
	if err := a.rejected(ctx, k, "rejected by "+k.Decider); err != nil {
		return nil, a.unavailable("it was not rejected", err)
	}
	return &receiptOutput{http.StatusOK, k.Receipt}, nil
}

// rejected ends a held change set.
func (a *API) rejected(ctx context.Context, k *kept, why string) error {
	k.State, k.Note = Rejected, why
	if err := a.save(ctx, k); err != nil {
		return err
	}
	a.counts.set(Rejected)
	a.letGo(ctx, k.ID, false)
	return nil
}

// letGo forgets what was held; where the journal speaks of its object, that stays.
func (a *API) letGo(ctx context.Context, id string, object bool) {
	ctx = context.WithoutCancel(ctx)
	data, _, err := a.holds.Get(ctx, id)
	if errors.Is(err, stream.ErrNone) {
		return
	}
	var h holding
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err == nil {
		err = a.holds.Delete(ctx, id)
	}
	if err == nil && !object {
		err = a.cfg.Control.Stream.DeleteObject(ctx, h.Object.SHA256+journal.SetSuffix)
	}
	if err != nil {
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
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer u.close()
		hc.SetHeader("Content-Type", TypeNDJSON)
		if _, err := u.file.Seek(0, io.SeekStart); err == nil {
			_, _ = io.Copy(hc.BodyWriter(), u.file) // the digest tells whether it came whole
		}
	}}, nil
}

// Digest is what is signed of a change set's octets.
func Digest(r io.Reader) ([]byte, error) {
	h := sha512.New()
	_, err := io.Copy(h, bufio.NewReader(r))
	return h.Sum(nil), err
}
