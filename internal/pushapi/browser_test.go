package pushapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rempart/blocklist"
	"rempart/internal/pushapi"
)

// fromPage sends a request with sam's token and the header fields of a browser, and returns the status.
func (f *fixture) fromPage(t *testing.T, url, method, path, body string, header map[string]string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+f.secret["sam"])
	for k, v := range header {
		r.Header.Set(k, v)
	}
	res, err := f.srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestRequestsOfOtherSitesAreRefused checks that a web page of another site in an operator's browser cannot change anything through the API.
func TestRequestsOfOtherSitesAreRefused(t *testing.T) {
	f := start(t, setting{})
	before := f.journ.State().Version
	pages := []map[string]string{
		{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}, {"Origin": "null"},
		{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example", "Content-Type": pushapi.TypeJSON},
		{"Origin": "http://127.0.0.1:1", "Content-Type": pushapi.TypeJSON},
	}
	for _, page := range pages {
		for _, c := range calls {
			if c.method == http.MethodGet {
				continue
			}
			if got := f.fromPage(t, f.srv.URL, c.method, c.path, c.body, page); got != http.StatusForbidden {
				t.Errorf("%s %s of a page %v: %d", c.method, c.path, page, got)
			}
		}
	}
	if v := f.journ.State().Version; v != before {
		t.Errorf("version %d after %d", v, before)
	}
	own := map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": f.srv.URL, "Content-Type": pushapi.TypeJSON}
	if got := f.fromPage(t, f.srv.URL, "POST", "/v1/changesets", `{"changes":[{"name":"own.example"}]}`, own); got != http.StatusCreated {
		t.Errorf("a page of the API's own site: status %d", got)
	}
	f.wants(t, "own.example", blocklist.BlockedBy)
}

// TestBodiesNeedMediaType checks that bodies with the media types of HTML forms, or without a media type, are refused regardless of their content.
func TestBodiesNeedMediaType(t *testing.T) {
	f := start(t, setting{})
	before := f.journ.State().Version
	for _, mediaType := range []string{"", "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "?"} {
		header := map[string]string{}
		if mediaType != "" {
			header["Content-Type"] = mediaType
		}
		for _, c := range calls {
			if c.body == "" {
				continue
			}
			if got := f.fromPage(t, f.srv.URL, c.method, c.path, c.body, header); got != http.StatusUnsupportedMediaType {
				t.Errorf("%s %s of type %q: %d", c.method, c.path, mediaType, got)
			}
		}
		if a := f.call(t, "", "POST", "/v1/tokens", mediaType, strings.NewReader("x")); a.status != http.StatusUnsupportedMediaType {
			t.Errorf("an order of type %q: %s", mediaType, a)
		}
	}
	if v := f.journ.State().Version; v != before {
		t.Errorf("version %d after %d", v, before)
	}
	if a := f.post(t, "sam", "/v1/changesets/none/approve"); a.status != http.StatusNotFound {
		t.Errorf("without a body: %s", a)
	}
}

// TestReportsOfOtherSitesAreRefused checks that a handler which is served next to the API refuses requests from web pages of other sites.
func TestReportsOfOtherSitesAreRefused(t *testing.T) {
	f := start(t, setting{})
	srv := httptest.NewServer(f.api.Guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), pushapi.Publisher))
	defer srv.Close()
	for _, c := range []struct {
		header map[string]string
		want   int
	}{
		{map[string]string{"Origin": "https://evil.example", "Content-Type": pushapi.TypeJSON}, http.StatusForbidden},
		{map[string]string{"Content-Type": "text/plain"}, http.StatusUnsupportedMediaType},
		{map[string]string{"Content-Type": pushapi.TypeJSON}, http.StatusOK},
	} {
		if got := f.fromPage(t, srv.URL, "POST", "/v1/journal/status", "{}", c.header); got != c.want {
			t.Errorf("%v: %d, want %d", c.header, got, c.want)
		}
	}
}
