package pushapi_test

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"rempart/internal/journal/stream"
)

// edit changes fields of a stored receipt. If the receipt does not exist, edit creates it.
func (f *fixture) edit(t testing.TB, id string, with map[string]any) {
	t.Helper()
	f.editKept(t, stream.Receipts, id, func(m map[string]any) {
		m["id"] = id
		maps.Copy(m, with)
	})
}

// editToken changes a stored token.
func (f *fixture) editToken(t testing.TB, name string, change func(map[string]any)) {
	t.Helper()
	f.editKept(t, stream.Tokens, "name/"+name, change)
}

// due makes the stage of a change set end now.
func (f *fixture) due(t testing.TB, id string) {
	t.Helper()
	f.editKept(t, stream.Receipts, id, func(m map[string]any) { m["stage"].(map[string]any)["until"] = time.Now().Unix() })
}

// editKept changes the JSON object under a key of a bucket, or creates it. It repeats the change if control changed the object at the same time.
func (f *fixture) editKept(t testing.TB, bucket, key string, change func(map[string]any)) {
	t.Helper()
	waitFor(t, "a change of "+key, func() bool {
		b, m := f.stream.Bucket(bucket), map[string]any{}
		data, revision, err := b.Get(t.Context(), key)
		none := errors.Is(err, stream.ErrNone)
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil && !none {
			t.Fatal(err)
		}
		change(m)
		if data, err = json.Marshal(m); err == nil && none {
			_, err = b.Create(t.Context(), key, data)
		} else if err == nil {
			_, err = b.Update(t.Context(), key, data, revision)
		}
		if err != nil && !errors.Is(err, stream.ErrBehind) && !errors.Is(err, stream.ErrExists) {
			t.Fatal(err)
		}
		return err == nil
	})
}
