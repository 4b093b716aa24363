package pushapi

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// validation collects the mistakes of a document.
type validation struct {
	registry huma.Registry
	fields   map[string]json.RawMessage // all but the changes, as they were sent
	loose    map[string]any             // the same, decoded
	changes  int
	mistakes []error
}

// maxMistakes is the number of mistakes of a document that the response lists.
const maxMistakes = 100

// errMistakes ends the reading of a document that has enough mistakes.
var errMistakes = errors.New("too many mistakes")

// check validates a value against the schema of a type.
func (v *validation) check(of reflect.Type, hint string, value any, at ...any) {
	path, result := huma.NewPathBuffer([]byte{}, 0), &huma.ValidateResult{}
	for _, step := range at {
		switch step := step.(type) {
		case string:
			path.Push(step)
		case int:
			path.PushIndex(step)
		}
	}
	huma.Validate(v.registry, v.registry.Schema(of, true, hint), path, huma.ModeWriteToServer, value, result)
	v.mistakes = append(v.mistakes, result.Errors...)
}

func (v *validation) mistake(field, why string) {
	v.mistakes = append(v.mistakes, &huma.ErrorDetail{Message: why, Location: field})
}

// field adds a field that is not a list of changes.
func (v *validation) field(name string, raw json.RawMessage) error {
	if _, twice := v.loose[name]; twice {
		v.mistake("body."+changeset.Shorten(name), "the field is present twice")
		return errMistakes
	}
	if len(v.loose) == maxFields {
		v.mistake("body", fmt.Sprintf("more than %d fields", maxFields))
		return errMistakes
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		return err
	}
	v.loose[name] = value
	if name != "changes" {
		v.fields[name] = raw
	}
	return nil
}

// change validates one change.
func (v *validation) change(i int, raw json.RawMessage) error {
	if i == journal.MaxChanges {
		v.mistake("body.changes", fmt.Sprintf("more than %d changes: send a larger change set as lines (%s)", journal.MaxChanges, TypeNDJSON))
		return errMistakes
	}
	v.changes++
	var loose any
	if err := json.Unmarshal(raw, &loose); err != nil {
		return err
	}
	before := len(v.mistakes)
	v.check(typeOf[changeset.Change](), "Change", loose, "body", "changes", i)
	if len(v.mistakes) == before {
		if err := json.Unmarshal(raw, new(changeset.Change)); err != nil {
			v.mistake(fmt.Sprintf("body.changes[%d]", i), changeset.Shorten(err.Error()))
		}
	}
	if len(v.mistakes) >= maxMistakes {
		return errMistakes
	}
	return nil
}

// eachValue reads a document. It calls field for each field of the outermost object, and change for each element of the list "changes";
// an empty list is passed to field. It holds one value at a time. It returns the first error of field and change, or an error if the document is not a JSON
// object.
func eachValue(file io.ReadSeeker, field func(name string, raw json.RawMessage) error, change func(i int, raw json.RawMessage) error) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return changeset.SpoolError(err)
	}
	in := bufio.NewReader(file)
	object, err := beginsObject(in)
	if err != nil {
		return notJSON(err)
	}
	d := newValues(in)
	if !object {
		if _, err := d.next(); err != nil {
			return err
		}
		return d.end(problem(http.StatusUnprocessableEntity, "body", "not a JSON object"))
	}
	if _, err := d.token(); err != nil {
		return err
	}
	for d.more() {
		name, err := d.token()
		if err != nil {
			return err
		}
		if name == "changes" {
			err = d.list(field, change)
		} else if raw, bad := d.next(); bad != nil {
			err = bad
		} else {
			err = field(name.(string), raw) // the decoder accepts only strings as names
		}
		if err != nil {
			return err
		}
	}
	if _, err := d.token(); err != nil {
		return err
	}
	return d.end(nil)
}

// beginsObject reports whether the first JSON value that r holds is an object, and reads the white space before it.
func beginsObject(r *bufio.Reader) (bool, error) {
	for {
		c, err := r.ReadByte()
		if err != nil {
			return false, err
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		}
		return c == '{', r.UnreadByte()
	}
}

// valueReader reads JSON one value at a time, none longer than maxValue.
type valueReader struct {
	d     *json.Decoder
	bound *changeset.BoundedReader
	lists int
}

func newValues(r io.Reader) *valueReader {
	bound := &changeset.BoundedReader{R: r, Most: maxValue, Long: errTooLong}
	bound.Allow(0)
	return &valueReader{d: json.NewDecoder(bound), bound: bound}
}

func (v *valueReader) more() bool {
	v.bound.Allow(v.d.InputOffset())
	return v.d.More()
}

func (v *valueReader) token() (json.Token, error) {
	v.bound.Allow(v.d.InputOffset())
	t, err := v.d.Token()
	return t, notJSON(err)
}

// next returns the next value without decoding it.
func (v *valueReader) next() (json.RawMessage, error) {
	v.bound.Allow(v.d.InputOffset())
	var raw json.RawMessage
	err := v.d.Decode(&raw)
	return raw, notJSON(err)
}

// list reads the changes.
func (v *valueReader) list(field func(name string, raw json.RawMessage) error, change func(i int, raw json.RawMessage) error) error {
	begin, err := v.token()
	if err != nil {
		return err
	}
	if v.lists++; v.lists > 1 {
		return problem(http.StatusUnprocessableEntity, "body.changes", "the field is present twice")
	}
	if begin != json.Delim('[') {
		return problem(http.StatusUnprocessableEntity, "body.changes", "must be a list of changes")
	}
	n := 0
	for ; v.more(); n++ {
		raw, err := v.next()
		if err == nil {
			err = change(n, raw)
		}
		if err != nil {
			return err
		}
	}
	if _, err := v.token(); err != nil {
		return err
	}
	if n == 0 {
		return field("changes", json.RawMessage("[]"))
	}
	return nil
}

// end returns result if the document ends, otherwise an error.
func (v *valueReader) end(result error) error {
	v.bound.Allow(v.d.InputOffset())
	_, err := v.d.Token()
	switch {
	case err == io.EOF:
		return result
	case errors.Is(err, errTooLong), changeset.IsSpoolError(err):
		return err
	}
	return problem(http.StatusBadRequest, "body", "more than one JSON value: send lines of changes as "+TypeNDJSON)
}

// notJSON returns the response to a document that cannot be decoded.
func notJSON(err error) error {
	switch {
	case err == nil, errors.Is(err, errTooLong), changeset.IsSpoolError(err):
		return err
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return problem(http.StatusBadRequest, "body", "not JSON: "+changeset.Shorten(err.Error()))
}
