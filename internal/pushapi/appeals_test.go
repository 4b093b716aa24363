package pushapi_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/appeal"
	"rempart/internal/changeset"
	"rempart/internal/pushapi"
)

// startAppeals starts a control that handles appeals, with the reviewers rita and rob.
func startAppeals(t *testing.T, policy string) *fixture {
	t.Helper()
	p, err := appeal.ParsePolicy([]byte("service = 'The desk'\ncontact = 'desk@isp.example'\n" + policy))
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, setting{config: func(c *pushapi.Config) { c.AppealPolicy = func() *appeal.Policy { return p } }})
	f.token(t, pushapi.Order{Name: "rita", Roles: []pushapi.Role{pushapi.Reviewer}})
	f.token(t, pushapi.Order{Name: "rob", Roles: []pushapi.Role{pushapi.Reviewer}})
	return f
}

// appeals files an appeal about a name, as the portal does.
func (f *fixture) appeals(t *testing.T, name string, block appeal.Block) string {
	t.Helper()
	a, err := f.api.Appeals().File(t.Context(), appeal.NewCode(), appeal.Filing{Name: name, Reason: "It is my shop, and it is safe.", Email: "me@shop.example", Language: "fr", Block: block})
	if err != nil {
		t.Fatal(err)
	}
	return a.Number
}

func (f *fixture) decide(t *testing.T, who, number, outcome, why string) *answer {
	t.Helper()
	body, err := json.Marshal(map[string]string{"outcome": outcome, "why": why, "note": "Thank you."})
	if err != nil {
		t.Fatal(err)
	}
	return f.call(t, who, http.MethodPost, "/v1/appeals/"+number+"/decision", "application/json", bytes.NewReader(body))
}

func (f *fixture) confirm(t *testing.T, who, number, outcome, why string) *answer {
	t.Helper()
	body, err := json.Marshal(map[string]string{"outcome": outcome, "why": why})
	if err != nil {
		t.Fatal(err)
	}
	return f.call(t, who, http.MethodPost, "/v1/appeals/"+number+"/confirmation", "application/json", bytes.NewReader(body))
}

type appealsJSON struct {
	Appeals []pushapi.Appeal
	More    bool
	Upheld  map[string]int `json:"upheld_by_list"`
}

func TestUpheldAppealLetsTheNamePass(t *testing.T) {
	f := startAppeals(t, "")
	into[changeset.Receipt](t, f.push(t, "ada", set("s1", "bad.example", "other.example")), http.StatusCreated)
	number := f.appeals(t, "www.bad.example", appeal.Block{Entry: "bad.example", Operator: true})
	listed := f.appeals(t, "other.example", appeal.Block{Entry: "other.example", Operator: true, Lists: []string{"a list"}})
	if all := into[appealsJSON](t, f.get(t, "rita", "/v1/appeals?state=open"), http.StatusOK); len(all.Appeals) != 2 || all.Appeals[0].Name != "www.bad.example" {
		t.Errorf("open appeals: %+v", all)
	}
	for who, status := range map[string]int{"ada": http.StatusForbidden, "eve": http.StatusForbidden, "node": http.StatusForbidden, "": http.StatusUnauthorized} {
		refused(t, f.decide(t, who, number, "upheld", "safe"), status, "")
	}
	refused(t, f.decide(t, "rita", number, "upheld", "dangerous"), http.StatusUnprocessableEntity, "body.why")
	refused(t, f.decide(t, "rita", "00000-00000", "upheld", "safe"), http.StatusNotFound, "")
	for _, one := range []string{number, listed} {
		a := into[pushapi.Appeal](t, f.decide(t, "rita", one, "upheld", "safe"), http.StatusOK)
		if a.State != appeal.Upheld || a.Version == 0 || a.Reviewer != "rita" || a.Note != "Thank you." {
			t.Errorf("appeal %+v", a)
		}
		r := into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/"+a.ChangeSet), http.StatusOK)
		if !strings.Contains(r.Comment, one) || r.By != "appeals" {
			t.Errorf("the change set does not refer to the appeal: %+v", r)
		}
	}
	f.wants(t, "www.bad.example", blocklist.Allowed)
	f.wants(t, "bad.example", blocklist.BlockedBy) // the appeal was about a name below it
	f.wants(t, "other.example", blocklist.Allowed)
	if all := into[appealsJSON](t, f.get(t, "joe", "/v1/appeals?state=upheld&limit=1"), http.StatusOK); len(all.Appeals) != 1 || !all.More || all.Upheld["a list"] != 1 {
		t.Errorf("upheld appeals: %+v", all)
	}
	refused(t, f.decide(t, "rob", number, "rejected", "dangerous"), http.StatusConflict, "")
}

