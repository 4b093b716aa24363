package portal

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"rempart/internal/web/layout"
	"rempart/internal/web/webtest"
)

// desk stores requests in memory.
type desk struct {
	stored map[string]*Appeal
	filed  []Filing
	fail   error
	proved bool
}

func (d *desk) NewCode() string { return "newcode" }

func (d *desk) File(_ context.Context, code string, f Filing) (*Appeal, error) {
	if d.fail != nil {
		return nil, d.fail
	}
	if len(f.Reason) < 10 {
		return nil, FieldError("reason")
	}
	if d.stored[code] == nil {
		d.filed = append(d.filed, f)
		d.stored[code] = &Appeal{
			Number: "ABCDE-FGHJK", Name: f.Block.Name, Owner: f.Owner, Filed: time.Unix(1_800_000_000, 0), Due: time.Unix(1_805_000_000, 0), Service: "The desk", Contact: "desk@isp.example",
			Routes: map[string]string{"fr": "Le tribunal administratif."}, Proof: "rempart-appeal=abc", ProofName: "_rempart-appeal.bad.example", ProofFile: "https://bad.example/.well-known/x",
		}
	}
	return d.stored[code], nil
}

func (d *desk) Find(_ context.Context, code string) (*Appeal, error) {
	if d.stored[code] == nil {
		return nil, ErrNoAppeal
	}
	return d.stored[code], nil
}

func (d *desk) Prove(ctx context.Context, code string) (*Appeal, error) {
	a, err := d.Find(ctx, code)
	if err == nil {
		a.Proved = d.proved
	}
	return a, err
}

func newDesk(t testing.TB) (*desk, *Portal) {
	d := &desk{stored: map[string]*Appeal{}}
	return d, newPortal(t, func(c *Config) { c.Appeals = d })
}

// post sends a form as a browser does from a page of this site.
func post(t testing.TB, p *Portal, target string, values url.Values, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html; charset=utf-8") && w.Code != http.StatusSeeOther {
		webtest.CheckMarkup(t, w.Body.String())
	}
	return w
}

func filing(name string) url.Values {
	return url.Values{"code": {"thecode"}, "name": {name}, "reason": {"It is my shop, and it is safe."}, "email": {"me@shop.example"}, "role": {"owner"}}
}

func TestReaderAsksForReview(t *testing.T) {
	d, p := newDesk(t)
	if _, body := get(t, p, "/?lang=en&name=bad.example"); !strings.Contains(body, `href="/appeal?lang=en&amp;name=bad.example"`) {
		t.Errorf("the result has no link to the form: %s", body)
	}
	if _, body := get(t, p, "/appeal?lang=en&name=bad.example"); !strings.Contains(body, `value="bad.example"`) || !strings.Contains(body, `value="newcode"`) {
		t.Errorf("the form: %s", body)
	}
	w := post(t, p, "/appeal?lang=en", filing("bad.example"))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/appeal/thecode?lang=en" || len(d.filed) != 1 {
		t.Fatalf("filing: %d %s; %+v", w.Code, w.Header(), d.filed)
	}
	if f := d.filed[0]; !f.Owner || f.Email != "me@shop.example" || f.Language != "en" || f.Block.Name != "bad.example" || f.Block.Decision != "d-1" {
		t.Errorf("filed %+v", f)
	}
	status, body := get(t, p, "/appeal/thecode?lang=en")
	for _, want := range []string{"ABCDE-FGHJK", "15 January 2027", "The desk", "desk@isp.example", "Without an answer by this date", `lang="fr">Le tribunal administratif.`, "under review", "rempart-appeal=abc", "_rempart-appeal.bad.example"} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("receipt: %d, no %q in %s", status, want, body)
		}
	}
	if w := post(t, p, "/appeal?lang=en", filing("bad.example")); w.Code != http.StatusSeeOther || len(d.filed) != 1 {
		t.Errorf("the same request again: %d; %d requests", w.Code, len(d.filed))
	}
}

