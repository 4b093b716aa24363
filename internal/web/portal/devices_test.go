package portal

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestSettingsOfDevices(t *testing.T) {
	d := Devices{Addresses: []string{"192.0.2.1"}}
	p := newPortal(t, func(c *Config) { c.Devices = func() Devices { return d } })
	if _, body := get(t, p, "/devices?lang=en"); !strings.Contains(body, "does not offer an encrypted transport yet") || strings.Contains(body, "Android") {
		t.Errorf("without transports: %s", body)
	}
	if status, _ := get(t, p, "/rempart.mobileconfig"); status != 404 {
		t.Errorf("without a profile: status %d", status)
	}
	d = Devices{
		Name: "dns.example", URL: "https://dns.example/dns-query", Addresses: []string{"192.0.2.1"}, Windows: "netsh <one>\n",
		Profile: func() ([]byte, error) { return []byte("the profile"), nil },
	}
	p.config.QRCode = func(text string) (string, int, error) {
		if text != "http://example.com/devices" {
			t.Errorf("the code contains %q", text)
		}
		return "M4 4h1v1h-1z", 29, nil
	}
	_, body := get(t, p, "/devices?lang=en")
	for _, want := range []string{"<code dir=\"ltr\">dns.example</code>", "https://dns.example/dns-query", "<code dir=\"ltr\">192.0.2.1</code>", "netsh &lt;one&gt;", `href="/rempart.mobileconfig"`, `viewBox="0 0 29 29"`, "M4 4h1v1h-1z"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in %s", want, body)
		}
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/rempart.mobileconfig", nil))
	if w.Body.String() != "the profile" || w.Header().Get("Content-Type") != "application/x-apple-aspen-config" {
		t.Errorf("profile: %v %s", w.Header(), w.Body)
	}
	d.Profile = func() ([]byte, error) { return nil, errors.New("no address") }
	if status, _ := get(t, p, "/rempart.mobileconfig"); status != 503 {
		t.Errorf("a profile that cannot be made: status %d", status)
	}
}
