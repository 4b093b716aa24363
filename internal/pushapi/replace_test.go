package pushapi_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
)

// pushWhole pushes names without without_held, so that control holds the whole change set if guards hold some of the names.
func (f *fixture) pushWhole(t testing.TB, who, id string, names ...string) *answer {
	t.Helper()
	return f.call(t, who, "POST", "/v1/changesets?id="+id, pushapi.TypeNDJSON, strings.NewReader(lines(names)))
}

// isUnknown checks that no change set with the ID exists.
func (f *fixture) isUnknown(t testing.TB, id string) {
	t.Helper()
	if a := f.get(t, "joe", "/v1/changesets/"+id); a.status != http.StatusNotFound {
		t.Errorf("change set %s: %s, want status 404", id, a)
	}
}

// TestRepeatedPushWithoutHeldPublishesRest checks that a repeated push with without_held=true publishes the part of a held change set that no guard holds, and
// holds the other part as a separate change set.
func TestRepeatedPushWithoutHeldPublishesRest(t *testing.T) {
	f := start(t, setting{})
	names := []string{"one.example", "dailymotion.com"}
	into[changeset.Receipt](t, f.pushWhole(t, "ada", "case", names...), http.StatusAccepted)
	for range 2 { // the second push repeats the first after a lost answer
		a := f.pushSplit(t, "case", "", names...)
		if a.status != http.StatusCreated && a.status != http.StatusOK {
			t.Fatalf("repeated push: %s, want status 200 or 201", a)
		}
		r := f.state(t, "case")
		if r.State != changeset.Published || r.Accepted != 1 || r.Holds != 0 || r.HeldAs != "case~held" || r.SetApart != 1 {
			t.Errorf("receipt %+v, want one change published and one in case~held", r)
		}
		if held := f.state(t, "case~held"); held.State != changeset.Held || held.PartOf != "case" || held.Accepted != 1 {
			t.Errorf("receipt of case~held: %+v, want one held change", held)
		}
	}
	f.wants(t, "one.example", blocklist.BlockedBy)
	f.wants(t, "dailymotion.com", blocklist.Pass)
	refused(t, f.post(t, "eve", "/v1/changesets/case/approve"), http.StatusConflict, "path.id")
	refused(t, f.get(t, "eve", "/v1/changesets/case/content"), http.StatusNotFound, "path.id")
	into[changeset.Receipt](t, f.post(t, "eve", "/v1/changesets/case~held/approve"), http.StatusCreated)
	f.wants(t, "dailymotion.com", blocklist.BlockedBy)
}

// TestDecidedChangeSetIsNotReplaced checks that control creates no second change set if the first one cannot be replaced.
func TestDecidedChangeSetIsNotReplaced(t *testing.T) {
	f := start(t, setting{})
	names := []string{"one.example", "dailymotion.com"}
	for id, act := range map[string]string{"yes": "approve", "no": "reject"} {
		into[changeset.Receipt](t, f.pushWhole(t, "ada", id, names...), http.StatusAccepted)
		f.post(t, "eve", "/v1/changesets/"+id+"/"+act)
		before := f.state(t, id)
		if r := into[changeset.Receipt](t, f.pushSplit(t, id, "", names...), http.StatusOK); r.State != before.State || r.HeldAs != "" {
			t.Errorf("repeated push of %s: receipt %+v, want the state %s and no held part", id, r, before.State)
		}
		f.isUnknown(t, id+"~held")
	}
	into[changeset.Receipt](t, f.pushWhole(t, "ada", "all", "deezer.com"), http.StatusAccepted) // guards hold all changes
	if r := into[changeset.Receipt](t, f.pushSplit(t, "all", "", "deezer.com"), http.StatusOK); r.State != changeset.Held {
		t.Errorf("receipt %+v, want it held", r)
	}
	f.isUnknown(t, "all~held")

	into[changeset.Receipt](t, f.pushWhole(t, "bob", "other", names...), http.StatusAccepted) // pushed by another person
	if p := refused(t, f.pushSplit(t, "other", "", names...), http.StatusConflict, "id"); !strings.Contains(p.Errors[0].Message, "bob pushed it") {
		t.Errorf("problem %+v, want one that says that bob pushed it", p)
	}
	f.isUnknown(t, "other~held")
	into[changeset.Receipt](t, f.pushWhole(t, "ada", "taken", "fine.example"), http.StatusCreated) // published with other content
	refused(t, f.pushSplit(t, "taken", "", names...), http.StatusConflict, "id")
	f.isUnknown(t, "taken~held")

	into[changeset.Receipt](t, f.pushWhole(t, "ada", "third~held", "third.example"), http.StatusCreated) // another change set has the ID of the held part
	into[changeset.Receipt](t, f.pushWhole(t, "ada", "third", names...), http.StatusAccepted)
	refused(t, f.pushSplit(t, "third", "", names...), http.StatusConflict, "id")
	if r := f.state(t, "third"); r.State != changeset.Held {
		t.Errorf("receipt %+v, want it held", r)
	}
	into[changeset.Receipt](t, f.post(t, "eve", "/v1/changesets/third/approve"), http.StatusCreated)
}

