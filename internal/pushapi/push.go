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
	"regexp"
	"strings"
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
	add(a, operation{
		id: "push", method: http.MethodPost, path: "/v1/changesets", tag: "change sets", roles: []Role{Publisher}, summary: "Push a change set",
		description: "Answers 201 once it is in the journal for good, 202 when it is held for a second person, 200 when it was pushed before or nothing of it counts.",
		status:      http.StatusCreated, errors: []int{400, 408, 409, 413, 415, 422},
	}, a.push)
	// What is documented after it was registered the library does not read itself: all of it, into memory.
	schema := a.api.OpenAPI().Components.Schemas
	a.api.OpenAPI().Paths["/v1/changesets"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		TypeJSON:   {Schema: schema.Schema(typeOf[ChangeSet](), true, "ChangeSet")},
		TypeNDJSON: {Schema: schema.Schema(typeOf[Change](), true, "Change")},
		TypeCSV:    {Schema: &huma.Schema{Type: "string", Description: "The first line names the columns, of " + strings.Join(columns, ", ") + "; countries and operators are separated by spaces."}},
		TypeSigned: {Schema: &huma.Schema{Type: "string", Format: "binary", Description: "What an author signed with a key of its own, as rempart push --key sends it."}},
	}}
}

func (a *API) push(ctx context.Context, in *pushInput) (*receiptOutput, error) {
	guards, err := a.cfg.Guards()
	if err != nil {
		return nil, a.unavailable("the guards' lists cannot be read", err)
	}
	c := callerOf(ctx)
	content := sha256.New()
	fmt.Fprintf(content, "%q %q %v %d\n", in.Type, in.Comment, in.Share, in.Seconds)
	j := &judging{view: a.cfg.Control.State().View(), guards: guards, now: time.Now().Unix(), most: a.cfg.MaxChanges}
	u, err := a.read(ctx, in, j, io.TeeReader(in.body, content))
	defer u.close()
	if err != nil {
		return nil, err
	}
	c.about = u.set.ID
	j.mass(u)
	k := &kept{Content: hex.EncodeToString(content.Sum(nil)), Owner: c.Owner}
	if err := a.signed(u, k); err != nil {
		return nil, err
	}
	k.describe(u, c)
	if in.DryRun {
		k.State = DryRun
		return &receiptOutput{http.StatusOK, k.Receipt}, nil
	}
	leave, err := a.enter(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	defer leave()
	done, err := a.claim(ctx, k)
	if err != nil {
		return nil, err
	}
	if done != nil {
		return &receiptOutput{http.StatusOK, done.Receipt}, nil
	}
	a.counts.acts(j.acts)
	return a.settle(ctx, u, k)
}

// describe writes down what an upload is.
func (k *kept) describe(u *upload, c *caller) {
	k.Receipt.ID, k.By, k.Comment, k.Time, k.Until = u.set.ID, c.Name, u.set.Comment, time.Now().UTC(), u.set.End()
	k.Accepted, k.Refusals, k.Refused, k.Holds, k.Held = u.accepted, u.refusals, u.refused, u.holds, u.held
}

// read takes an upload in, by its type.
func (a *API) read(ctx context.Context, in *pushInput, j *judging, body io.Reader) (*upload, error) {
	mediaType, _, err := mime.ParseMediaType(in.Type)
	if err != nil {
		mediaType = in.Type
	}
	var u *upload
	switch mediaType {
	case TypeSigned, TypeNDJSON, TypeCSV:
		leave, busy := a.uploads.enter(callerOf(ctx).Owner)
		if busy != nil {
			return nil, busy
		}
		defer leave()
		if body = (&limited{body, maxBulk}); mediaType == TypeSigned {
			u, err = j.readSigned(body, a.cfg.Dir)
		} else {
			u, err = a.readBulk(in, j, body, mediaType)
		}
	case TypeJSON:
		u, err = a.readJSON(ctx, j, &limited{body, maxJSON})
	default:
		return nil, problem(http.StatusUnsupportedMediaType, "header.Content-Type", "one of "+TypeJSON+", "+TypeNDJSON+", "+TypeCSV+" and "+TypeSigned)
	}
	if err == nil && u.lines == 0 && u.refusals == 0 {
		err = problem(http.StatusUnprocessableEntity, "body", "it holds no change")
	}
	return u, a.unreadable(err)
}

// unreadable is the answer to an upload that cannot be read.
func (a *API) unreadable(err error) error {
	status, where, line := huma.StatusError(nil), "body", (*lineError)(nil)
	if errors.As(err, &line) {
		where = fmt.Sprintf("body.line[%d]", line.line)
	}
	switch {
	case err == nil, errors.As(err, &status):
		return err
	case errors.Is(err, errSpool):
		return a.unavailable("the upload was not kept", err)
	case errors.Is(err, errTooLong), errors.Is(err, errTooMany):
		return problem(http.StatusRequestEntityTooLarge, "body", err.Error())
	case errors.Is(err, errStalled):
		return problem(http.StatusRequestTimeout, "body", err.Error())
	case errors.Is(err, errID):
		return problem(http.StatusUnprocessableEntity, "id", err.Error())
	case errors.Is(err, journal.ErrSeal), errors.Is(err, journal.ErrChanges):
		return problem(http.StatusUnprocessableEntity, where, err.Error())
	}
	return problem(http.StatusBadRequest, where, cut(err.Error()))
}

// readJSON reads a JSON document: a mistake in it is one of the whole.
func (a *API) readJSON(ctx context.Context, j *judging, body io.Reader) (*upload, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	select { // taken apart it is much larger than it is
	case a.documents <- struct{}{}:
		defer func() { <-a.documents }()
	case <-ctx.Done():
		return nil, a.unavailable("the upload was not read", ctx.Err())
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
		return problem(http.StatusBadRequest, "body", "not JSON: "+cut(err.Error()))
	}
	if _, err := d.Token(); err != io.EOF {
		return problem(http.StatusBadRequest, "body", "more than one JSON value: send lines of changes as "+TypeNDJSON)
	}
	registry := a.api.OpenAPI().Components.Schemas
	path, result := huma.NewPathBuffer([]byte{}, 0), &huma.ValidateResult{}
	path.Push("body")
	huma.Validate(registry, registry.Schema(typeOf[ChangeSet](), true, "ChangeSet"), path, huma.ModeWriteToServer, loose, result)
	if len(result.Errors) > 0 {
		return huma.NewError(http.StatusUnprocessableEntity, "the change set has mistakes: nothing of it was taken", result.Errors[:min(len(result.Errors), maxMistakes)]...)
	}
	if err := json.Unmarshal(data, in); err != nil {
		return problem(http.StatusUnprocessableEntity, "body", cut(err.Error()))
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
	return u, ReadChanges(body, mediaType, a.cfg.Name, func(line int, c journal.Change, bad error) error {
		return j.take(u, line, c, bad, false)
	})
}

// begin begins an upload that the desk signs.
func (a *API) begin(set *journal.Set) (*upload, error) {
	if set.ID == "" {
		var b [12]byte
		_, _ = rand.Read(b[:]) // never fails
		set.ID = "cs-" + hex.EncodeToString(b[:])
	}
	if err := checkID(set.ID); err != nil {
		return nil, err
	}
	return a.write(set)
}

// write begins an upload with the set's line.
func (a *API) write(set *journal.Set) (*upload, error) {
	if line, err := json.Marshal(set); err != nil {
		return nil, err
	} else if _, err := journal.ParseSet(line); err != nil {
		return nil, err
	}
	u, err := newUpload(a.cfg.Dir, set)
	if err != nil {
		return nil, err
	}
	return u, u.encode(set)
}

var (
	idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,99}$`)
	errID  = errors.New("not the id of a change set")
)

// checkID checks an ID that others chose. What undoes another set has an ID that nobody can take before.
func checkID(id string) error {
	switch {
	case !idForm.MatchString(id):
		return fmt.Errorf("%w: 1 to 100 of letters, digits and . _ : @ + = ~ -, a letter or digit first", errID)
	case strings.HasPrefix(id, undoBegin):
		return fmt.Errorf("%w: %s begins those of sets that undo others", errID, undoBegin)
	}
	return nil
}

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
	if err != nil {
		return nil, a.unavailable("whether the change set was published is not known; push it again with the same id", err)
	}
	a.published(k, u.set, r)
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
	waiting, cancel := context.WithTimeout(ctx, smallTime/2)
	defer cancel()
	select {
	case a.records <- struct{}{}:
		defer func() { <-a.records }()
	case <-waiting.Done():
		return journal.Receipt{}, errors.New("the journal is slow: others wait for it already")
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), smallTime)
	defer stop()
	return a.cfg.Control.Publish(ctx, d)
}
