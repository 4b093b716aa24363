package hosts

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestOnlyOwnNamesAreServed(t *testing.T) {
	h := Only(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
		func(name string) bool { return name == "control.example" },
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusMisdirectedRequest) })
	for host, want := range map[string]bool{
		"127.0.0.1:9254": true, "127.0.0.1": true, "localhost:9254": true, "LOCALHOST.": true, "[::1]:9254": true, "[::1]": true, "a.localhost": true,
		"192.0.2.1:9253": true, "[fe80::1%eth0]:1": true, "control.example": true, "Control.Example.:9254": true, "": true,
		"evil.example": false, "evil.example:9254": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false, "notlocalhost": false,
		"control.example.evil.example": false, "2130706433": false, "127.1": false,
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := w.Code == http.StatusOK; got != want {
			t.Errorf("%q: served %v, want %v", host, got, want)
		}
	}
}
