package pushapi_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"rempart/internal/dnstest"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// calls holds one call of each operation that requires a role, and the tokens that have the role.
var calls = []struct {
	method, path, body string
	may                []string
}{
	{"POST", "/v1/changesets", `{"changes":[{"name":"role.example"}]}`, []string{"ada", "bob", "sam"}},
	{"GET", "/v1/changesets", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"GET", "/v1/changesets/none", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"GET", "/v1/changesets/none/content", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"POST", "/v1/changesets/none/approve", "", []string{"eve", "sam"}},
	{"POST", "/v1/changesets/none/reject", "", []string{"eve", "sam"}},
	{"POST", "/v1/changesets/none/undo", "", []string{"ada", "bob", "eve", "sam"}},
	{"POST", "/v1/changesets/none/advance", "", []string{"ada", "bob", "eve", "sam"}},
	{"POST", "/v1/suspend", `{"reason":"test"}`, []string{"ada", "bob", "eve", "sam"}},
	{"POST", "/v1/resume", `{"reason":"test"}`, []string{"ada", "bob", "eve", "sam"}},
	{"GET", "/v1/names/bad.example", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"GET", "/v1/names/bad.example/log", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"GET", "/v1/versions/1", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"GET", "/v1/nodes", "", []string{"ada", "bob", "eve", "sam", "joe"}},
	{"GET", "/v1/tokens", "", []string{"eve", "sam", "joe"}},
	{"GET", "/v1/audit", "", []string{"joe"}},
}

// TestOperationsRequireRoles checks that each operation accepts only the tokens that have the required role.
func TestOperationsRequireRoles(t *testing.T) {
	f := start(t, setting{})
	for _, c := range calls {
		for _, who := range []string{"ada", "bob", "eve", "sam", "joe", "node"} {
			a := f.call(t, who, c.method, c.path, pushapi.TypeJSON, strings.NewReader(c.body))
			may := slices.Contains(c.may, who)
			if refused := a.status == http.StatusForbidden || a.status == http.StatusUnauthorized; refused == may {
				t.Errorf("%s %s by %s: %s", c.method, c.path, who, a)
			}
		}
		f.secret["unknown"] = "rempart_unknown"
		for _, who := range []string{"", "unknown"} {
			a := f.call(t, who, c.method, c.path, pushapi.TypeJSON, strings.NewReader(c.body))
			if a.status != http.StatusTooManyRequests {
				refused(t, a, http.StatusUnauthorized, "")
				if a.header.Get("WWW-Authenticate") == "" {
					t.Error("the answer 401 has no WWW-Authenticate")
				}
			}
		}
	}
}

