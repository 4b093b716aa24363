package resolver

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

func TestStructuredErrorIsJSON(t *testing.T) {
	b := newBench(t, nil, "evil.example")
	a, _ := b.ask(query(t, "evil.example", "A", "+sde"))
	ede := a.IsEdns0().Option[0].(*dns.EDNS0_EDE)
	var got structuredError
	if err := json.Unmarshal([]byte(ede.ExtraText), &got); err != nil {
		t.Fatal(err)
	}
	if got.SubError != 2 || got.Contact[0] != "mailto:abuse@isp.example" || got.Organisation != "Example" || got.Justification == "" || got.Language != "fr" {
		t.Errorf("structured error: %+v, want sub-error 2, contact, organisation, justification and language fr", got)
	}
	// If a long name leaves little room, all fields except the contact are left out first, then the whole text, but never the extended error.
	for _, tt := range []struct {
		label int
		size  uint16
		want  string
	}{{40, 1232, "cjol"}, {40, 500, "c"}, {58, 500, ""}} {
		b := newBench(t, func(c *Config) {
			c.Contact, c.Organisation = "mailto:"+strings.Repeat("a", 140)+"@isp.example", strings.Repeat("o", 100)
		}, "evil.example")
		m := query(t, strings.Repeat(strings.Repeat("a", tt.label)+".", 4)+"evil.example", "A", "+sde")
		m.IsEdns0().SetUDPSize(tt.size)
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		batch := []wire.Query{{Packet: packed}}
		b.w.Fast(batch)
		a := new(dns.Msg)
		if err := a.Unpack(batch[0].Out); err != nil {
			t.Fatal(err)
		}
		if a.Truncated || len(a.IsEdns0().Option) != 1 || len(batch[0].Out) > max(int(tt.size), 512) {
			t.Errorf("an answer of %d bytes for a client that accepts %d: %v", len(batch[0].Out), tt.size, a)
			continue
		}
		text, got := a.IsEdns0().Option[0].(*dns.EDNS0_EDE).ExtraText, ""
		for _, field := range []string{"c", "j", "o", "l"} {
			if strings.Contains(text, `"`+field+`":`) {
				got += field
			}
		}
		if got != tt.want || text != "" && !json.Valid([]byte(text)) {
			t.Errorf("labels of %d bytes, an answer of at most %d bytes: fields %q, want %q: %s", tt.label, tt.size, got, tt.want, text)
		}
	}
}

// TestStructuredContact checks that only telephone numbers and mail addresses are contacts, and that an object without a field is left out.
func TestStructuredContact(t *testing.T) {
	for contact, want := range map[string]string{
		"mailto:abuse@isp.example":   `{"c":["mailto:abuse@isp.example"]}`,
		"tel:+33123456789":           `{"c":["tel:+33123456789"]}`,
		"https://isp.example/appeal": "",
		"":                           "",
	} {
		full, short, err := structuredError{Justification: "x"}.texts(contact, "ISP")
		if err != nil {
			t.Fatal(err)
		}
		if short != want || strings.Contains(full, "https:") || !strings.Contains(full, `"j":"x","o":"ISP","l":"fr"`) {
			t.Errorf("contact %q: %s and %s", contact, full, short)
		}
	}
}

// TestStructuredErrorNamesDecision checks the fields that depend on the decision behind a block: the filtering database, and the sub-error.
func TestStructuredErrorNamesDecision(t *testing.T) {
	known := []databaseEntry{{"lumen", "ORDER-7"}}
	for _, tt := range []struct {
		name, database, decision string
		category                 blocklist.Category
		mark                     blocklist.Mark
		subError                 int
		want                     []databaseEntry
	}{
		{"no database", "", "ORDER-7", blocklist.Phishing, blocklist.Blocked, 2, nil},
		{"no decision", "lumen", "", blocklist.Phishing, blocklist.Blocked, 2, nil},
		{"blocked", "lumen", "ORDER-7", blocklist.Malware, blocklist.Blocked, 1, known},
		{"censored", "lumen", "ORDER-7", blocklist.Phishing, blocklist.Censored, 0, known},
		{"censored, no database", "", "ORDER-7", blocklist.Phishing, blocklist.Censored, 0, nil},
		{"filtered", "lumen", "ORDER-7", blocklist.Stalkerware, blocklist.Filtered, 4, known},
	} {
		for _, lists := range []bool{false, true} {
			b := newBench(t, func(c *Config) { c.Database, c.NameSources = tt.database, lists })
			replace(t, b, blocklist.Listing{Scope: blocklist.Subtree, Category: tt.category, Mark: tt.mark, ID: tt.decision})
			a, _ := b.ask(query(t, "www.evil.example", "A", "+sde"))
			ede := a.IsEdns0().Option[0].(*dns.EDNS0_EDE)
			var got structuredError
			if err := json.Unmarshal([]byte(ede.ExtraText), &got); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if diff := cmp.Diff(tt.want, got.Databases); diff != "" || got.SubError != tt.subError || ede.InfoCode != wire.EDEBlocked+uint16(tt.mark) {
				t.Errorf("%s, names of lists %v: code %d, %s%s", tt.name, lists, ede.InfoCode, ede.ExtraText, diff)
			}
			a, _ = b.ask(query(t, "www.evil.example", "A", "+edns"))
			if text := a.IsEdns0().Option[0].(*dns.EDNS0_EDE).ExtraText; strings.Contains(text, "ORDER") || !lists && text != tt.category.String() {
				t.Errorf("%s, names of lists %v: EXTRA-TEXT %q", tt.name, lists, text)
			}
		}
	}
}

// replace makes l, for evil.example, the only listing of the set.
func replace(t *testing.T, b *bench, l blocklist.Listing) {
	t.Helper()
	l.Name = dnstest.WireName(t, "evil.example")
	builder := blocklist.NewBuilder()
	if err := builder.Add(l); err != nil {
		t.Fatal(err)
	}
	if err := b.set.Replace(compiled(t, 9, builder.Input(blocklist.Source{Name: "CERT.PL"}))); err != nil {
		t.Fatal(err)
	}
}
