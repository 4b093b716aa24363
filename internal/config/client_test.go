package config

import (
	"strings"
	"testing"
)

func TestClientSettings(t *testing.T) {
	c, err := loadClient(map[string]string{Prefix + "LISTEN": "nonsense"}) // a setting of servers, which commands ignore
	if err != nil || c.API != "http://127.0.0.1:9254" {
		t.Errorf("settings %+v, %v; want the default API", c, err)
	}
	for variable, tt := range map[string]struct{ value, right string }{
		"API":            {"http://control.example:9254", "https"},
		"API_CERT":       {"cert.pem", "API_CERT_KEY"},
		"API_TOKEN_FILE": {"token", "one of them"},
	} {
		_, err := loadClient(map[string]string{Prefix + variable: tt.value, Prefix + "API_TOKEN": "x"})
		if err == nil || !strings.Contains(err.Error(), Prefix+variable) || !strings.Contains(err.Error(), tt.value) || !strings.Contains(err.Error(), tt.right) {
			t.Errorf("error %v, want one that names %s, %q and %q", err, Prefix+variable, tt.value, tt.right)
		}
	}
	for _, url := range []string{"control.example", "ftp://control.example", "https://user:secret@control.example", "https://", "https://control.example?x", "http://192.0.2.1"} {
		if _, err := loadClient(map[string]string{Prefix + "API": url}); err == nil {
			t.Errorf("%s was accepted", url)
		}
	}
}

func TestKeysFolder(t *testing.T) {
	for want, environ := range map[string]map[string]string{
		"/k":                           {Prefix + "KEYS": "/k", Prefix + "DATA_DIR": "/d"},
		"/d/keys":                      {Prefix + "DATA_DIR": "/d", "HOME": "/h"},
		"/h/.local/state/rempart/keys": {"HOME": "/h"},
		"/var/lib/rempart/keys":        {"STATE_DIRECTORY": "/var/lib/rempart"},
	} {
		if got, err := keysFolder(environ); got != want || err != nil {
			t.Errorf("keysFolder(%v) = %s, %v; want %s", environ, got, err, want)
		}
	}
	if _, err := keysFolder(map[string]string{}); err == nil {
		t.Error("keysFolder without a home folder returned no error")
	}
}
