package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
	"rempart/internal/journal"
)

const (
	maxValue  = 64 << 10 // bytes of one change of a document, or of another field
	maxFields = 16       // of a document; a change set has fewer
)

// readJSON reads a JSON document. A mistake in one change refuses the whole document. The document waits in a file for its turn, and is
// decoded one change at a time, so that memory does not grow with its size and shape.
func (a *API) readJSON(ctx context.Context, j *changeset.Judge, body io.Reader) (*changeset.Upload, error) {
	leaveSlot, busy := a.documentSlots.enter(ctx, callerOf(ctx).Owner)
	if busy != nil {
		return nil, busy
	}
	defer leaveSlot()
	file, err := spool(a.cfg.Dir, body)
	if err != nil {
		return nil, err
	}
	defer func() { file.Close(); os.Remove(file.Name()) }()
	leave, err := a.documents.Enter(ctx, "the upload was not read")
	if err != nil {
		return nil, err
	}
	defer leave()
	in, err := a.validate(file)
	if err != nil {
		return nil, err
	}
	set := &journal.ChangeSet{ID: in.ID, Comment: in.Comment}
	if in.Expires != nil {
		set.Expires = in.Expires.Unix()
	}
	if in.Stage != nil {
		set.Stage = &journal.Stage{Share: in.Stage.Share, Seconds: in.Stage.Seconds}
	}
	u, err := j.Create(set)
	if err != nil {
		return u, err
	}
	return u, a.readDocument(j, u, file)
}

// spool writes a body to a file in a folder, where it can be read twice. The caller closes and removes the file.
func spool(dir string, body io.Reader) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".upload-*.tmp")
	if err != nil {
		return nil, changeset.SpoolError(err)
	}
	_ = os.Remove(f.Name()) // a system that can remove open files keeps none after a crash; the caller removes it on others
	if _, err = io.Copy(&spoolFile{f}, body); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// spoolFile is a file whose write errors are spool errors of package changeset.
type spoolFile struct{ f *os.File }

func (s *spoolFile) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	if err != nil {
		err = changeset.SpoolError(err)
	}
	return n, err
}

// readDocument judges the changes of a document in which validate found no mistake.
func (a *API) readDocument(j *changeset.Judge, u *changeset.Upload, file io.ReadSeeker) error {
	return eachValue(file, func(string, json.RawMessage) error { return nil }, func(i int, raw json.RawMessage) error {
		var change changeset.Change
		if err := json.Unmarshal(raw, &change); err != nil {
			return err
		}
		c, bad := change.Canonical(a.cfg.Grammar)
		return j.Take(u, i+1, c, bad)
	})
}

// validate checks a document against its schema, so that each error names the field. It returns the change set without its changes.
func (a *API) validate(file io.ReadSeeker) (*ChangeSet, error) {
	v := &validation{registry: a.api.OpenAPI().Components.Schemas, fields: map[string]json.RawMessage{}, loose: map[string]any{}}
	if err := eachValue(file, v.field, v.change); err != nil && !errors.Is(err, errMistakes) {
		return nil, err
	}
	if v.changes > 0 { // each was validated by itself
		v.loose["changes"] = []any{map[string]any{"name": "a.example"}}
	}
	v.check(typeOf[ChangeSet](), "ChangeSet", v.loose, "body")
	if len(v.mistakes) > 0 {
		return nil, huma.NewError(http.StatusUnprocessableEntity, "the change set has mistakes, and none of its changes was accepted", v.mistakes[:min(len(v.mistakes), maxMistakes)]...)
	}
	data, err := json.Marshal(v.fields)
	in := &ChangeSet{}
	if err == nil {
		err = json.Unmarshal(data, in)
	}
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "body", changeset.Shorten(err.Error()))
	}
	return in, nil
}