func TestAppealAgainstAnOrder(t *testing.T) {
	f := startAppeals(t, "suspend = ['ordered']\n")
	s := set("order", "bad.example")
	s.Changes[0].Mark, s.Changes[0].Decision = "censored", "arcom-1"
	into[changeset.Receipt](t, f.push(t, "ada", s), http.StatusCreated)
	number := f.appeals(t, "bad.example", appeal.Block{Entry: "bad.example", Operator: true, Mark: "censored", Decision: "arcom-1"})
	f.wants(t, "bad.example", blocklist.Allowed) // while the appeal is pending
	if a := into[pushapi.Appeal](t, f.decide(t, "rita", number, "rejected", "dangerous"), http.StatusOK); a.State != appeal.Second {
		t.Fatalf("after the first decision: %+v", a)
	}
	f.wants(t, "bad.example", blocklist.Allowed)
	refused(t, f.confirm(t, "rita", number, "rejected", "dangerous"), http.StatusForbidden, "")
	if a := into[pushapi.Appeal](t, f.confirm(t, "rob", number, "rejected", "dangerous"), http.StatusOK); a.State != appeal.Rejected || a.Second != "rob" {
		t.Fatalf("after the confirmation: %+v", a)
	}
	f.wants(t, "bad.example", blocklist.BlockedBy)
}

// TestHeldSuspensionEndsWithItsAppeal checks that a suspension that a guard holds is rejected when the appeal is, so that nobody can approve it afterwards.
func TestHeldSuspensionEndsWithItsAppeal(t *testing.T) {
	f := startAppeals(t, "suspend = ['ordered']\n")
	s := set("order", "shop.ck") // below the public suffix *.ck: guards hold a change of it
	s.Changes[0].Mark, s.Changes[0].Decision = "censored", "arcom-1"
	into[changeset.Receipt](t, f.push(t, "ada", s), http.StatusAccepted)
	into[changeset.Receipt](t, f.post(t, "eve", "/v1/changesets/order/approve"), http.StatusCreated)
	number := f.appeals(t, "shop.ck", appeal.Block{Entry: "shop.ck", Operator: true, Mark: "censored", Decision: "arcom-1"})
	suspension := "appeal-" + number + "-suspension"
	if r := f.state(t, suspension); r.State != changeset.Held {
		t.Fatalf("suspension %+v, want it held", r)
	}
	into[pushapi.Appeal](t, f.decide(t, "rita", number, "rejected", "dangerous"), http.StatusOK)
	into[pushapi.Appeal](t, f.confirm(t, "rob", number, "rejected", "dangerous"), http.StatusOK)
	if r := f.state(t, suspension); r.State != changeset.Rejected {
		t.Errorf("suspension %+v after the decision, want it rejected", r)
	}
	f.wants(t, "shop.ck", blocklist.BlockedBy)
}

func TestAppealsAreNotInTheAuditTrail(t *testing.T) {
	f := startAppeals(t, "")
	number := f.appeals(t, "bad.example", appeal.Block{Entry: "bad.example", Operator: true})
	into[pushapi.Appeal](t, f.get(t, "rita", "/v1/appeals/"+number), http.StatusOK)
	into[pushapi.Appeal](t, f.decide(t, "rita", number, "rejected", "unclear"), http.StatusOK)
	trail := string(f.get(t, "joe", "/v1/audit").body)
	if !strings.Contains(trail, number) || !strings.Contains(trail, "/v1/appeals/{number}/decision") {
		t.Errorf("the trail lacks the decision: %s", trail)
	}
	for _, secret := range []string{"me@shop.example", "my shop"} {
		if strings.Contains(trail, secret) || strings.Contains(f.logged.String(), secret) {
			t.Errorf("%q is in the audit trail or the log", secret)
		}
	}
}

func TestControlWithoutAppeals(t *testing.T) {
	f := start(t, setting{})
	f.token(t, pushapi.Order{Name: "rita", Roles: []pushapi.Role{pushapi.Reviewer}})
	if p := refused(t, f.get(t, "rita", "/v1/appeals"), http.StatusConflict, ""); !strings.Contains(p.Detail, "REMPART_APPEALS") {
		t.Errorf("the error does not name the setting: %+v", p)
	}
}
