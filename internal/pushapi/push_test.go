package pushapi_test

import (
	"net/http"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/pushapi"
)

// TestPush has a name blocked in each form, and undone.
func TestPush(t *testing.T) {
	f := start(t, setting{})
	r := into[pushapi.Receipt](t, f.push(t, "ada", set("one", "login.bank.example")), http.StatusCreated)
	if r.State != pushapi.Published || r.Version != f.journ.State().Version || r.By != "ada" || r.Accepted != 1 {
		t.Errorf("%+v", r)
	}
	f.wants(t, "www.login.bank.example", blocklist.BlockedBy)
	if again := into[pushapi.Receipt](t, f.push(t, "ada", set("one", "login.bank.example")), http.StatusOK); again.Version != r.Version {
		t.Errorf("pushed again: %+v", again)
	}
	refused(t, f.push(t, "ada", set("one", "other.example")), http.StatusConflict, "id")
	lines := `{"name":"a.example"}` + "\n" + `{"name":"bücher.example","do":"block","category":"phishing"}` + "\n"
	r = into[pushapi.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=two", pushapi.TypeNDJSON, strings.NewReader(lines)), http.StatusCreated)
	f.wants(t, "xn--bcher-kva.example", blocklist.BlockedBy)
	table := "name,do,expiry,countries\nc.example,block,2099-01-01T00:00:00Z,\nd.example,,,\n"
	r = into[pushapi.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=three", pushapi.TypeCSV, strings.NewReader(table)), http.StatusCreated)
	if r.Accepted != 2 {
		t.Errorf("%+v", r)
	}
	f.wants(t, "c.example", blocklist.BlockedBy)
	u := into[pushapi.UndoResult](t, f.post(t, "ada", "/v1/changesets/three/undo"), http.StatusCreated)
	if u.Undoes != "three" || u.Lefts != 0 {
		t.Errorf("%+v", u)
	}
	f.wants(t, "c.example", blocklist.Pass)
	if r := into[pushapi.Receipt](t, f.get(t, "joe", "/v1/changesets/three"), http.StatusOK); r.State != pushapi.Undone || r.UndoneBy != u.ID {
		t.Errorf("%+v", r)
	}
}
