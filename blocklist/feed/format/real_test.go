package format

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
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
		t.Fatalf("Parse of %s: %v", name, err)
	}
	t.Logf("%s: %d names, %d lines, refused %v", name, len(n), stats.Lines, stats.Refused.Map())
	return n, stats
}

func TestSameListInSixFormats(t *testing.T) {
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
	// These two formats write out names that the others cover with a subtree.
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

func TestSameListInTwoFormats(t *testing.T) {
	tests := []struct {
		plain, hosts string
		differ       map[string]bool // names that are in only one of the publisher's two files
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

func TestStalkerwareFormatsAgree(t *testing.T) {
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
	csv, stats := parseReal(t, dir+"network.csv")
	if diff := cmp.Diff(csv, quad9); diff != "" || stats.Refused[URLPath] != 2 {
		t.Errorf("(-csv +quad9)\n%s", diff)
	}
	misp, _ := parseReal(t, dir+"misp_event.json")
	tinycheck, _ := parseReal(t, dir+"indicators-for-tinycheck.json")
	for name := range hosts {
		for form, names := range map[string]names{"csv": csv, "misp": misp, "tinycheck": tinycheck} {
			if _, ok := names[name]; !ok {
				t.Errorf("hosts has %s, %s has not", name, form)
			}
		}
	}
	for name := range full { // what applications talk to and where they are sold; the event leaves one out
		if _, ok := misp[name]; !ok && name != "www.familyorbit.net" {
			t.Errorf("hosts_full has %s, misp has not", name)
		}
	}
}

// TestStructuredFeedsEqualPlainLists compares structured feeds with the plain lists of the same publishers.
func TestStructuredFeedsEqualPlainLists(t *testing.T) {
	for structured, plain := range map[string]string{
		"amnesty-stix2/2021-07-18_nso_pegasus.stix2": "amnesty-stix2/2021-07-18_nso_domains.txt",
		"blackbook/blackbook.csv":                    "blackbook/blackbook.txt",
		"discord-phishing/domain-list.json.gz":       "discord-phishing/txt_domain-list.txt",
		"ph00lt0/little-snitch-blocklist.lsrules":    "ph00lt0/domains.txt",
	} {
		got, _ := parseReal(t, structured)
		want, _ := parseReal(t, plain)
		for _, name := range []string{"bloxassets.com", "twitch-gives.com"} { // each of these is in only one of the two files of discord-phishing
			delete(got, name)
			delete(want, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-plain +got)\n%s", structured, diff)
		}
	}
	// The publisher has two plain lists for the names and the URLs of one CSV file.
	const orange = "orange-cyberdefense/OCD-Datalake-russia-ukraine_IOCs-"
	all, _ := parseReal(t, orange+"ALL.csv")
	apart, _ := parseReal(t, orange+"DOMAINS.txt")
	urls, _ := parseReal(t, orange+"URLS.txt")
	for name, scope := range urls {
		apart[name] |= scope
	}
	if diff := cmp.Diff(apart, all); diff != "" {
		t.Errorf("(-apart +all)\n%s", diff)
	}
}

// TestStructuredFeeds checks the number of listings of each feed, and the number of refused lines for each reason.
func TestStructuredFeeds(t *testing.T) {
	notUnderRace(t)
	tests := []struct {
		path     string
		format   Format
		listings int
		refused  map[string]int
	}{
		{"polkadot-phishing/all.json", JSON, 54887, map[string]int{"address": 4, "url-path": 2, "inexact-exception": 1}},
		{"phishtank-csv-2024/verified_online.csv", CSV, 355, map[string]int{"address": 4, "url-path": 708}},
		{"native-samples/urlhaus_csv_2026_header.csv", CSV, 1, map[string]int{}},
		{"native-samples/urlhaus_2022.rpz", RPZ, 4, map[string]int{}},
		{"amnesty-stix2/2018-08-01_nso_indicators.csv", CSV, 604, map[string]int{}},
		{"amnesty-stix2/2023-03-29_android_campaign_malware.stix2.gz", STIX, 2183, map[string]int{"pattern": 4}},
		{"stix21-oasis/examples_threat-reports_poisonivy.json", STIX, 24, map[string]int{"not-a-name": 1, "pattern": 42}},
		{"misp-events/tests_mispevent_testfiles_existing_event.json", MISP, 19, map[string]int{"address": 12, "other-indicator": 91}},
		{"intelmq-fixtures/intelmq/tests/bots/parsers/alienvault/test_parser_otx.data", JSON, 19,
			map[string]int{"address": 11, "other-indicator": 60, "url-path": 5}},
		{"intelmq-fixtures/intelmq/tests/bots/parsers/github_feed/example_ioc_strangereal_intel.json", JSON, 1,
			map[string]int{"address": 2, "single-label": 1, "too-long": 1}},
		{"intelmq-fixtures/intelmq/tests/bots/parsers/bambenek/dga-feed.txt", CSV, 1, map[string]int{}},
		{"../guard/tranco-100k-2026/data_openphish.csv", CSV, 100, map[string]int{"url-path": 200}},
		{"../guard/tranco-100k-2026/data_urlhaus.csv", CSV, 14, map[string]int{"address": 12931, "url-path": 8973}},
		{"adguard-urlfilter/testdata_requests.json.zip", JSON, 165, map[string]int{"address": 2, "url-path": 30357}},
	}
	for _, tt := range tests {
		for _, f := range []Format{tt.format, Auto} {
			s := &soundness{t: t}
			stats, err := Parse(realFeed(t, tt.path), Options{Format: f}, s)
			t.Logf("%s as %s: %d listings, refused %v", tt.path, f, stats.Listings, stats.Refused.Map())
			if f == Auto && strings.Contains(tt.path, "bambenek") {
				continue // has no header
			}
			if err != nil {
				t.Errorf("%s as %s: %v", tt.path, f, err)
			}
			if diff := cmp.Diff(tt.refused, stats.Refused.Map()); diff != "" || stats.Listings != tt.listings {
				t.Errorf("%s as %s: %d listings, want %d; refused (-want +got)\n%s", tt.path, f, stats.Listings, tt.listings, diff)
			}
		}
	}
}

// TestDailyCSVFiles reads four years of daily CSV files, each a list of its own.
func TestDailyCSVFiles(t *testing.T) {
	gz, err := gzip.NewReader(realFeed(t, "redflag-daily-fr/redflag-daily-csv-2022-2026.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	all, files, refused := names{}, 0, Refusals{}
	for archive := tar.NewReader(gz); ; {
		h, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(h.Name, ".csv") {
			continue
		}
		stats, err := Parse(archive, Options{}, all)
		if err != nil || stats.Format != CSV {
			t.Fatalf("%s: read as %s, %v", h.Name, stats.Format, err)
		}
		files++
		for why, n := range stats.Refused {
			refused[why] += n
		}
	}
	if files != 1620 || len(all) != 42479 || refused.Total() != 2 { // a wildcard, and an A-label that encodes nothing
		t.Errorf("%d files, %d names, refused %v", files, len(all), refused.Map())
	}
}

// TestUnusualRealLines checks unusual lines from real feeds, grouped by what is unusual about them.
func TestUnusualRealLines(t *testing.T) {
	lists := map[string]bool{ // the others must not block anything
		"adb_modifier": true, "defanged": true, "hosts_line_without_ip": true, "inline_comment": true, "leading_ws": true, "surrounding_space": true,
		"trailing_dot": true, "trailing_ws": true, "underscore": true, "unicode_name": true, "uppercase": true, "url": true, "wild_prefix": true,
	}
	content, err := io.ReadAll(realFeed(t, "../guard/ugly-lines.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	blocked := map[string]int{}
	for _, row := range strings.Split(string(content), "\n")[1:] {
		fields := strings.SplitN(row, "\t", 6)
		if len(fields) < 6 {
			continue
		}
		n := names{}
		if _, err := Parse(strings.NewReader(fields[5]), Options{}, n); err != nil && !errors.Is(err, ErrNotAList) {
			t.Errorf("Parse(%s): %v", fields[5], err)
		}
		blocked[fields[0]] += len(n)
		if len(n) > 0 && !lists[fields[0]] {
			t.Errorf("%s: %q blocks %v", fields[0], fields[5], n)
		}
	}
	for quirk := range lists {
		if blocked[quirk] == 0 {
			t.Errorf("no line with %s blocks anything", quirk)
		}
	}
}

// TestEveryRealFeed reads every available feed: the parser must not panic, and every name must be valid.
func TestEveryRealFeed(t *testing.T) {
	notUnderRace(t)
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

// soundness is a Sink that checks every hundredth name.
type soundness struct {
	t *testing.T
	n int
}

func (s *soundness) Add(_ int, l blocklist.Listing) {
	if l.Prefix.IsValid() {
		checkPrefix(s.t, l)
	} else if s.n++; s.n%100 == 0 {
		checkName(s.t, l.Name)
	}
}
func (s *soundness) Cancel(int, []byte, blocklist.Scope) {}
func (s *soundness) Refuse(int, Reason)                  {}
