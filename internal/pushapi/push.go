package pushapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
)

// ChangeSet is a change set as one JSON document.
type ChangeSet struct {
	ID      string     `json:"id,omitempty" maxLength:"100" doc:"Unique; pushed again, nothing happens again and the receipt is the same. One is made up where it is missing."`
	Comment string     `json:"comment,omitempty" maxLength:"1000"`
	Expires *time.Time `json:"expires,omitempty" doc:"From when on it must not be published any more."`
	Stage   *StageIn   `json:"stage,omitempty"`
	Changes []Change   `json:"changes" minItems:"1" maxItems:"5000"`
}

// StageIn has a change set go to a share of the nodes first.
type StageIn struct {
	Share   float64 `json:"share" exclusiveMinimum:"0" exclusiveMaximum:"1" doc:"Of the nodes."`
	Seconds int64   `json:"seconds" minimum:"1" maximum:"2592000" doc:"After which it goes on to all by itself, unless they block unusually much or little."`
}

type pushInput struct {
	raw
	Type    string  `header:"Content-Type" default:"application/json"`
	DryRun  bool    `query:"dry_run" doc:"Say what would happen, and do nothing."`
	ID      string  `query:"id" maxLength:"100" doc:"Of a bulk upload: the change set's id."`
	Comment string  `query:"comment" maxLength:"1000" doc:"Of a bulk upload."`
	Share   float64 `query:"stage_share" doc:"Of a bulk upload: the share of the nodes that it goes to first."`
	Seconds int64   `query:"stage_seconds" doc:"Of a bulk upload: after which it goes on to all."`
}

type receiptOutput struct {
	Status int
	Body   Receipt
}

func (a *API) registerPush() {
	huma.Register(a.api, huma.Operation{
		OperationID: "push", Method: http.MethodPost, Path: "/v1/changesets", Summary: "Push a change set",
		Description: "Answers 201 once it is in the journal for good, 202 when it is held for a second person, 200 when it was pushed before or nothing of it counts.",
		Metadata:    may(Publisher), Tags: []string{"change sets"}, Security: secured, DefaultStatus: http.StatusCreated,
		Errors: []int{400, 401, 403, 409, 413, 415, 422, 429, 503},
	}, a.push)
	// Documented after: of a body that it knows when it registers, huma reads all into memory.
	schema := a.api.OpenAPI().Components.Schemas
	a.api.OpenAPI().Paths["/v1/changesets"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		TypeJSON:   {Schema: schema.Schema(typeOf[ChangeSet](), true, "ChangeSet")},
		TypeNDJSON: {Schema: schema.Schema(typeOf[Change](), true, "Change")},
		TypeCSV:    {Schema: &huma.Schema{Type: "string", Description: "The first line names the columns: do, name, scope, category, reason, authority, decision, mark, start, expiry, countries, operators."}},
		TypeSigned: {Schema: &huma.Schema{Type: "string", Description: "What an author signed with a key of its own, as rempart push --key sends it."}},
	}}
}

