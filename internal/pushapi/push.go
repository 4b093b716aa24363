package pushapi

import (
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
	Type        string  `header:"Content-Type"`
	DryRun      bool    `query:"dry_run" doc:"Say what would happen, and do nothing."`
	WithoutHeld bool    `query:"without_held" doc:"Publish what no guard holds now, and hold the rest as a change set of its own, which the receipt names. Not for what an author signed."`
	ID          string  `query:"id" maxLength:"100" doc:"Of a bulk upload: the change set's id."`
	Comment     string  `query:"comment" maxLength:"1000" doc:"Of a bulk upload."`
	Share       float64 `query:"stage_share" doc:"Of a bulk upload: the share of the nodes that it goes to first."`
	Seconds     int64   `query:"stage_seconds" doc:"Of a bulk upload: after which it goes on to all."`
}

type receiptOutput struct {
	Status int
	Body   Receipt
}

func (a *API) registerPush() {
	add(a, operation{
		id: "push", method: http.MethodPost, path: "/v1/changesets", tag: "change sets", roles: []Role{Publisher}, summary: "Push a change set",
		description: "Answers 201 once it is in the journal for good, 202 when it is held for a second person, 200 when it was pushed before or nothing of it counts.",
		status:      http.StatusCreated, publishes: true, errors: []int{400, 408, 413, 415, 422},
	}, a.push)
	// What is documented after it was registered the library does not read itself: all of it, into memory.
	schema := a.api.OpenAPI().Components.Schemas
	a.api.OpenAPI().Paths["/v1/changesets"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		TypeJSON:   {Schema: schema.Schema(typeOf[ChangeSet](), true, "ChangeSet")},
		TypeNDJSON: {Schema: schema.Schema(typeOf[Change](), true, "Change")},
		TypeCSV:    {Schema: &huma.Schema{Type: "string", Description: "The first line names the columns, of " + Columns + "; countries and operators are separated by spaces."}},
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
	j := &judging{view: a.cfg.Control.State().View(), guards: guards, now: time.Now().Unix(), most: a.cfg.MaxChanges, split: in.WithoutHeld}
	defer func() { j.apart.close() }()
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
	a.reach(k)
	if v := j.apart; v != nil && v.lines > 0 {
		if k.HeldAs, k.SetApart = v.set.ID, v.lines; u.accepted == 0 {
			k.Note = "all of it is set apart"
		}
	}
	if in.DryRun {
		k.State = DryRun
		return &receiptOutput{http.StatusOK, k.Receipt}, nil
	}
	leave, err := a.enter(ctx, k.ID)
	if err != nil {
		return nil, err
	}
	defer leave()
	done, err := a.claimPush(ctx, u, k, in.WithoutHeld)
	if err != nil {
		return nil, err
	}
	if done != nil {
		a.present(ctx, done)
		return &receiptOutput{http.StatusOK, done.Receipt}, nil
	}
	if k.HeldAs != "" { // before the rest is published: a repeated push finds both, or does both
		if _, err := a.holdApart(ctx, j.apart, k, c); err != nil {
			return nil, err
		}
	}
	a.counts.acts(j.acts)
	return a.settle(ctx, u, k)
}

// describe writes down what an upload is.
func (k *kept) describe(u *upload, c *caller) {
	k.Receipt.ID, k.By, k.Comment, k.Time, k.Until = u.set.ID, c.Name, u.set.Comment, time.Now().UTC(), u.set.End()
	k.Accepted, k.Refusals, k.Refused, k.Holds, k.Held = u.accepted, u.refusals, u.refused, u.holds, u.held
	if k.Audience = u.audience; u.set.Stage != nil {
		k.Audience.Share = u.set.Stage.Share
	}
}

// read takes an upload in, by its type.
func (a *API) read(ctx context.Context, in *pushInput, j *judging, body io.Reader) (*upload, error) {
	mediaType, _, err := mime.ParseMediaType(in.Type)
	if err != nil {
		mediaType = in.Type
	}
	var u *upload
	if err := in.refuseSplit(mediaType); err != nil {
		return nil, err
	}
	switch mediaType {
	case TypeSigned, TypeNDJSON, TypeCSV:
		leave, busy := a.uploads.enter(ctx, callerOf(ctx).Owner)
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
	if err == nil && u.lines == 0 && u.refusals == 0 && (j.apart == nil || j.apart.lines == 0) {
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

// readBulk reads lines: a mistake in one is that one's.
func (a *API) readBulk(in *pushInput, j *judging, body io.Reader, mediaType string) (*upload, error) {
	set := &journal.Set{ID: in.ID, Time: j.now, Comment: in.Comment}
	if in.Share != 0 || in.Seconds != 0 {
		set.Stage = &journal.Stage{Share: in.Share, Seconds: in.Seconds}
	}
	u, err := a.begin(set)
	if err == nil {
		err = a.setApart(j, set)
	}
	if err != nil {
		return u, err
	}
	return u, ReadChanges(body, mediaType, a.cfg.Grammar, func(line int, c journal.Change, bad error) error {
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
