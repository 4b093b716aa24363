package pushapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/journal"
)

const (
	maxValue  = 64 << 10 // bytes of one change of a document, or of another field
	maxFields = 16       // of a document; a change set has fewer
)

// readJSON reads a JSON document: a mistake in it is one of the whole. The document waits in a file for its turn, and is read there one change at a time, so that
// its size and shape do not matter to memory.
func (a *API) readJSON(ctx context.Context, j *judging, body io.Reader) (*upload, error) {
	gone, busy := a.small.enter(ctx, callerOf(ctx).Owner)
	if busy != nil {
		return nil, busy
	}
	defer gone()
	file, err := spool(a.cfg.Dir, body)
	if err != nil {
		return nil, err
	}
	defer func() { file.Close(); os.Remove(file.Name()) }()
	leave, err := a.turn(ctx, a.documents, "the upload was not read")
	if err != nil {
		return nil, err
	}
	defer leave()
	in, err := a.validate(file)
	if err != nil {
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
	if err == nil {
		err = a.setApart(j, set)
	}
	if err != nil {
		return u, err
	}
	return u, j.readDocument(u, file, a.cfg.Grammar)
}

// spool writes a body to a file in a folder, where it can be read twice. The caller closes and removes the file.
func spool(dir string, body io.Reader) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".upload-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	_ = os.Remove(f.Name()) // where files that are open can go, a crash leaves none; the caller removes others
	if _, err = io.Copy(&spooling{f}, body); err != nil {
		f.Close()
		os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

// spooling is a file whose errors are errSpool.
type spooling struct{ f *os.File }

func (s *spooling) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	if err != nil {
		err = fmt.Errorf("%w: %w", errSpool, err)
	}
	return n, err
}

// readDocument judges the changes of a document that validate found to be right.
func (j *judging) readDocument(u *upload, file io.ReadSeeker, g Grammar) error {
	return eachValue(file, func(string, json.RawMessage) error { return nil }, func(i int, raw json.RawMessage) error {
		var change Change
		if err := json.Unmarshal(raw, &change); err != nil {
			return err
		}
		c, bad := change.signed(g)
		if c.Name == "" {
			c.Name = change.Name
		}
		return j.take(u, i+1, c, bad, false)
	})
}

// validate reads a document by its schema, so that each error names the field. The change set that it returns lacks its changes.
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
		return nil, huma.NewError(http.StatusUnprocessableEntity, "the change set has mistakes: nothing of it was taken", v.mistakes[:min(len(v.mistakes), maxMistakes)]...)
	}
	data, err := json.Marshal(v.fields)
	in := &ChangeSet{}
	if err == nil {
		err = json.Unmarshal(data, in)
	}
	if err != nil {
		return nil, problem(http.StatusUnprocessableEntity, "body", cut(err.Error()))
	}
	return in, nil
}
