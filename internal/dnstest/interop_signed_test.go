package dnstest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// newSignedZone returns a zone with one name that passes and one that is blocked.
func newSignedZone(t *testing.T) *SignedZone {
	t.Helper()
	return NewSignedZone(t, "signed.example.",
		"www.signed.example. 300 IN A "+originAddr,
		"bad.signed.example. 300 IN A "+originAddr,
		"bad.signed.example. 300 IN TXT \"signed\"",
	)
}

// newSigningUpstream returns an upstream that serves z, and originAddr for all other names.
func newSigningUpstream(t *testing.T, z *SignedZone) *Upstream {
	t.Helper()
	return NewUpstream(t, ServeZones(Answer("@ 300 IN A "+originAddr), z))
}

// testDelv validates answers that pass through Rempart: answers that are not blocked are secure, and delv must report a blocked name of a signed zone as invalid.
func testDelv(t *testing.T, p *peers) {
	z := newSignedZone(t)
	u := newSigningUpstream(t, z)
	r := p.rempart(t, "REMPART_UPSTREAMS=udp://"+u.Addr.String())
	anchor := filepath.Join(p.dir, "anchor.conf")
	text := fmt.Sprintf("trust-anchors { %q static-key 257 3 13 %q; };\n", z.Name, z.Key.PublicKey)
	if err := os.WriteFile(anchor, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	secured := "-a " + anchor + " +root=" + z.Name + " "
	const validated = `fully validated`
	for _, a := range []asked{
		{secured + "www.signed.example A", []string{validated, `192\.0\.2\.1$`, `RRSIG`}, nil},
		{secured + "www.signed.example AAAA", []string{`negative response, fully validated`}, nil},
		{secured + "bad.signed.example DS", []string{`negative response, fully validated`}, nil}, // never blocked
		{secured + "bad.signed.example A", []string{`resolution failed`}, []string{validated, pageAddr + `$`}},
		{secured + "bad.signed.example TXT", []string{`resolution failed`}, []string{validated}},
		{"-i bad.signed.example A", []string{`127\.0\.0\.1$`}, nil},
	} {
		a.check(t, "delv", r.DNS)
	}
}
