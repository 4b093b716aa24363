package feed

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
)

// names is a Sink that keeps the blocked names, with the widest scope listed.
type names map[string]blocklist.Scope

func (n names) Add(_ int, l blocklist.Listing) {
	if l.Decision == blocklist.Block {
		n[blocklist.NameText(l.Name)] |= l.Scope
	}
}
func (n names) Cancel(int, []byte, blocklist.Scope) {}
func (n names) Refuse(int, Reason)                  {}

// covers reports whether n blocks name itself.
func (n names) covers(name string) bool {
	if n[name]&blocklist.Exact != 0 {
		return true
	}
	for {
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return false
		}
		if name = parent; n[name]&blocklist.Below != 0 {
			return true
		}
	}
}

func parseReal(t *testing.T, name string) (names, Stats) {
	t.Helper()
	n := names{}
	stats, err := Parse(realFeed(t, name), Options{}, n)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Logf("%s: %d names, %d lines, refused %v", name, len(n), stats.Lines, stats.Refused.Map())
	return n, stats
}

func TestSameListInSixForms(t *testing.T) {
	const dir = "hagezi-formats-2022/"
	want, _ := parseReal(t, dir+"adblock_fake.txt")
	for _, form := range []string{"dnsmasq_fake.txt", "unbound_fake.blacklist.conf", "wildcard_fake.txt"} {
		got, stats := parseReal(t, dir+form)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-adblock +got)\n%s", form, diff)
		}
		if n := stats.Refused.Total(); n > 0 {
			t.Errorf("%s: %d refused", form, n)
		}
	}
	domains, _ := parseReal(t, dir+"domains_fake.txt")
	hosts, _ := parseReal(t, dir+"hosts_fake.txt")
	for name, scope := range hosts {
		if scope != blocklist.Exact {
			t.Fatalf("%s of a hosts file has scope %v", name, scope)
		}
		hosts[name] = blocklist.Subtree
	}
	if diff := cmp.Diff(domains, hosts); diff != "" {
		t.Errorf("(-domains +hosts)\n%s", diff)
	}
	// These two spell out names that the others reach as subtrees.
	for name := range want {
		if !domains.covers(name) {
			t.Errorf("%s is missing from the domains form", name)
		}
	}
	for name := range domains {
		if !want.covers(name) {
			t.Errorf("%s is missing from the adblock form", name)
		}
	}
}

func TestSameListInTwoForms(t *testing.T) {
	tests := []struct {
		plain, hosts string
		differ       map[string]bool // what the publisher's two files differ by
	}{
		{
			"dandelion-antimalware/Alternate_versions_Anti-Malware_List_AntiMalwareDomains.txt",
			"dandelion-antimalware/Alternate_versions_Anti-Malware_List_AntiMalwareHosts.txt",
			map[string]bool{"demo.ublock.org": true, "www.ublock.org": true},
		},
		{"ph00lt0/domains.txt", "ph00lt0/hosts-blocklist.txt", nil},
		{"ph00lt0/wildcard-blocklist.txt", "ph00lt0/rpz-blocklist.txt", nil},
		{"ph00lt0/domains.txt", "ph00lt0/unbound-blocklist.txt", nil},
	}
	for _, tt := range tests {
		plain, _ := parseReal(t, tt.plain)
		hosts, _ := parseReal(t, tt.hosts)
		for name := range plain {
			if _, ok := hosts[name]; !ok && !tt.differ[name] {
				t.Errorf("%s has %s, %s has not", tt.plain, name, tt.hosts)
			}
		}
		for name := range hosts {
			if _, ok := plain[name]; !ok && !tt.differ[name] {
				t.Errorf("%s has %s, %s has not", tt.hosts, name, tt.plain)
			}
		}
	}
}

func TestStalkerwareForms(t *testing.T) {
	const dir = "assoechap-stalkerware/generated_"
	hosts, _ := parseReal(t, dir+"hosts")
	full, _ := parseReal(t, dir+"hosts_full")
	for name := range hosts {
		if !full.covers(name) {
			t.Errorf("hosts has %s, hosts_full has not", name)
		}
	}
	quad9, stats := parseReal(t, dir+"quad9_blocklist.txt")
	if _, ok := quad9["github.com"]; ok || stats.Refused[URLPath] != 2 {
		t.Errorf("two pages on github.com were not refused as such: %v", stats.Refused.Map())
	}
	// The CSV form holds the same names; its column of names is a plain list.
	var column strings.Builder
	lines := bufio.NewScanner(realFeed(t, dir+"network.csv"))
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ","); fields[0] == "domain" {
			column.WriteString(fields[1] + "\r\n")
		}
	}
	csv := names{}
	if _, err := Parse(strings.NewReader(column.String()), Options{}, csv); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(csv, quad9); diff != "" {
		t.Errorf("(-csv +quad9)\n%s", diff)
	}
}

// TestEveryRealFeed reads whatever is there: nothing may panic, and every name must be sound.
func TestEveryRealFeed(t *testing.T) {
	if testing.Short() {
		t.Skip("reads some 60 MB")
	}
	root := "../../../shared/data/feeds"
	if _, err := os.Stat(root); err != nil {
		t.Skipf("no copy of the feeds: %v", err)
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		s := &soundness{t: t}
		stats, err := Parse(f, Options{}, s)
		t.Logf("%s: %d lines, %d listings, %d cancelled, refused %v, %v", strings.TrimPrefix(path, root+"/"),
			stats.Lines, stats.Listings, stats.Cancels, stats.Refused.Map(), err)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// soundness checks every hundredth name.
type soundness struct {
	t *testing.T
	n int
}

func (s *soundness) Add(_ int, l blocklist.Listing) {
	if s.n++; s.n%100 == 0 {
		checkName(s.t, l.Name)
	}
}
func (s *soundness) Cancel(int, []byte, blocklist.Scope) {}
func (s *soundness) Refuse(int, Reason)                  {}
