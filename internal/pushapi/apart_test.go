package pushapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/pushapi"
)

// pushSplit pushes names as NDJSON with without_held=true, so that control puts the names that guards hold into a change set of their own.
func (f *fixture) pushSplit(t testing.TB, id, query string, names ...string) *answer {
	t.Helper()
	return f.call(t, "ada", "POST", "/v1/changesets?id="+id+"&without_held=true"+query, pushapi.TypeNDJSON, strings.NewReader(lines(names)))
}

// lines returns changes that block names, one per line.
func lines(names []string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "{\"name\":%q,\"reason\":\"a case\"}\n", n)
	}
	return b.String()
}

// TestHeldNamesAreSeparateChangeSet checks that control publishes the names that no guard holds, and holds the others as a separate change set that a second
// person approves.
func TestHeldNamesAreSeparateChangeSet(t *testing.T) {
	f := start(t, setting{})
	names := []string{"one.example", "dailymotion.com", "pages.dev", "two.example", "deezer.com"}
	if r := into[changeset.Receipt](t, f.pushSplit(t, "case", "&dry_run=true", names...), http.StatusOK); r.State != changeset.DryRun || r.SetApart != 2 || r.Accepted != 2 || r.Holds != 0 {
		t.Errorf("dry run: %+v", r)
	}
	r := into[changeset.Receipt](t, f.pushSplit(t, "case", "", names...), http.StatusCreated)
	if r.State != changeset.Published || r.Accepted != 2 || r.Refusals != 1 || r.Holds != 0 || r.HeldAs != "case~held" || r.SetApart != 2 {
		t.Errorf("receipt %+v, want 2 changes published, 1 refused and 2 in case~held", r)
	}
	held := f.state(t, "case~held")
	if held.State != changeset.Held || held.PartOf != "case" || held.Accepted != 2 || held.Holds != 2 || held.Held[0].Name != "dailymotion.com" || held.Held[0].Line != 2 || held.Held[1].Line != 5 {
		t.Errorf("receipt of case~held: %+v, want 2 held changes of lines 2 and 5", held)
	}
	f.wants(t, "one.example", blocklist.BlockedBy)
	f.wants(t, "two.example", blocklist.BlockedBy)
	f.wants(t, "dailymotion.com", blocklist.Pass)

	again := into[changeset.Receipt](t, f.pushSplit(t, "case", "", names...), http.StatusOK) // the client repeats the push after a lost answer
	if again.Version != r.Version || again.HeldAs != r.HeldAs {
		t.Errorf("pushed again: %+v", again)
	}
	refused(t, f.pushSplit(t, "case", "", "other.example", "dailymotion.com"), http.StatusConflict, "id")
	if r := f.state(t, "case"); r.HeldNow != changeset.Held {
		t.Errorf("receipt %+v, want its other part in the state held", r)
	}
	refused(t, f.post(t, "ada", "/v1/changesets/case~held/approve"), http.StatusForbidden, "")
	if a := f.post(t, "eve", "/v1/changesets/case~held/approve"); a.status != http.StatusCreated {
		t.Errorf("approval: %s, want status 201", a)
	}
	f.wants(t, "dailymotion.com", blocklist.BlockedBy)
	f.wants(t, "deezer.com", blocklist.BlockedBy)
	if r := f.state(t, "case"); r.HeldNow != changeset.Published {
		t.Errorf("receipt %+v, want its other part in the state published", r)
	}
	if r := into[changeset.Receipt](t, f.pushSplit(t, "case", "", names...), http.StatusOK); r.HeldNow != changeset.Published {
		t.Errorf("pushed again: %+v", r)
	}
	into[changeset.Receipt](t, f.pushSplit(t, "no", "", names[:2]...), http.StatusCreated)
	f.post(t, "eve", "/v1/changesets/no~held/reject")
	if r := f.state(t, "no"); r.HeldNow != changeset.Rejected {
		t.Errorf("receipt %+v, want its other part in the state rejected", r)
	}
}

// TestPushOfOnlyHeldOrUnheldNames checks a push of which guards hold all names, and one of which they hold none.
func TestPushOfOnlyHeldOrUnheldNames(t *testing.T) {
	f := start(t, setting{})
	r := into[changeset.Receipt](t, f.pushSplit(t, "all", "", "dailymotion.com"), http.StatusOK)
	if r.HeldAs != "all~held" || r.Accepted != 0 || f.state(t, "all~held").State != changeset.Held {
		t.Errorf("receipt %+v, want no accepted change, and all~held in the state held", r)
	}
	r = into[changeset.Receipt](t, f.pushSplit(t, "none", "", "fine.example"), http.StatusCreated)
	if r.HeldAs != "" || r.State != changeset.Published {
		t.Errorf("receipt %+v, want it published without a held part", r)
	}
	document := f.call(t, "ada", "POST", "/v1/changesets?without_held=true", pushapi.TypeJSON, strings.NewReader(`{"id":"doc","changes":[{"name":"a.example"},{"name":"deezer.com"}]}`))
	if r := into[changeset.Receipt](t, document, http.StatusCreated); r.HeldAs != "doc~held" || r.SetApart != 1 {
		t.Errorf("receipt %+v, want one change in doc~held", r)
	}
	signed := f.call(t, "ada", "POST", "/v1/changesets?without_held=true", pushapi.TypeSigned, strings.NewReader("x"))
	refused(t, signed, http.StatusUnprocessableEntity, "without_held")
}

// TestHeldNameOfLargeChangeSetIsSeparate checks a large change set of which guards hold one name.
func TestHeldNameOfLargeChangeSetIsSeparate(t *testing.T) {
	if testing.Short() {
		t.Skip("this test takes long")
	}
	f := start(t, setting{})
	names := []string{"dailymotion.com"}
	for i := range 20_000 {
		names = append(names, fmt.Sprintf("n%d.example", i))
	}
	r := into[changeset.Receipt](t, f.pushSplit(t, "many", "", names...), http.StatusCreated)
	if r.Accepted != 20_000 || r.SetApart != 1 || f.state(t, "many~held").State != changeset.Held {
		t.Errorf("receipt %+v, want 20,000 accepted changes and one in many~held", r)
	}
	f.wants(t, "n19999.example", blocklist.BlockedBy)
}
