package pushapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

const popular = "wikipedia.org" // the guards hold a block of this name, and do not refuse it

// held pushes a change set that the guards hold.
func (f *fixture) held(t testing.TB, who, id string) changeset.Receipt {
	t.Helper()
	r := into[changeset.Receipt](t, f.push(t, who, set(id, popular, id+".example")), http.StatusAccepted)
	if r.State != changeset.Held || r.Holds == 0 || len(r.Held) == 0 || r.Held[0].Guard != "popular" {
		t.Fatalf("receipt %+v, want it held by the guard popular", r)
	}
	f.wants(t, popular, blocklist.Pass)
	f.wants(t, id+".example", blocklist.Pass)
	return r
}

// approval returns the body of an approval that is signed by a key.
func approval(t testing.TB, content []byte, by *signing.SecretKey) *bytes.Reader {
	t.Helper()
	digest, err := changeset.Digest(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	s := by.Sign(signing.KindChanges, digest)
	body, err := json.Marshal(map[string]string{"key": s.Key, "signature": base64.StdEncoding.EncodeToString(s.Bytes)})
	if err != nil {
		t.Fatal(err)
	}
	return bytes.NewReader(body)
}

// TestApprovalNeedsSecondPerson checks that only a second person with the role approver can approve a held change set.
func TestApprovalNeedsSecondPerson(t *testing.T) {
	f := start(t, setting{})
	f.token(t, pushapi.Order{Name: "sam-phone", Owner: "sam", Roles: []pushapi.Role{pushapi.Approver}})
	before := f.journ.State().Version
	f.held(t, "sam", "one")
	refused(t, f.post(t, "sam", "/v1/changesets/one/approve"), http.StatusForbidden, "")
	refused(t, f.post(t, "sam-phone", "/v1/changesets/one/approve"), http.StatusForbidden, "")
	refused(t, f.post(t, "ada", "/v1/changesets/one/approve"), http.StatusForbidden, "")
	refused(t, f.post(t, "eve", "/v1/changesets/none/approve"), http.StatusNotFound, "path.id")
	if again := into[changeset.Receipt](t, f.push(t, "sam", set("one", popular, "one.example")), http.StatusOK); again.State != changeset.Held {
		t.Errorf("receipt of the repeated push: %+v, want it held", again)
	}
	if v := f.journ.State().Version; v != before {
		t.Fatalf("version %d after %d", v, before)
	}
	list := into[struct{ ChangeSets []changeset.Receipt }](t, f.get(t, "eve", "/v1/changesets?state=held"), http.StatusOK)
	if len(list.ChangeSets) != 1 || list.ChangeSets[0].ID != "one" {
		t.Errorf("held change sets: %+v, want only one", list)
	}
	content := f.get(t, "eve", "/v1/changesets/one/content")
	if content.status != http.StatusOK || bytes.Count(content.body, []byte("\n")) != 3 {
		t.Errorf("content of the change set: %s, want status 200 and three lines", content)
	}
	refused(t, f.call(t, "eve", "POST", "/v1/changesets/one/approve", pushapi.TypeJSON, approval(t, content.body, f.desk)), http.StatusForbidden, "body.key")
	refused(t, f.call(t, "eve", "POST", "/v1/changesets/one/approve", pushapi.TypeJSON, approval(t, content.body, f.unknown)), http.StatusUnprocessableEntity, "body.signature")
	refused(t, f.call(t, "eve", "POST", "/v1/changesets/one/approve", pushapi.TypeJSON, approval(t, content.body[1:], f.approver)), http.StatusUnprocessableEntity, "body.signature")
	refused(t, f.call(t, "eve", "POST", "/v1/changesets/one/approve", pushapi.TypeJSON, strings.NewReader(`{"key":"k","signature":"?"}`)), http.StatusUnprocessableEntity, "body.signature")
	r := into[changeset.Receipt](t, f.post(t, "eve", "/v1/changesets/one/approve"), http.StatusCreated)
	if r.State != changeset.Published || r.Version != before+1 || len(r.Approved) != 1 || r.Approved[0] != "eve" || r.By != "sam" {
		t.Errorf("receipt %+v, want it published by sam and approved by eve", r)
	}
	f.wants(t, popular, blocklist.BlockedBy)
	f.wants(t, "one.example", blocklist.BlockedBy)
	refused(t, f.post(t, "eve", "/v1/changesets/one/approve"), http.StatusConflict, "path.id")
	refused(t, f.post(t, "eve", "/v1/changesets/one/reject"), http.StatusConflict, "path.id")

	// The key that signed a change set as its author cannot approve it.
	body := signed(t, &journal.ChangeSet{ID: "own"}, []journal.Change{{Do: journal.Block, Name: "youtube.com"}}, f.author)
	if a := f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(body)); a.status != http.StatusAccepted {
		t.Fatalf("signed push: %s, want status 202", a)
	}
	content = f.get(t, "eve", "/v1/changesets/own/content")
	refused(t, f.call(t, "eve", "POST", "/v1/changesets/own/approve", pushapi.TypeJSON, approval(t, content.body, f.author)), http.StatusForbidden, "body.key")
	if a := f.call(t, "eve", "POST", "/v1/changesets/own/approve", pushapi.TypeJSON, approval(t, content.body, f.approver)); a.status != http.StatusCreated {
		t.Errorf("signed approval: %s, want status 201", a)
	}
}

