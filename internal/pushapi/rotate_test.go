package pushapi_test

import (
	"net/http"
	"testing"
	"time"

	"rempart/internal/pushapi"
)

// TestTokenRotation checks that an earlier secret is accepted for the time in the order, that an order takes effect once, and that a revoked token cannot be
// rotated.
func TestTokenRotation(t *testing.T) {
	f := start(t, setting{})
	f.token(t, pushapi.Order{Name: "rota", Roles: []pushapi.Role{pushapi.Auditor}})
	f.secret["first"] = f.secret["rota"]
	works := func(who string, want int) {
		t.Helper()
		if a := f.call(t, who, "GET", "/v1/audit", "", nil); a.status != want {
			t.Errorf("%s: %s, want %d", who, a, want)
		}
	}
	now := time.Now().Unix()
	f.token(t, pushapi.Order{Do: "rotate", Name: "rota", Keep: 1800, Time: now - 10})
	f.secret["second"] = f.secret["rota"]
	works("first", http.StatusOK)
	works("second", http.StatusOK)
	for name, o := range map[string]pushapi.Order{
		"order sent again":     {Do: "rotate", Name: "rota", Keep: 1800, Time: now - 10},
		"order signed earlier": {Do: "rotate", Name: "rota", Time: now - 20},
	} {
		if a := f.order(t, o, f.root); a.status != http.StatusConflict {
			t.Errorf("%s: %s, want status 409", name, a)
		}
	}
	f.token(t, pushapi.Order{Do: "rotate", Name: "rota", Keep: 3600, Time: now - 9})
	works("first", http.StatusOK) // the first order keeps this secret for half an hour
	works("second", http.StatusOK)
	f.editToken(t, "rota", func(m map[string]any) {
		all := m["earlier"].([]any)
		first := all[len(all)-1].(map[string]any)
		if until, least := int64(first["until"].(float64)), now+1800; until < least || until > time.Now().Unix()+1800 {
			t.Errorf("the first secret is accepted until %d, want %d or soon after", until, least)
		}
		first["until"] = time.Now().Unix() + 1
	})
	waitFor(t, "the first secret to expire", func() bool { return f.call(t, "first", "GET", "/v1/audit", "", nil).status == http.StatusUnauthorized })
	works("second", http.StatusOK)
	works("rota", http.StatusOK)
	f.secret["third"] = f.secret["rota"]
	f.token(t, pushapi.Order{Do: "rotate", Name: "rota", Time: now - 8})
	for _, who := range []string{"first", "second", "third"} {
		works(who, http.StatusUnauthorized)
	}
	works("rota", http.StatusOK)
	for _, o := range []pushapi.Order{
		{Do: "rotate", Name: "rota", Keep: -1}, {Do: "rotate", Name: "rota", Keep: 1 << 40}, {Do: "rotate", Name: "rota", Roles: []pushapi.Role{pushapi.Publisher}}, {Do: "rotate", Name: "rota", Expires: 1},
	} {
		if a := f.order(t, o, f.root); a.status != http.StatusUnprocessableEntity {
			t.Errorf("order %+v: %s, want status 422", o, a)
		}
	}
	f.token(t, pushapi.Order{Do: "revoke", Name: "rota"})
	if a := f.order(t, pushapi.Order{Do: "rotate", Name: "rota"}, f.root); a.status != http.StatusConflict {
		t.Errorf("a revoked token: %s", a)
	}
	if a := f.order(t, pushapi.Order{Do: "rotate", Name: "nobody"}, f.root); a.status != http.StatusNotFound {
		t.Errorf("an unknown token: %s", a)
	}
}
