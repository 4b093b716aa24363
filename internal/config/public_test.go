package config

import "testing"

func TestOrigins(t *testing.T) {
	for text, want := range map[string]bool{
		"https://filter.isp.example": true, "https://filter.isp.example:8443": true, "https://192.0.2.1": true, "http://127.0.0.1:8443": true, "http://localhost": true,
		"": false, "filter.isp.example": false, "http://filter.isp.example": false, "https://a.b?": false, "https://a.b#": false, "https://a.b/": false, "https://a.b:99999": false,
		"https://a.b:0": false, "https://u:p@a.b": false, `https://a"><script>`: false, "https://a.b:": false,
	} {
		if isOrigin(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
