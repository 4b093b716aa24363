package pushapi_test

import (
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"

	"rempart/internal/changeset"
	"rempart/internal/pushapi"
)

// TestManyDocumentsAtOnce checks that memory stays bounded while twelve documents arrive at once, each of which needs many times its size when decoded.
func TestManyDocumentsAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("under the race detector, uploads exceed their time limit and memory cannot be compared")
	}
	f := start(t, setting{})
	const size = 4<<20 - 1000
	fill := func(begin, piece, end string) string {
		return begin + strings.Repeat(piece, (size-len(begin)-len(end))/len(piece)) + end
	}
	countries := `{"name":"x.example","countries":[` + strings.Repeat(`"FR",`, 12_000) + `"FR"]},`
	for what, doc := range map[string]string{
		"lists in a field":     fill(`{"comment":"x","x":[`, `[],`, `[]],"changes":[{"name":"a.example"}]}`),
		"lists for changes":    fill(`{"changes":[`, `[],`, `[]]}`),
		"objects":              fill(`{"changes":[`, `{},`, `{}]}`),
		"fields":               fill(`{`, `"a":0,`, `"b":0}`),
		"fields of a change":   fill(`{"changes":[{`, `"a":0,`, `"b":0}]}`),
		"long lists":           fill(`{"changes":[`, countries, `{"name":"a.example"}]}`),
		"list as the document": fill(`[`, `[],`, `[]]`),
	} {
		t.Run(what, func(t *testing.T) {
			runtime.GC()
			base := peak()()
			most := peak()
			var all sync.WaitGroup
			for range 12 {
				all.Go(func() {
					a := f.call(t, "ada", "POST", "/v1/changesets?dry_run=true", pushapi.TypeJSON, strings.NewReader(doc))
					if a.status/100 == 5 || len(a.body) > 1<<20 {
						t.Errorf("status %d, want an error below 500 and a short body: %.200s", a.status, a.body)
					}
				})
			}
			all.Wait()
			if got := most(); got > base+128<<20 {
				t.Errorf("peak heap %d MiB from %d", got>>20, base>>20)
			} else {
				t.Logf("peak heap %d MiB from %d", got>>20, base>>20)
			}
		})
	}
}

// TestUnusualJSONDocuments checks that valid documents in unusual JSON are accepted, and that documents with errors which a streaming decoder may overlook are
// refused.
func TestUnusualJSONDocuments(t *testing.T) {
	f := start(t, setting{})
	for what, c := range map[string]struct {
		body   string
		status int
		field  string
	}{
		"changes first":               {`{"changes":[{"name":"a.example"}],"id":"first","comment":"c"}`, http.StatusCreated, ""},
		"white space":                 {" \r\n\t" + `{ "id" : "white" , "changes" : [ { "name" : "b.example" } ] } ` + strings.Repeat("\n", 1000), http.StatusCreated, ""},
		"5,000":                       {`{"changes":[{"name":"n.example"}` + strings.Repeat(`,{"name":"n.example"}`, 4999) + `]}`, http.StatusCreated, ""},
		"5,001":                       {`{"changes":[{"name":"n.example"}` + strings.Repeat(`,{"name":"n.example"}`, 5000) + `]}`, 422, "body.changes"},
		"error in the last change":    {`{"changes":[{"name":"c.example"},{"name":"d.example","colour":"red"}]}`, 422, "body.changes[1].colour"},
		"changes twice":               {`{"changes":[{"name":"c.example"}],"changes":[{"name":"d.example"}]}`, 422, "body.changes"},
		"empty changes, then changes": {`{"changes":[],"changes":[{"name":"d.example"}]}`, 422, "body.changes"},
		"id twice":                    {`{"id":"a","id":"b","changes":[{"name":"d.example"}]}`, 422, "body.id"},
		"key in another case":         {`{"Changes":[{"name":"d.example"}]}`, 422, "body"},
		"changes are an object":       {`{"changes":{"name":"d.example"}}`, 422, "body.changes"},
		"null":                        {`{"changes":null}`, 422, "body.changes"},
		"unknown field and cut short": {`{"changes":[{"colour":1},`, 400, "body"},
		"no comma":                    {`{"changes":[{"name":"c.example"} {"name":"d.example"}]}`, 400, "body"},
		"many fields":                 {`{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"g":1,"h":1,"i":1,"j":1,"k":1,"l":1,"m":1,"n":1,"o":1,"p":1,"q":1,"changes":[{"name":"c.example"}]}`, 422, "body"},
	} {
		a := f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeJSON, strings.NewReader(c.body))
		if a.status != c.status {
			t.Errorf("%s: %.300s, want status %d", what, a, c.status)
		} else if c.field != "" {
			refused(t, a, c.status, c.field)
		}
	}
	r := into[changeset.Receipt](t, f.get(t, "ada", "/v1/changesets/first"), http.StatusOK)
	if r.Comment != "c" || r.Accepted != 1 {
		t.Errorf("receipt %+v, want the comment c and one accepted change", r)
	}
}
