package statement

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func load(t *testing.T) map[string]Texts {
	t.Helper()
	all, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEachFactChangesTheStatement checks that a server with another setting makes another statement, in each language.
func TestEachFactChangesTheStatement(t *testing.T) {
	base := Facts{Organisation: "Example", HasPage: true, Lists: []string{"a list"}, Upstreams: []string{"192.0.2.1"}, Addresses: []string{"192.0.2.53"}}
	changes := map[string]func(*Facts){
		"organisation": func(f *Facts) { f.Organisation = "Another" },
		"contact":      func(f *Facts) { f.Contact = "mailto:a@b.example" },
		"mode":         func(f *Facts) { f.IsObserving = true },
		"answer":       func(f *Facts) { f.HasPage = false },
		"lists":        func(f *Facts) { f.Lists = nil },
		"control":      func(f *Facts) { f.HasControl = true },
		"continue":     func(f *Facts) { f.Continue = time.Hour },
		"appeals":      func(f *Facts) { f.Appeals = 400 * 24 * time.Hour },
		"cookies":      func(f *Facts) { f.HasCookies = true },
		"tap":          func(f *Facts) { f.TapSample = 1000 },
		"tap clients":  func(f *Facts) { f.TapSample, f.TapClients = 1000, CutClients },
		"tap keyed":    func(f *Facts) { f.TapSample, f.TapClients = 1000, KeyedClients },
		"addresses":    func(f *Facts) { f.Addresses = []string{"192.0.2.54"} },
		"tls":          func(f *Facts) { f.HasTLS = true },
		"https":        func(f *Facts) { f.HasHTTPS = true },
		"quic":         func(f *Facts) { f.HasQUIC = true },
		"clients":      func(f *Facts) { f.IsRestricted = true },
		"upstreams":    func(f *Facts) { f.Upstreams = []string{"dns.example"} },
		"encryption":   func(f *Facts) { f.IsEncrypted = true },
	}
	for tag, texts := range load(t) {
		seen := map[string]string{fmt.Sprint(texts.Write(&base)): "no change"}
		for name, change := range changes {
			f := base
			change(&f)
			text := fmt.Sprint(texts.Write(&f))
			if other, same := seen[text]; same {
				t.Errorf("%s: %s makes the same statement as %s", tag, name, other)
			}
			seen[text] = name
			for _, section := range texts.Write(&f) {
				for _, p := range section.Paragraphs {
					if strings.ContainsAny(p, "{}") || p == "" {
						t.Errorf("%s: %s: a gap in %q of %s", tag, name, p, section.Title)
					}
				}
			}
		}
	}
}

func TestSecurityTxt(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	if text := SecurityTxt("mailto:a@b.example", now); text != "Contact: mailto:a@b.example\nExpires: 2027-05-29T00:00:00Z\nPreferred-Languages: fr, en\n" {
		t.Errorf("%q", text)
	}
	if text := SecurityTxt("", now); text != "" {
		t.Errorf("without a contact: %q", text)
	}
}