func (a *API) push(ctx context.Context, in *pushInput) (*receiptOutput, error) {
	select { // an upload takes memory and disk: few at a time
	case a.uploads <- struct{}{}:
		defer func() { <-a.uploads }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	guards, err := a.cfg.Guards()
	if err != nil {
		return nil, a.unavailable("the guards' lists cannot be read", err)
	}
	content := sha256.New()
	j := &judging{view: a.cfg.Control.State().View(), guards: guards, now: time.Now().Unix(), most: a.cfg.MaxChanges}
	u, err := a.read(in, j, io.TeeReader(in.body, content))
	defer u.close()
	if err != nil {
		return nil, err
	}
	j.mass(u)
	k := &kept{Content: hex.EncodeToString(content.Sum(nil)), Owner: callerOf(ctx).Owner}
	if err := a.signed(u, k); err != nil {
		return nil, err
	}
	k.Receipt.ID, k.By, k.Comment, k.Time = u.set.ID, callerOf(ctx).Name, u.set.Comment, time.Now().UTC()
	k.Accepted, k.Refusals, k.Refused, k.Holds, k.Held = u.accepted, u.refusals, u.refused, u.holds, u.held
	if in.DryRun {
		k.State = DryRun
		return &receiptOutput{http.StatusOK, k.Receipt}, nil
	}
	done, err := a.claim(ctx, k)
	if err != nil {
		return nil, err
	}
	if done != nil {
		return &receiptOutput{http.StatusOK, done.Receipt}, nil
	}
	return a.settle(ctx, u, k)
}

// read takes an upload in, by its type.
func (a *API) read(in *pushInput, j *judging, body io.Reader) (*upload, error) {
	mediaType, _, err := mime.ParseMediaType(in.Type)
	if err != nil {
		mediaType = in.Type
	}
	limited := &limitedBody{r: body, left: maxBulk}
	var u *upload
	switch mediaType {
	case TypeSigned:
		u, err = j.readSigned(limited, a.cfg.Dir)
	case TypeNDJSON, TypeCSV:
		u, err = a.readBulk(in, j, limited, mediaType)
	case TypeJSON:
		limited.left = maxJSON
		u, err = a.readJSON(j, limited)
	default:
		return nil, problem(http.StatusUnsupportedMediaType, "header.Content-Type", "one of "+TypeJSON+", "+TypeNDJSON+", "+TypeCSV+" and "+TypeSigned)
	}
	status := huma.StatusError(nil)
	switch {
	case err == nil && u.lines == 0 && u.refusals == 0:
		err = problem(http.StatusUnprocessableEntity, "body", "it holds no change")
	case err == nil, errors.As(err, &status):
	case errors.Is(err, errTooLong), errors.Is(err, errTooMany):
		err = problem(http.StatusRequestEntityTooLarge, "body", err.Error())
	case errors.Is(err, journal.ErrSeal), errors.Is(err, journal.ErrChanges):
		err = problem(http.StatusUnprocessableEntity, "body", err.Error())
	default:
		err = problem(http.StatusBadRequest, "body", err.Error())
	}
	return u, err
}

// readJSON reads a JSON document: a mistake in it is one of the whole.
func (a *API) readJSON(j *judging, body io.Reader) (*upload, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var in ChangeSet
	if err := a.validate(data, &in); err != nil {
		return nil, err
	}
	set := &journal.Set{ID: in.ID, Time: j.now, Comment: in.Comment}
	if in.Expires != nil {
		set.Expires = in.Expires.Unix()
	}
	if in.Stage != nil {
		set.Stage = &journal.Stage{Share: in.Stage.Share, Seconds: in.Stage.Seconds}
	}
	u, err := a.begin(set)
	if err != nil {
		return u, err
	}
	return u, j.readAll(u, in.Changes, a.cfg.Name)
}

// validate reads JSON by its schema, so that each error names the field.
func (a *API) validate(data []byte, in *ChangeSet) error {
	var loose any
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&loose); err != nil {
		return problem(http.StatusBadRequest, "body", "not JSON: "+err.Error())
	}
	if d.More() {
		return problem(http.StatusBadRequest, "body", "more than one JSON value: send lines of changes as "+TypeNDJSON)
	}
	registry := a.api.OpenAPI().Components.Schemas
	path, result := huma.NewPathBuffer([]byte{}, 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(registry, registry.Schema(typeOf[ChangeSet](), true, "ChangeSet"), path, huma.ModeWriteToServer, loose, result)
	if len(result.Errors) > 0 {
		return huma.NewError(http.StatusUnprocessableEntity, "the change set has mistakes: nothing of it was taken", result.Errors...)
	}
	if err := json.Unmarshal(data, in); err != nil {
		return problem(http.StatusUnprocessableEntity, "body", err.Error())
	}
	return nil
}

// readBulk reads lines: a mistake in one is that one's.
func (a *API) readBulk(in *pushInput, j *judging, body io.Reader, mediaType string) (*upload, error) {
	set := &journal.Set{ID: in.ID, Time: j.now, Comment: in.Comment}
	if in.Share != 0 || in.Seconds != 0 {
		set.Stage = &journal.Stage{Share: in.Share, Seconds: in.Seconds}
	}
	u, err := a.begin(set)
	if err != nil {
		return u, err
	}
	if err := u.enc.Encode(set); err != nil {
		return u, err
	}
	return u, ReadChanges(body, mediaType, a.cfg.Name, func(line int, c journal.Change, bad error) error {
		return j.take(u, line, c, bad, false)
	})
}

func (a *API) begin(set *journal.Set) (*upload, error) {
	if set.ID == "" {
		var b [12]byte
		_, _ = rand.Read(b[:]) // never fails
		set.ID = "cs-" + hex.EncodeToString(b[:])
	}
	if first, err := json.Marshal(set); err != nil {
		return nil, err
	} else if _, err := journal.ParseSet(first); err != nil {
		return nil, err
	}
	return newUpload(a.cfg.Dir, set)
}

// signed has the desk sign what no author signed, and checks who signed the rest.
func (a *API) signed(u *upload, k *kept) error {
	sum, err := u.sum()
	if err != nil {
		return a.unavailable("the upload was not kept", err)
	}
	k.Digest = hex.EncodeToString(sum)
	if u.signatures == nil {
		u.signatures = []journal.Signature{a.cfg.Desk.Sign(journal.KindChanges, sum)}
	}
	now := time.Now().Unix()
	if err := u.set.Publishable(now); err != nil {
		return problem(http.StatusUnprocessableEntity, "body.time", err.Error())
	}
	st := a.cfg.Control.State()
	k.Authors = st.Signers(journal.KindChanges, sum, u.signatures, now, journal.RoleAuthor)
	if len(k.Authors) == 0 {
		return problem(http.StatusForbidden, "body", "no key signed it that is an author's in the key ring: have a root grant it that (rempart keys grant)")
	}
	all := st.Signers(journal.KindChanges, sum, u.signatures, now, journal.RoleAuthor, journal.RoleApprover)
	if t := st.Threshold(); t.Keys > 1 && u.accepted > t.Changes && len(all) < t.Keys {
		u.holds++
		u.held = append(u.held, Refusal{Guard: "threshold", Why: fmt.Sprintf("more than %d changes need the signatures of %d keys, and %d signed: approve it with a key", t.Changes, t.Keys, len(all))})
	}
	if !u.small() && (u.scoped || u.set.Stage != nil) {
		return problem(http.StatusUnprocessableEntity, "body", fmt.Sprintf("countries, operators and stages are for at most %d changes", journal.MaxChanges))
	}
	return nil
}

// settle publishes what is claimed, holds it, or says that nothing of it counts.
func (a *API) settle(ctx context.Context, u *upload, k *kept) (*receiptOutput, error) {
	switch {
	case u.accepted == 0:
		k.State = Refused
	case u.holds > 0:
		if err := a.hold(ctx, u, k); err != nil {
			return nil, a.unavailable("the change set was not held", err)
		}
		a.counts.set(Held)
		return &receiptOutput{http.StatusAccepted, k.Receipt}, nil
	default:
		return a.publishUpload(ctx, u, k)
	}
	a.counts.set(k.State)
	if err := a.save(ctx, k); err != nil {
		return nil, a.unavailable("the receipt was not written", err)
	}
	return &receiptOutput{http.StatusOK, k.Receipt}, nil
}

// publishUpload hands an upload to the journal. The receipt is written after: where that fails, the journal says it.
func (a *API) publishUpload(ctx context.Context, u *upload, k *kept) (*receiptOutput, error) {
	ctx = context.WithoutCancel(ctx) // half of it is worse than late
	r, err := a.append(ctx, u, k)
	if errors.Is(err, journal.ErrRefused) {
		k.State, k.Note = Refused, err.Error()
		a.counts.set(Refused)
		if err := a.save(ctx, k); err != nil {
			a.log.Error("a receipt was not written", "id", k.ID, "err", err)
		}
		return nil, problem(http.StatusUnprocessableEntity, "body", err.Error())
	}
	if err != nil {
		return nil, a.unavailable("whether the change set was published is not known; push it again with the same id", err)
	}
	k.State, k.Version, k.Time = Published, r.Version, time.UnixMilli(r.Time).UTC()
	if u.set.Stage != nil {
		k.State, k.Stage = Staged, newStage(u.set.Stage, &journal.Record{Time: r.Time})
		k.Stage.baseline(a.fleet.rates())
	}
	a.counts.set(k.State)
	if err := a.save(ctx, k); err != nil {
		a.log.Error("a receipt was not written; the journal says what it would", "id", k.ID, "err", err)
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
		return a.cfg.Control.Publish(ctx, journal.Draft{Kind: journal.RecordChanges, By: k.By, Approved: k.Approved, Refused: u.skip, Body: body})
	}
	digest, err := u.sum()
	if err != nil {
		return journal.Receipt{}, err
	}
	object, err := a.cfg.Control.PutSet(ctx, u.file)
	if err != nil {
		return journal.Receipt{}, err
	}
	large := &journal.LargeSet{Set: *u.set, Count: u.accepted, Object: object, Digest: digest, Signatures: u.signatures}
	return a.cfg.Control.PublishSnapshot(ctx, journal.Load{By: k.By, Approved: k.Approved, Changes: large, Compile: func(w io.Writer, st *journal.State) error {
		view, err := journal.Apply(st.View(), u.set, u.changes())
		if err != nil {
			return err
		}
		return view.Compact(w, view.Info())
	}})
}

// limitedBody fails where a body is too long, rather than ending it.
type limitedBody struct {
	r    io.Reader
	left int64
}

var errTooLong = errors.New("the upload is too long")

func (l *limitedBody) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLong
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}
