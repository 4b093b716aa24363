package portal

import (
	"strings"
	"testing"
	"time"

	"rempart/internal/web/statement"
)

func TestStatementAndSecurityTxt(t *testing.T) {
	facts := statement.Facts{Organisation: "Example & Co", HasTLS: true}
	p := newPortal(t, func(c *Config) {
		c.Statement = func() statement.Facts { return facts }
		c.Now = func() time.Time { return time.Unix(1_800_000_000, 0) }
	})
	for lang, want := range map[string]string{"fr": `<div lang="fr" dir="ltr">`, "en": "DNS over TLS."} {
		if status, body := get(t, p, "/privacy?lang="+lang); status != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d, no %q in %s", lang, status, want, body)
		}
	}
	if status, _ := get(t, p, "/.well-known/security.txt"); status != 404 {
		t.Errorf("security.txt without a contact: status %d", status)
	}
	p.config.Contact = "mailto:security@isp.example"
	if status, body := get(t, p, "/.well-known/security.txt"); status != 200 || !strings.HasPrefix(body, "Contact: mailto:security@isp.example\nExpires: 2027-") {
		t.Errorf("security.txt: %d %s", status, body)
	}
}
