package admin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAdmin(t *testing.T) {
	registry := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "rempart_things_total"})
	registry.MustRegister(c)
	why := "no list is loaded yet"
	h := New(registry, func() string { return why })
	for _, tt := range []struct {
		method, path string
		code         int
		holds        string
	}{
		{"GET", "/metrics", http.StatusOK, "rempart_things_total 0"},
		{"GET", "/livez", http.StatusOK, "alive"},
		{"GET", "/readyz", http.StatusServiceUnavailable, "no list is loaded yet"},
		{"GET", "/", http.StatusNotFound, ""},
		{"POST", "/readyz", http.StatusMethodNotAllowed, ""},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.holds) {
			t.Errorf("%s %s: status %d, body %q; want %d and a body with %q", tt.method, tt.path, w.Code, w.Body, tt.code, tt.holds)
		}
	}
	why = ""
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("/readyz without a reason: status %d, want 200", w.Code)
	}
}