func TestReviewIsShown(t *testing.T) {
	d, p := newDesk(t)
	post(t, p, "/appeal?lang=en", filing("bad.example"))
	a := d.stored["thecode"]
	a.Suspended = true
	if _, body := get(t, p, "/appeal/thecode?lang=en"); !strings.Contains(body, "The block is suspended") {
		t.Errorf("a suspended block: %s", body)
	}
	a.State = AppealSecond
	if _, body := get(t, p, "/appeal/thecode?lang=en"); !strings.Contains(body, "a second person must confirm") {
		t.Errorf("before the confirmation: %s", body)
	}
	a.State, a.Why, a.Note, a.Decided = AppealRejected, SiteDangerous, "<b>See</b> you.", time.Unix(1_801_000_000, 0)
	_, body := get(t, p, "/appeal/thecode?lang=en")
	for _, want := range []string{`<h1 class="state">rejected</h1>`, "still dangerous", "&lt;b&gt;See&lt;/b&gt; you.", "26 January 2027"} {
		if !strings.Contains(body, want) {
			t.Errorf("after the decision: no %q in %s", want, body)
		}
	}
}

func TestProofIsChecked(t *testing.T) {
	d, p := newDesk(t)
	post(t, p, "/appeal?lang=en", filing("bad.example"))
	if w := post(t, p, "/appeal/thecode/proof?lang=en", nil); w.Code != 200 || !strings.Contains(w.Body.String(), "The proof was not found") {
		t.Errorf("without a proof: %d %s", w.Code, w.Body)
	}
	d.proved = true
	if w := post(t, p, "/appeal/thecode/proof?lang=en", nil); w.Code != http.StatusSeeOther {
		t.Errorf("with a proof: %d %s", w.Code, w.Body)
	}
	if _, body := get(t, p, "/appeal/thecode?lang=en"); !strings.Contains(body, "The proof was found") {
		t.Errorf("with a proof: %s", body)
	}
	for _, target := range []string{"/appeal/wrong/proof", "/appeal/..%2F..%2Fx/proof"} {
		if w := post(t, p, target+"?lang=en", nil); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	d, p := newDesk(t)
	for name, tt := range map[string]struct {
		change func(url.Values)
		status int
		want   string
	}{
		"no name":     {func(v url.Values) { v.Set("name", "") }, 400, "Write the address of a site"},
		"not blocked": {func(v url.Values) { v.Set("name", "ok.example") }, 409, "is not blocked"},
		"short":       {func(v url.Values) { v.Set("reason", "x") }, 400, "at least a sentence"},
		"large":       {func(v url.Values) { v.Set("reason", strings.Repeat("x", maxForm)) }, 400, "at most 2,000"},
	} {
		v := filing("bad.example")
		tt.change(v)
		if w := post(t, p, "/appeal?lang=en", v); w.Code != tt.status || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	if w := post(t, p, "/appeal", filing("bad.example"), "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("from another site: %d", w.Code)
	}
	if len(d.filed) != 0 {
		t.Errorf("refused requests were stored: %+v", d.filed)
	}
	d.fail = errors.New("the disk is full")
	if w := post(t, p, "/appeal?lang=en", filing("bad.example")); w.Code != 503 || !strings.Contains(w.Body.String(), "Send it again") || !strings.Contains(w.Body.String(), `value="thecode"`) {
		t.Errorf("without a store: %d %s", w.Code, w.Body)
	}
	for range appealBurst {
		post(t, p, "/appeal?lang=en", filing("bad.example"))
	}
	if w := post(t, p, "/appeal?lang=en", filing("bad.example")); w.Code != http.StatusTooManyRequests {
		t.Errorf("after many requests: %d", w.Code)
	}
}

// FuzzAppeal checks that no text of an appellant is read as markup, in the form and in the receipt.
func FuzzAppeal(f *testing.F) {
	f.Add("bad.example", "It is my shop, and it is safe.", "me@shop.example")
	f.Add(`"><script>`, `</textarea><script>alert(1)</script>`, `" autofocus onfocus="x`)
	site, err := layout.New("Example")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name, reason, email string) {
		d := &desk{stored: map[string]*Appeal{}}
		p := newPortal(t, func(c *Config) { c.Site, c.Appeals = site, d })
		values := url.Values{"code": {"thecode"}, "name": {name}, "reason": {reason}, "email": {email}}
		if w := post(t, p, "/appeal", values); w.Code >= 500 {
			t.Errorf("status %d", w.Code)
		}
		d.stored["thecode"] = &Appeal{Name: name, Number: email, Note: reason, Service: reason, Contact: reason, Proof: reason, ProofFile: reason, ProofName: name, Silence: map[string]string{"fr": reason}}
		if status, _ := get(t, p, "/appeal/thecode"); status != http.StatusOK {
			t.Errorf("receipt: status %d", status)
		}
	})
}