// TestApprovalAndReplacementExcludeEachOther checks that either the approval or the replacement takes effect if a held change set is approved while its author
// pushes it again without the held changes.
func TestApprovalAndReplacementExcludeEachOther(t *testing.T) {
	f := start(t, setting{})
	names := []string{"one.example", "dailymotion.com"}
	for _, id := range []string{"r1", "r2", "r3", "r4", "r5", "r6"} {
		into[changeset.Receipt](t, f.pushWhole(t, "ada", id, names...), http.StatusAccepted)
		var calls sync.WaitGroup
		calls.Go(func() { f.pushSplit(t, id, "", names...) })
		calls.Go(func() { f.pushSplit(t, id, "", names...) })
		calls.Go(func() { f.post(t, "eve", "/v1/changesets/"+id+"/approve") })
		calls.Wait()
		r, apart := f.state(t, id), f.get(t, "joe", "/v1/changesets/"+id+"~held")
		switch {
		case r.State != changeset.Published:
			t.Errorf("receipt %+v, want it published", r)
		case r.HeldAs == "" && (r.Accepted != 2 || apart.status != http.StatusNotFound):
			t.Errorf("approved: %+v %s", r, apart)
		case r.HeldAs != "" && (r.Accepted != 1 || apart.status != http.StatusOK):
			t.Errorf("replaced: %+v %s", r, apart)
		}
	}
}

// TestReplacementIsRepeatableAfterCrash checks a repeated push with without_held=true of a held change set that a crash left in the state pending.
func TestReplacementIsRepeatableAfterCrash(t *testing.T) {
	f := start(t, setting{})
	names := []string{"one.example", "dailymotion.com"}
	into[changeset.Receipt](t, f.pushWhole(t, "ada", "crash", names...), http.StatusAccepted)
	receipts, holds := f.stream.Bucket(stream.Receipts), f.stream.Bucket(stream.Holds)
	data, _, err := receipts.Get(t.Context(), "crash")
	if err == nil {
		_, err = receipts.Put(t.Context(), "crash", []byte(strings.Replace(string(data), `"state":"held"`, `"state":"pending"`, 1)))
	}
	if err == nil {
		err = holds.Delete(t.Context(), "crash")
	}
	if err != nil {
		t.Fatal(err)
	}
	r := into[changeset.Receipt](t, f.pushSplit(t, "crash", "", names...), http.StatusCreated)
	if r.State != changeset.Published || r.Accepted != 1 || f.state(t, "crash~held").State != changeset.Held {
		t.Errorf("receipt %+v, want one change published and the rest in crash~held", r)
	}
}