// TestOneOfConcurrentApprovalsSucceeds checks that exactly one call succeeds if several calls approve or reject a change set at the same time.
func TestOneOfConcurrentApprovalsSucceeds(t *testing.T) {
	f := start(t, setting{})
	for i := range 5 {
		id := fmt.Sprint("race", i)
		if a := f.push(t, "ada", set(id, fmt.Sprintf("race%d.wikipedia.org", i), popular)); a.status != http.StatusAccepted {
			t.Fatalf("push of %s: %s, want status 202", id, a)
		}
		before := f.journ.State().Version
		answers := make([]*answer, 6)
		var g sync.WaitGroup
		for j := range answers {
			g.Go(func() {
				answers[j] = f.post(t, []string{"eve", "sam"}[j%2], "/v1/changesets/"+id+[]string{"/approve", "/approve", "/reject"}[j%3])
			})
		}
		g.Wait()
		heard := 0
		for _, a := range answers {
			if a.status < 300 {
				heard++
			} else if a.status != http.StatusConflict {
				t.Errorf("concurrent decision: %s, want status 409", a)
			}
		}
		r := into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/"+id), http.StatusOK)
		if v := f.journ.State().Version; heard != 1 || v-before != map[changeset.State]uint64{changeset.Published: 1}[r.State] {
			t.Errorf("%d of 6 calls succeeded, want 1; state %s, version %d after %d", heard, r.State, v, before)
		}
	}
}

// TestRejectedOrExpiredChangeSetHasNoEffect checks that a held change set has no effect after a person rejected it, or after it expired.
func TestRejectedOrExpiredChangeSetHasNoEffect(t *testing.T) {
	f := start(t, setting{})
	f.held(t, "ada", "no")
	r := into[changeset.Receipt](t, f.post(t, "eve", "/v1/changesets/no/reject"), http.StatusOK)
	if r.State != changeset.Rejected || !strings.Contains(r.Note, "eve") {
		t.Errorf("receipt %+v, want it rejected by eve", r)
	}
	refused(t, f.post(t, "eve", "/v1/changesets/no/approve"), http.StatusConflict, "path.id")
	refused(t, f.get(t, "eve", "/v1/changesets/no/content"), http.StatusNotFound, "path.id")
	if again := into[changeset.Receipt](t, f.push(t, "ada", set("no", popular, "no.example")), http.StatusOK); again.State != changeset.Rejected {
		t.Errorf("receipt of the repeated push: %+v, want it rejected", again)
	}
	objects, err := f.stream.Objects(t.Context())
	for _, o := range objects {
		if strings.HasSuffix(o.Name, journal.ChangeSetSuffix) {
			t.Errorf("object %s was not deleted", o.Name)
		}
	}
	if err != nil {
		t.Error(err)
	}
	f.wants(t, popular, blocklist.Pass)
	refused(t, f.post(t, "ada", "/v1/changesets/no/undo"), http.StatusConflict, "path.id")

	// A held change set expires if nobody decides about it.
	s := set("forgotten", popular)
	expires := time.Now().Add(time.Hour)
	s.Expires = &expires
	if a := f.push(t, "ada", s); a.status != http.StatusAccepted {
		t.Fatalf("push with an expiry: %s, want status 202", a)
	}
	f.editKept(t, stream.Receipts, "forgotten", func(m map[string]any) {
		if until := m["until"]; until != float64(expires.Unix()) {
			t.Errorf("the change set is held until %v, want %d", until, expires.Unix())
		}
		m["until"] = time.Now().Unix() + 1
	})
	waitFor(t, "the held change set to expire", func() bool {
		return into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/forgotten"), http.StatusOK).State == changeset.Rejected
	})
}

