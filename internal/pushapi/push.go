package pushapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// ChangeSet is a change set as one JSON document.
type ChangeSet struct {
	ID      string             `json:"id,omitempty" maxLength:"100" doc:"The unique ID of the change set. If a change set with this ID was pushed before, with the same content, its receipt is returned and nothing else happens. If absent, Rempart chooses an ID."`
	Comment string             `json:"comment,omitempty" maxLength:"1000" doc:"A comment for people, which the journal stores."`
	Expires *time.Time         `json:"expires,omitempty" doc:"The time from which on the change set must not be published any more. A held change set that nobody approved is rejected then."`
	Stage   *StageIn           `json:"stage,omitempty" doc:"If present, the roll-out is staged: the change set is in force on a share of the servers first."`
	Changes []changeset.Change `json:"changes" minItems:"1" maxItems:"5000" doc:"The changes of the change set. They are published together."`
}

// StageIn asks for a staged roll-out: the change set is in force on a share of the nodes first.
type StageIn struct {
	Share   float64 `json:"share" exclusiveMinimum:"0" exclusiveMaximum:"1" doc:"The share of the servers on which the change set is in force first."`
	Seconds int64   `json:"seconds" minimum:"1" maximum:"2592000" doc:"The number of seconds after which the change set is extended to all servers. If the first servers block unusually much or little before, Rempart withdraws the change set instead."`
}

// Media types of change sets.
const (
	TypeJSON   = "application/json"     // a ChangeSet
	TypeNDJSON = "application/x-ndjson" // one Change per line
	TypeCSV    = "text/csv"             // the first line names the columns
	TypeSigned = "application/vnd.rempart.changes"
)

type pushInput struct {
	rawBody
	Type        string  `header:"Content-Type"`
	DryRun      bool    `query:"dry_run" doc:"Only check the change set, and return the receipt that it would get."`
	WithoutHeld bool    `query:"without_held" doc:"Publish the changes that no guard holds, and hold the others as a separate change set, which the receipt names. Not possible for a change set that an author signed."`
	ID          string  `query:"id" maxLength:"100" doc:"The ID of a change set that is uploaded as NDJSON or CSV."`
	Comment     string  `query:"comment" maxLength:"1000" doc:"The comment of a change set that is uploaded as NDJSON or CSV."`
	Share       float64 `query:"stage_share" doc:"The share of the servers on which a change set that is uploaded as NDJSON or CSV is in force first."`
	Seconds     int64   `query:"stage_seconds" doc:"The number of seconds after which a staged change set that is uploaded as NDJSON or CSV is extended to all servers."`
}

func (a *API) registerPush() {
	add(a, operation{
		id: "push", method: http.MethodPost, path: "/v1/changesets", tag: changeSets, roles: []Role{Publisher}, summary: "Push a change set",
		description: "The response is 201 once the change set is durably in the journal, 202 if it is held for a second person, and 200 if it was pushed before or none of its changes is applied.",
		status:      http.StatusCreated, publishes: true, errors: []int{400, 408, 413, 415, 422},
	}, a.push)
	// The library would read a body that was documented before the registration into memory as a whole.
	schema := a.api.OpenAPI().Components.Schemas
	a.api.OpenAPI().Paths["/v1/changesets"].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		TypeJSON:   {Schema: schema.Schema(typeOf[ChangeSet](), true, "ChangeSet")},
		TypeNDJSON: {Schema: schema.Schema(typeOf[changeset.Change](), true, "Change")},
		TypeCSV:    {Schema: &huma.Schema{Type: "string", Description: "The first line names the columns, of these: " + changeset.Columns + ". In a cell, countries and operators are separated by spaces."}},
		TypeSigned: {Schema: &huma.Schema{Type: "string", Format: "binary", Description: "A change set that an author signed with its own key, as rempart push --key sends it."}},
	}}
}

func (a *API) push(ctx context.Context, in *pushInput) (*receiptOutput, error) {
	content := sha256.New()
	fmt.Fprintf(content, "%q %q %v %d\n", in.Type, in.Comment, in.Share, in.Seconds)
	j, err := a.sets.NewJudge(in.WithoutHeld)
	if err != nil {
		return nil, err
	}
	defer j.Close()
	u, err := a.read(ctx, in, j, io.TeeReader(in.body, content))
	if err != nil {
		u.Close()
		return nil, err
	}
	defer u.Close()
	callerOf(ctx).about = u.ID()
	return receiptOf(a.sets.Submit(ctx, u, j, changeset.Submission{
		Content: hex.EncodeToString(content.Sum(nil)), By: by(ctx), DryRun: in.DryRun, WithoutHeld: in.WithoutHeld,
	}))
}

// read reads an upload of any media type. The caller closes it, also if there is an error.
func (a *API) read(ctx context.Context, in *pushInput, j *changeset.Judge, body io.Reader) (*changeset.Upload, error) {
	mediaType, _, err := mime.ParseMediaType(in.Type)
	if err != nil {
		mediaType = in.Type
	}
	var u *changeset.Upload
	switch mediaType {
	case TypeSigned, TypeNDJSON, TypeCSV:
		u, err = a.readBulk(ctx, in, j, &limitedReader{body, maxBulk}, mediaType)
	case TypeJSON:
		u, err = a.readJSON(ctx, j, &limitedReader{body, maxJSON})
	default:
		return nil, problem(http.StatusUnsupportedMediaType, "header.Content-Type", "the media type must be one of "+TypeJSON+", "+TypeNDJSON+", "+TypeCSV+" and "+TypeSigned)
	}
	if err == nil && j.IsEmpty(u) {
		err = problem(http.StatusUnprocessableEntity, "body", "the change set has no changes")
	}
	return u, readError(err)
}

// readError returns the response to an upload that cannot be read.
func readError(err error) error {
	status := huma.StatusError(nil)
	switch {
	case err == nil, errors.As(err, &status):
		return err
	case changeset.IsSpoolError(err):
		return changeset.ReadError(err)
	case errors.Is(err, errTooLong):
		return problem(http.StatusRequestEntityTooLarge, "body", err.Error())
	case errors.Is(err, errStalled):
		return problem(http.StatusRequestTimeout, "body", err.Error())
	}
	return changeset.ReadError(err)
}

// readBulk reads an upload of any size: signed, or lines of which each may have a mistake.
func (a *API) readBulk(ctx context.Context, in *pushInput, j *changeset.Judge, body io.Reader, mediaType string) (*changeset.Upload, error) {
	if in.WithoutHeld && mediaType == TypeSigned {
		return nil, problem(http.StatusUnprocessableEntity, "without_held",
			"a signed change set is published as a whole: remove the names that guards hold (a dry run lists them), and push these names as a separate change set")
	}
	leave, busy := a.uploadSlots.enter(ctx, callerOf(ctx).Owner)
	if busy != nil {
		return nil, busy
	}
	defer leave()
	if mediaType == TypeSigned {
		return j.ReadSigned(body)
	}
	set := &journal.ChangeSet{ID: in.ID, Comment: in.Comment}
	if in.Share != 0 || in.Seconds != 0 {
		set.Stage = &journal.Stage{Share: in.Share, Seconds: in.Seconds}
	}
	u, err := j.Create(set)
	if err != nil {
		return u, err
	}
	take := func(line int, c journal.Change, bad error) error { return j.Take(u, line, c, bad) }
	if mediaType == TypeCSV {
		return u, changeset.ReadTable(body, a.cfg.Grammar, take)
	}
	return u, changeset.ReadLines(body, a.cfg.Grammar, take)
}
