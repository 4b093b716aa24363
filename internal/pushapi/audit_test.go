package pushapi_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// entry is an entry of the audit trail.
type entry struct {
	Time                             int64
	Who, Call, ID, Outcome, Previous string
}

// trail reads the stored audit trail, and checks its hash chain and its signatures.
func (f *fixture) trail(t testing.TB) (all []entry) {
	t.Helper()
	previous := ""
	err := f.stream.EachAudit(t.Context(), 1, func(r stream.Record) error {
		s, err := signing.Unseal(signing.KindAudit, r.Data)
		if err != nil {
			return err
		}
		if !s.SignedBy(f.control.PublicKey) {
			return fmt.Errorf("entry %d is not signed by control", r.Sequence)
		}
		var e entry
		if err := json.Unmarshal(s.Payload, &e); err != nil {
			return err
		}
		if e.Previous != previous || e.Time == 0 {
			return fmt.Errorf("entry %d does not follow the one before: %+v", r.Sequence, e)
		}
		sum := sha256.Sum256(r.Data)
		previous = hex.EncodeToString(sum[:])
		all = append(all, e)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCallsAreAudited checks that each call that changes something, or that shows who did what, is in the audit trail with its caller and its result.
func TestCallsAreAudited(t *testing.T) {
	f := start(t, setting{})
	f.published(t, set("one", "one.example"))
	f.held(t, "ada", "two")
	f.post(t, "ada", "/v1/changesets/two/approve")
	f.post(t, "eve", "/v1/changesets/two/approve")
	f.undo(t, "one")
	f.get(t, "joe", "/v1/names/one.example/log")
	f.push(t, "ada", map[string]any{"changes": "none"})
	f.call(t, "ada", "POST", "/v1/suspend", pushapi.TypeJSON, strings.NewReader(`{"reason":"x"}`))
	f.get(t, "", "/v1/nodes")
	f.order(t, pushapi.Order{Name: "mallory", Roles: []pushapi.Role{pushapi.Publisher}}, f.unknown)
	made := into[changeset.Receipt](t, f.push(t, "bob", set("", "three.example")), http.StatusCreated)
	waitFor(t, "the last outcome", func() bool {
		all := f.trail(t)
		last := all[len(all)-1]
		return last.ID == made.ID && last.Outcome == "Created"
	})
	var got []string
	for _, e := range f.trail(t) {
		if !strings.HasPrefix(e.Who, "root+") {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s: %s", e.Who, e.Call, e.ID, e.Outcome)))
		} else if !strings.HasPrefix(e.ID, "create ") {
			t.Errorf("unexpected audit entry %+v", e)
		}
	}
	want := []string{
		"ada POST /v1/changesets : asked", "ada POST /v1/changesets one: Created",
		"ada POST /v1/changesets : asked", "ada POST /v1/changesets two: Accepted",
		"ada POST /v1/changesets/{id}/approve two: refused: role",
		"eve POST /v1/changesets/{id}/approve two: asked", "eve POST /v1/changesets/{id}/approve two: Created",
		"bob POST /v1/changesets/{id}/undo one: asked", "bob POST /v1/changesets/{id}/undo one: Created",
		"joe GET /v1/names/{name}/log one.example: OK",
		"ada POST /v1/changesets : asked", "ada POST /v1/changesets : Unprocessable Entity",
		"ada POST /v1/suspend : asked", "ada POST /v1/suspend : OK",
		"bob POST /v1/changesets : asked", "bob POST /v1/changesets " + made.ID + ": Created",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	f.stop()
	again := start(t, setting{keys: f.keys, dir: f.dir})
	again.secret = f.secret
	again.published(t, set("after", "after.example"))
	if n := len(again.trail(t)); n <= len(got)+6 {
		t.Errorf("%d entries", n)
	}
	lines := again.get(t, "joe", "/v1/audit?from=3")
	if n := bytes.Count(lines.body, []byte("\n")); lines.status != http.StatusOK || n < len(got) || lines.header.Get("Content-Type") != pushapi.TypeNDJSON {
		t.Errorf("%d lines, %s", n, lines)
	}
	var e entry
	if err := json.Unmarshal(lines.body[:bytes.IndexByte(lines.body, '\n')], &e); err != nil || e.Who == "" {
		t.Errorf("first audit entry: %+v, %v; want one with a caller", e, err)
	}
	if sealed := again.get(t, "joe", "/v1/audit?sealed=true"); !bytes.HasPrefix(sealed.body, []byte("rempart/1 audit\n")) {
		t.Errorf("sealed audit trail: %.200s, want signed entries", sealed)
	}
}

// TestPollingReadsAreNotAudited checks that reads which programs repeat are not in the audit trail unless the caller lacks the role, and that consecutive
// reads of the trail by one caller become one entry.
func TestPollingReadsAreNotAudited(t *testing.T) {
	f := start(t, setting{})
	r := f.published(t, set("one", "one.example"))
	f.held(t, "ada", "two")
	waitFor(t, "the last outcome", func() bool {
		all := f.trail(t)
		return all[len(all)-1].ID == "two" && all[len(all)-1].Outcome == "Accepted"
	})
	before := len(f.trail(t))
	for range 5 {
		for _, path := range []string{"/v1/nodes", "/v1/versions/" + digits(r.Version), "/v1/versions/999", "/v1/changesets", "/v1/changesets/one", "/v1/names/one.example"} {
			f.get(t, "ada", path)
		}
	}
	f.get(t, "node", "/v1/nodes") // the token of a node lacks the role
	f.get(t, "joe", "/v1/tokens")
	f.get(t, "joe", "/v1/changesets/two/content")
	for range 5 {
		f.get(t, "joe", "/v1/audit")
	}
	f.get(t, "joe", "/v1/names/one.example/log")
	f.get(t, "joe", "/v1/audit")
	want := []string{
		"node GET /v1/nodes: refused: role", "joe GET /v1/tokens: OK", "joe GET /v1/changesets/{id}/content: OK", "joe GET /v1/audit: OK",
		"joe GET /v1/names/{name}/log: OK", "joe GET /v1/audit: OK",
	}
	var got []string
	waitFor(t, "the last read", func() bool {
		got = nil
		for _, e := range f.trail(t)[before:] {
			got = append(got, e.Who+" "+e.Call+": "+e.Outcome)
		}
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestNothingChangesWithoutAuditTrail calls the API while the journal is not reachable: nothing changes, and the caller gets an error.
func TestNothingChangesWithoutAuditTrail(t *testing.T) {
	f := start(t, setting{idle: true})
	f.published(t, set("one", "one.example"))
	before := f.journ.State().Version
	f.stream.Close()
	for _, path := range []string{"/v1/changesets/one/undo", "/v1/suspend"} {
		a := f.call(t, "ada", "POST", path, pushapi.TypeJSON, strings.NewReader(`{"reason":"x"}`))
		refused(t, a, http.StatusServiceUnavailable, "")
	}
	refused(t, f.push(t, "ada", set("two", "two.example")), http.StatusServiceUnavailable, "")
	refused(t, f.order(t, pushapi.Order{Name: "new", Roles: []pushapi.Role{pushapi.Node}}, f.root), http.StatusServiceUnavailable, "")
	if v := f.journ.State().Version; v != before {
		t.Errorf("version %d after %d", v, before)
	}
	f.wants(t, "one.example", blocklist.BlockedBy)
	f.wants(t, "two.example", blocklist.Pass)
}

// TestClientAddressIsNeverWritten checks that no output or stored data contains the client's address.
func TestClientAddressIsNeverWritten(t *testing.T) {
	f := start(t, setting{})
	f.published(t, set("one", "one.example"))
	f.held(t, "ada", "two")
	f.get(t, "", "/v1/nodes")
	f.push(t, "ada", set("three", "co.uk"))
	f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeNDJSON, strings.NewReader("?"))
	f.undo(t, "one")
	var sinks bytes.Buffer
	add := func(what string, data []byte) { fmt.Fprintf(&sinks, "%s: %s\n", what, data) }
	add("log", []byte(f.logged.String()))
	if err := f.journ.Each(t.Context(), func(r *journal.Record, body []byte) error {
		head, err := json.Marshal(r)
		add("journal", append(head, body...))
		return err
	}); err != nil {
		t.Error(err)
	}
	for _, e := range f.trail(t) {
		add("audit", fmt.Append(nil, e))
	}
	for _, b := range []string{stream.Tokens, stream.Holds, stream.Receipts} {
		if err := f.stream.Bucket(b).Each(t.Context(), func(key string, value []byte) error { add(b+" "+key, value); return nil }); err != nil {
			t.Error(err)
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(f.api.Collector())
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, m := range families {
		have[m.GetName()] = true
		add("metric", []byte(m.String()))
	}
	for _, name := range []string{"calls_total", "changesets_total", "changes_total", "held", "nodes"} {
		if !have["rempart_push_"+name] {
			t.Errorf("no metric %s", name)
		}
	}
	for _, address := range []string{"127.0.0.1", "::1", "localhost"} {
		for line := range strings.Lines(sinks.String()) {
			if strings.Contains(line, address) {
				t.Errorf("the client's address is in the line %.500s", line)
			}
		}
	}
}