// TestApprovalIsRepeatableAfterCrash checks that an approval can be repeated after control stopped while it published the approved change set.
func TestApprovalIsRepeatableAfterCrash(t *testing.T) {
	f := start(t, setting{})
	f.held(t, "ada", "crash")
	data, _, err := f.stream.Bucket(stream.Receipts).Get(t.Context(), "crash")
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte(`"state":"held"`), []byte(`"state":"pending"`), 1)
	if _, err := f.stream.Bucket(stream.Receipts).Put(t.Context(), "crash", data); err != nil {
		t.Fatal(err)
	}
	if a := f.post(t, "eve", "/v1/changesets/crash/approve"); a.status != http.StatusCreated {
		t.Errorf("repeated approval: %s, want status 201", a)
	}
	f.wants(t, popular, blocklist.BlockedBy)
}

// TestChangeSetAboveThresholdNeedsTwoKeys checks that a change set above the threshold of the key ring, here two changes, needs signatures of two keys.
func TestChangeSetAboveThresholdNeedsTwoKeys(t *testing.T) {
	f := start(t, setting{ring: func(r *signing.Ring) { r.Threshold = signing.Threshold{Changes: 2, Keys: 2} }})
	if a := f.push(t, "ada", set("few", "a.example", "b.example")); a.status != http.StatusCreated {
		t.Errorf("push below the threshold: %s, want status 201", a)
	}
	many := set("many", "c.example", "d.example", "e.example")
	r := into[changeset.Receipt](t, f.push(t, "ada", many), http.StatusAccepted)
	if r.Held[0].Guard != "threshold" {
		t.Errorf("receipt %+v, want it held by the guard threshold", r)
	}
	refused(t, f.post(t, "eve", "/v1/changesets/many/approve"), http.StatusUnprocessableEntity, "body")
	f.wants(t, "c.example", blocklist.Pass)
	content := f.get(t, "eve", "/v1/changesets/many/content")
	if a := f.call(t, "eve", "POST", "/v1/changesets/many/approve", pushapi.TypeJSON, approval(t, content.body, f.approver)); a.status != http.StatusCreated {
		t.Errorf("signed approval: %s, want status 201", a)
	}
	f.wants(t, "c.example", blocklist.BlockedBy)

	three := []journal.Change{{Do: journal.Block, Name: "f.example"}, {Do: journal.Block, Name: "g.example"}, {Do: journal.Block, Name: "h.example"}}
	push := func(body []byte) *answer {
		return f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(body))
	}
	if a := push(signed(t, &journal.ChangeSet{ID: "alone"}, three, f.author)); a.status != http.StatusAccepted {
		t.Errorf("push signed by one author: %s, want status 202", a)
	}
	if a := push(signed(t, &journal.ChangeSet{ID: "unknown"}, three, f.author, f.unknown)); a.status != http.StatusAccepted {
		t.Errorf("push signed by one author and an unknown key: %s, want status 202", a)
	}
	f.wants(t, "f.example", blocklist.Pass)
	if a := push(signed(t, &journal.ChangeSet{ID: "both"}, three, f.author, f.second)); a.status != http.StatusCreated {
		t.Errorf("push signed by two authors: %s, want status 201", a)
	}
	f.wants(t, "f.example", blocklist.BlockedBy)
	// The change set that undoes "both" is also above the threshold.
	u := into[changeset.UndoResult](t, f.post(t, "ada", "/v1/changesets/both/undo"), http.StatusAccepted)
	f.wants(t, "f.example", blocklist.BlockedBy)
	content = f.get(t, "eve", "/v1/changesets/"+u.ID+"/content")
	if a := f.call(t, "eve", "POST", "/v1/changesets/"+u.ID+"/approve", pushapi.TypeJSON, approval(t, content.body, f.approver)); a.status != http.StatusCreated {
		t.Errorf("signed approval of the undo: %s, want status 201", a)
	}
	f.wants(t, "f.example", blocklist.Pass)
	if r := into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/both"), http.StatusOK); r.State != changeset.Undone || r.UndoneBy != u.ID {
		t.Errorf("receipt %+v, want it undone by %s", r, u.ID)
	}
}
