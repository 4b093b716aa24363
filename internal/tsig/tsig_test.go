package tsig

import (
	"strings"
	"testing"
)

func TestParseAlgorithm(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"hmac-sha256": 32, "HMAC-SHA384.": 48, "hmac-sha512": 64} {
		a, err := ParseAlgorithm(name)
		if err != nil || a.Hash().Size() != size || a.Name != strings.TrimSuffix(strings.ToLower(name), ".") {
			t.Errorf("ParseAlgorithm(%s): %+v, %v; want a hash of %d bytes", name, a, err, size)
		}
	}
	for name, want := range map[string]string{"hmac-md5.sig-alg.reg.int": "too weak", "hmac-sha1": "too weak", "hmac-sha256-128": "too weak", "c2VjcmV0": "not known", "": "not known"} {
		if _, err := ParseAlgorithm(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestErrorsDoNotContainSecret(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t!"
	if _, err := ParseAlgorithm(secret); err == nil || strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
	if _, err := ParseSecret(secret); err == nil || strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
}
