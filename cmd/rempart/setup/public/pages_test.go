package public

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"rempart/internal/appeal"
	"rempart/internal/web/authority"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
)

// TestExampleFiles checks that the example files of deploy are valid.
func TestExampleFiles(t *testing.T) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	table, err := authority.Parse(read("authorities.toml"))
	if err != nil || table.Of("example-authority-2026-3") == nil || !table.Of("another-2026-114").IPv4.IsValid() {
		t.Errorf("authorities.toml: %+v, %v", table, err)
	}
	if _, err := texts.ParseHelp(read("help.toml")); err != nil {
		t.Errorf("help.toml: %v", err)
	}
	if p, err := appeal.ParsePolicy(read("appeals.toml")); err != nil || p.Service == "" {
		t.Errorf("appeals.toml: %+v, %v", p, err)
	}
}

// TestProxiesNameReaders checks that a proxy of REMPART_PROXIES names the client of a request, and nobody else does.
func TestProxiesNameReaders(t *testing.T) {
	var seen netip.Addr
	h := behind([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = lookup.Client(r) }))
	for _, tt := range []struct{ from, field, value, want string }{
		{"192.0.2.1:99", "X-Forwarded-For", "203.0.113.9, 198.51.100.7", "198.51.100.7"},
		{"192.0.2.1:99", "Forwarded", "for=\"[2001:db8::7]:4711\"", "2001:db8::7"},
		{"192.0.2.1:99", "X-Other", "x", "invalid IP"},
		{"198.51.100.9:99", "X-Forwarded-For", "203.0.113.9", "198.51.100.9"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = tt.from
		r.Header.Set(tt.field, tt.value)
		h.ServeHTTP(httptest.NewRecorder(), r)
		if seen.String() != tt.want {
			t.Errorf("%s, %s: %s: the client is %s, want %s", tt.from, tt.field, tt.value, seen, tt.want)
		}
	}
}