// TestInvalidTokensAreRefused checks tokens that are expired or revoked, and token orders that are not signed by a root key.
func TestInvalidTokensAreRefused(t *testing.T) {
	f := start(t, setting{})
	expires := time.Now().Unix() + 3600
	short := into[pushapi.TokenInfo](t, f.order(t, pushapi.Order{Name: "short", Roles: []pushapi.Role{pushapi.Publisher}, Expires: expires}, f.root), http.StatusOK)
	if f.secret["short"] = short.Secret; short.Expires.Unix() != expires {
		t.Errorf("the token expires at %v, want %d", short.Expires, expires)
	}
	f.token(t, pushapi.Order{Name: "gone", Roles: []pushapi.Role{pushapi.Publisher}})
	for _, who := range []string{"short", "gone"} {
		if a := f.push(t, who, set("", who+".example")); a.status != http.StatusCreated {
			t.Errorf("push by %s: %s, want status 201", who, a)
		}
	}
	if a := f.order(t, pushapi.Order{Do: "revoke", Name: "gone"}, f.root); a.status != http.StatusOK {
		t.Errorf("revoking a token: %s, want status 200", a)
	}
	if a := f.order(t, pushapi.Order{Do: "revoke", Name: "gone"}, f.root); a.status != http.StatusOK {
		t.Errorf("revoked again: %s", a)
	}
	f.editToken(t, "short", func(m map[string]any) { m["expires"] = time.Now().Unix() + 1 })
	waitFor(t, "the token's expiry", func() bool { return f.get(t, "short", "/v1/nodes").status == http.StatusUnauthorized })
	before := f.journ.State().Version
	for _, who := range []string{"short", "gone"} {
		refused(t, f.push(t, who, set("", who+"2.example")), http.StatusUnauthorized, "")
	}
	roles := []pushapi.Role{pushapi.Publisher}
	for what, by := range map[string]*signing.SecretKey{"control's key": f.control, "an author's": f.author, "an unknown one": f.unknown} {
		if p := refused(t, f.order(t, pushapi.Order{Name: "mallory", Roles: roles}, by), http.StatusForbidden, "body"); !strings.Contains(p.Detail, "root") {
			t.Errorf("order signed by %s: %s, want an error that names the root key", what, p.Detail)
		}
	}
	refused(t, f.order(t, pushapi.Order{Name: "late", Roles: roles, Time: time.Now().Add(-10 * time.Minute).Unix()}, f.root), http.StatusForbidden, "body")
	refused(t, f.order(t, pushapi.Order{Name: "early", Roles: roles, Time: time.Now().Add(10 * time.Minute).Unix()}, f.root), http.StatusForbidden, "body")
	refused(t, f.order(t, pushapi.Order{Name: "ada", Roles: roles}, f.root), http.StatusConflict, "body.name")
	refused(t, f.order(t, pushapi.Order{Name: "Ada Lovelace", Roles: roles}, f.root), http.StatusUnprocessableEntity, "body.name")
	refused(t, f.order(t, pushapi.Order{Name: "lists", Roles: roles}, f.root), http.StatusUnprocessableEntity, "body.name")
	refused(t, f.order(t, pushapi.Order{Name: "x", Owner: "control", Roles: roles}, f.root), http.StatusUnprocessableEntity, "body.name")
	refused(t, f.order(t, pushapi.Order{Name: "x", Roles: []pushapi.Role{"god"}}, f.root), http.StatusUnprocessableEntity, "body.roles")
	refused(t, f.order(t, pushapi.Order{Name: "x", Roles: roles, Expires: 1}, f.root), http.StatusUnprocessableEntity, "body.expires")
	refused(t, f.order(t, pushapi.Order{Name: "x", Roles: roles, Certificate: "no"}, f.root), http.StatusUnprocessableEntity, "body.certificate")
	refused(t, f.order(t, pushapi.Order{Do: "explode", Name: "x"}, f.root), http.StatusUnprocessableEntity, "body.do")
	refused(t, f.order(t, pushapi.Order{Do: "revoke", Name: "nobody"}, f.root), http.StatusNotFound, "body.name")
	refused(t, f.call(t, "", "POST", "/v1/tokens", pushapi.TypeOrder, strings.NewReader("rempart/1 order\n\n{}")), http.StatusForbidden, "body")
	refused(t, f.call(t, "", "POST", "/v1/tokens", pushapi.TypeOrder, bytes.NewReader(make([]byte, 100<<10))), http.StatusRequestEntityTooLarge, "body")
	null := f.call(t, "", "POST", "/v1/tokens", pushapi.TypeOrder, bytes.NewReader(signing.Seal(signing.KindOrder, []byte("null"), f.root)))
	if null.status/100 != 4 || strings.Contains(fmt.Sprint(null), "%!") {
		t.Errorf("order whose content is null: %s, want a refusal with its reason", null)
	}

	payload, err := json.Marshal(pushapi.Order{Do: "create", Name: "twice", Roles: roles, Time: time.Now().Unix()})
	if err != nil {
		t.Fatal(err)
	}
	sealed := signing.Seal(signing.KindOrder, payload, f.root)
	if a := f.call(t, "", "POST", "/v1/tokens", pushapi.TypeOrder, bytes.NewReader(sealed)); a.status != http.StatusOK {
		t.Fatalf("token order: %s, want status 200", a)
	}
	refused(t, f.call(t, "", "POST", "/v1/tokens", pushapi.TypeOrder, bytes.NewReader(sealed)), http.StatusConflict, "body.name")
	if v := f.journ.State().Version; v != before {
		t.Errorf("version %d after %d, want no publication", v, before)
	}
	f.api.AllowNoMore()
	limited := func() bool {
		return f.call(t, "", "POST", "/v1/tokens", pushapi.TypeOrder, strings.NewReader("x")).status == http.StatusTooManyRequests
	}
	for tries := 0; !limited(); tries++ {
		if tries == 1000 {
			t.Fatal("orders with unknown keys were not limited after 1000 calls")
		}
	}
	if a := f.order(t, pushapi.Order{Do: "revoke", Name: "twice"}, f.root); a.status != http.StatusOK {
		t.Errorf("after many orders with unknown keys, an order of a root key was refused: %s", a)
	}
	list := f.get(t, "joe", "/v1/tokens")
	if n := len(into[struct{ Tokens []pushapi.TokenInfo }](t, list, http.StatusOK).Tokens); n != 9 {
		t.Errorf("%d tokens, want 9", n)
	}
	for _, secret := range f.secret {
		if strings.Contains(string(list.body), secret) || strings.Contains(f.logged.String(), secret) {
			t.Error("a secret is in the answer or in the log")
		}
	}
}

