package operate

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"rempart/internal/config"
)

// TestAPITokenIsNotRedirected checks that commands follow no redirect of an API, so that the token is sent to one server only.
func TestAPITokenIsNotRedirected(t *testing.T) {
	asked := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	defer other.Close()
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	defer first.Close()
	c, err := newAPIClient(&config.Client{API: first.URL, APIToken: "SECRET"}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.get(t.Context(), "/v1/nodes", nil, nil); err == nil || asked != 0 {
		t.Errorf("followed %d times, error %v", asked, err)
	}
}