// TestClientCertificates uses client certificates in place of tokens: a registered one, an unregistered one of the same authority, none, and a revoked one.
func TestClientCertificates(t *testing.T) {
	f := start(t, setting{})
	ca := dnstest.Authority(t, "the authority")
	client := &x509.Certificate{Subject: pkix.Name{CommonName: "zoe"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	good, other := dnstest.Certificate(t, client, &ca), dnstest.Certificate(t, client, &ca)
	order := pushapi.Order{
		Name: "zoe", Roles: []pushapi.Role{pushapi.Publisher}, Certificate: string(dnstest.PEM(good)),
	}
	if i := into[pushapi.TokenInfo](t, f.order(t, order, f.root), http.StatusOK); i.Secret != "" {
		t.Error("a token for a certificate has a secret, want none")
	}
	order.Name = "zoe2"
	refused(t, f.order(t, order, f.root), http.StatusConflict, "body.certificate")
	srv := httptest.NewUnstartedServer(f.api.Handler())
	srv.TLS = &tls.Config{ClientCAs: dnstest.Trusting(ca), ClientAuth: tls.VerifyClientCertIfGiven}
	srv.StartTLS()
	defer srv.Close()
	push := func(certs ...tls.Certificate) int {
		t.Helper()
		transport := srv.Client().Transport.(*http.Transport).Clone()
		transport.TLSClientConfig.Certificates = certs
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Post(srv.URL+"/v1/changesets", pushapi.TypeJSON, strings.NewReader(`{"changes":[{"name":"tls.example"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := push(good); got != http.StatusCreated {
		t.Errorf("registered certificate: status %d, want 201", got)
	}
	if got := push(other); got != http.StatusUnauthorized {
		t.Errorf("unregistered certificate: status %d, want 401", got)
	}
	if got := push(); got != http.StatusUnauthorized {
		t.Errorf("no certificate: status %d, want 401", got)
	}
	f.order(t, pushapi.Order{Do: "revoke", Name: "zoe"}, f.root)
	if got := push(good); got != http.StatusUnauthorized {
		t.Errorf("revoked certificate: status %d, want 401", got)
	}
}

// TestRequestRatesAreLimited exceeds the request rates: each token has its own limit, and callers without a token do not use up the limits of tokens.
func TestRequestRatesAreLimited(t *testing.T) {
	f := start(t, setting{config: func(c *pushapi.Config) { c.Rate, c.Burst = 1e-3, 5 }})
	f.api.AllowNoMore() // otherwise the calls of a slow machine might stay below the limit
	count := func(who string, n int) (limited int) {
		for range n {
			if a := f.get(t, who, "/v1/nodes"); a.status == http.StatusTooManyRequests {
				if limited++; a.header.Get("Retry-After") == "" {
					t.Error("the answer 429 has no Retry-After")
				}
			}
		}
		return limited
	}
	if n := count("ada", 20); n < 10 {
		t.Errorf("%d of 20 calls with one token were refused, want at least 10", n)
	}
	if n := count("bob", 3); n != 0 {
		t.Errorf("%d of 3 calls with another token were refused, want 0", n)
	}
	if n := count("", 200); n < 100 {
		t.Errorf("%d of 200 calls without a token were refused, want at least 100", n)
	}
	if n := count("eve", 3); n != 0 {
		t.Errorf("after many calls without a token, %d of 3 calls with one were refused, want 0", n)
	}
	if a := f.order(t, pushapi.Order{Name: "late", Roles: []pushapi.Role{pushapi.Node}}, f.root); a.status != http.StatusOK {
		t.Errorf("after many calls without a token, an order of a root key was refused: %s", a)
	}
	for range 500 { // many nodes may share one token
		if name, ok := f.api.Allowed(t.Context(), f.secret["node"], nil, pushapi.Node); !ok || name != "node" {
			t.Fatal("the token of a node was refused")
		}
	}
	if _, ok := f.api.Allowed(t.Context(), f.secret["ada"], nil, pushapi.Node); ok {
		t.Error("the token of a publisher was accepted for the role node")
	}
}

// TestGuardedHandlerRequiresRole checks that a handler which is served next to the API and requires the role node refuses other callers.
func TestGuardedHandlerRequiresRole(t *testing.T) {
	f := start(t, setting{})
	srv := httptest.NewServer(f.api.Guarded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(pushapi.Caller(r))) }), pushapi.Node))
	defer srv.Close()
	for who, want := range map[string]int{"node": 200, "ada": 403, "": 401} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", srv.URL+"/v1/journal/x", nil)
		r.Header.Set("Authorization", "bearer "+f.secret[who])
		res, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%q: %d, want %d", who, res.StatusCode, want)
		}
	}
}
