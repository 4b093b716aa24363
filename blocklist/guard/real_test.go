package guard

import (
	"bufio"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

// realData is the folder of the real data.
const realData = "../../../shared/data"

// eachReal calls f for each line of a file of the real data, which may be compressed with gzip. It skips the test if the data is not available.
func eachReal(t testing.TB, name string, f func(line string)) {
	t.Helper()
	file, err := os.Open(filepath.Join(realData, name))
	if err != nil {
		t.Skip("the real data is not here: ", err)
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(bufio.NewReader(file)); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f(lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// tranco returns the ranks of names in the ranked list of the real data.
func tranco(t testing.TB) map[string]int {
	ranks := map[string]int{}
	eachReal(t, "guard/tranco-100k-ranked.txt.gz", func(name string) { ranks[name] = len(ranks) + 1 })
	return ranks
}

func openTranco(t testing.TB) io.Reader {
	f, err := os.Open(filepath.Join(realData, "guard/tranco-100k-ranked.txt.gz"))
	if err != nil {
		t.Skip("the real data is not here: ", err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// check returns g's finding on a block of a name and all names below it.
func check(t testing.TB, g *Guards, text string) Finding {
	t.Helper()
	return g.Check(blocklist.Listing{Name: dnstest.WireName(t, text), Scope: blocklist.Subtree})
}

// TestEveryPublicSuffixIsGuarded compares the guard with x/net and with the public suffix list: the guard must object to every suffix of either, except a few
// new ones, and must not object to other names as suffixes.
func TestEveryPublicSuffixIsGuarded(t *testing.T) {
	g := newGuards(t, Config{Popular: strings.NewReader("nobody.example\n")})
	rules, exceptions, missing := 0, 0, 0
	eachReal(t, "guard/publicsuffix/public_suffix_list.dat", func(line string) {
		rule, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if rule == "" || strings.HasPrefix(rule, "//") {
			return
		}
		rules++
		rule, err := idna.Punycode.ToASCII(rule)
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutPrefix(rule, "!"); ok {
			exceptions++
			if f := check(t, g, name); f.Guard == PublicSuffix {
				t.Errorf("exception %s is refused as a public suffix: %s", rule, f.Explain(nil))
			}
			return
		}
		name := rule
		if base, ok := strings.CutPrefix(rule, "*."); ok {
			name = "anything." + base
		}
		f := check(t, g, name)
		switch objects := f.Guard == PublicSuffix || f.Guard == Name; {
		case isKnownSuffix(name) && !objects:
			t.Errorf("%s is a public suffix, but %v %v", name, f.Outcome, f.Guard)
		case !objects:
			missing++ // a rule that is newer than the warning list and x/net
		}
		if f := check(t, g, "a."+name); f.Guard == PublicSuffix && f.why == suffix && !isKnownSuffix("a."+name) {
			t.Errorf("a.%s: %s", name, f.Explain(nil))
		}
	})
	t.Logf("%d rules, %d exceptions; %d rules are newer than the shipped rules", rules, exceptions, missing)
	if rules < 9000 || missing > 30 {
		t.Errorf("%d rules, %d missing", rules, missing)
	}
}

// isKnownSuffix reports whether name is a public suffix according to x/net.
func isKnownSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix == name
}

// TestPublicSuffixVectors checks the test vectors of the public suffix list: pairs of a name and its registrable domain, null for none.
func TestPublicSuffixVectors(t *testing.T) {
	g := newGuards(t, Config{Popular: strings.NewReader("nobody.example\n")})
	n := 0
	eachReal(t, "guard/publicsuffix/tests_test_psl.txt", func(line string) {
		args, ok := strings.CutPrefix(strings.TrimSpace(line), "checkPublicSuffix(")
		if !ok {
			return
		}
		name, registrable, _ := strings.Cut(strings.TrimSuffix(args, ");"), ", ")
		name, registrable = strings.Trim(name, "'"), strings.Trim(registrable, "'")
		if name == "null" || name == "" || strings.HasPrefix(name, ".") {
			return
		}
		name, err := idna.Punycode.ToASCII(strings.ToLower(name))
		if err != nil {
			t.Fatal(err)
		}
		n++
		f := check(t, g, name)
		if objects := f.Guard == PublicSuffix && f.why != suffixBelow && f.why != suffixesBelow || f.Guard == Name; objects != (registrable == "null") {
			t.Errorf("%s, of which %s can be registered: %v %v %s", name, registrable, f.Outcome, f.Guard, f.Explain(nil))
		}
	})
	if n < 60 {
		t.Errorf("only %d vectors", n)
	}
}

// TestRiskyListingsAreStopped checks that the guards stop names that real feeds listed although they are popular or public suffixes. The shipped popularity
// list is older than the ranks of the data, so some popular names pass with it.
func TestRiskyListingsAreStopped(t *testing.T) {
	for _, popular := range []string{"shipped", "tranco"} {
		c := Config{}
		if popular == "tranco" {
			c.Popular = openTranco(t)
		}
		g := newGuards(t, c)
		by, passed := map[string]int{}, []string{}
		eachReal(t, "guard/risky-entries-in-real-feeds.tsv", func(line string) {
			fields := strings.Split(line, "\t")
			rank, _ := strconv.Atoi(fields[1])
			if fields[0] == "name" || fields[2] == "" && (rank == 0 || rank > DefaultBound) {
				return
			}
			f := check(t, g, fields[0])
			by[f.Outcome.String()+" "+f.Guard.String()]++
			if f.Outcome == Pass {
				passed = append(passed, fields[0]+" "+fields[1]+" "+fields[2])
			}
		})
		t.Logf("%s popularity list: %v", popular, by)
		if popular == "tranco" && len(passed) > 0 || len(passed) > 75 {
			t.Errorf("%s popularity list: %d names pass: %v", popular, len(passed), passed)
		}
	}
}

func TestPopularRequestedHostsAreGuarded(t *testing.T) {
	g := newGuards(t, Config{Popular: openTranco(t)})
	ranks := tranco(t)
	n, below := 0, 0
	eachReal(t, "guard/benign-web-request-hosts.tsv", func(line string) {
		host, _, _ := strings.Cut(line, "\t")
		f := check(t, g, host)
		rank := ranks[strings.TrimPrefix(host, "www.")]
		switch {
		case rank > 0 && rank <= DefaultBound && f.Outcome == Pass:
			t.Errorf("%s passes, although its rank is %d", host, rank)
		case f.Outcome != Pass:
			n++
		default:
			below++
		}
	})
	t.Logf("the guards stop %d hosts; %d hosts pass, because they are not popular themselves", n, below)
}

func TestPopularFrenchNamesAreGuarded(t *testing.T) {
	g := newGuards(t, Config{})
	for _, name := range []string{"impots.gouv.fr", "credit-agricole.fr", "free.fr", "sfr.fr", "fdj.fr", "mediapart.fr", "challenges.fr",
		"caissedesdepots.fr", "brgm.fr", "ameli.fr", "caf.fr", "urssaf.fr", "orange.fr", "laposte.fr", "aphp.fr", "leboncoin.fr", "lemonde.fr"} {
		f := check(t, g, name)
		t.Logf("%s: %v, %s", name, f.Outcome, f.Explain(dnstest.WireName(t, name)))
		if f.Outcome == Pass {
			t.Errorf("%s passes", name)
		}
	}
}

func TestCuratedThreatsPass(t *testing.T) {
	g := newGuards(t, Config{})
	total, by := 0, map[string]int{}
	for _, file := range []string{"full-domains-aa.txt", "full-domains-ab.txt"} {
		eachReal(t, "feeds/romainmarcoux/"+file, func(line string) {
			name, err := blocklist.AppendName(nil, strings.TrimSpace(line))
			if err != nil || len(name) < 2 || line[0] == '#' {
				return
			}
			total++
			f := g.Check(blocklist.Listing{Name: name, Scope: blocklist.Subtree})
			if f.Outcome != Pass {
				if by[f.Guard.String()]++; by[f.Guard.String()] <= 12 {
					t.Logf("%s: %v, %s", line, f.Outcome, f.Explain(name))
				}
			}
		})
	}
	stopped := 0
	for n := range maps.Values(by) {
		stopped += n
	}
	t.Logf("%d names, %d do not pass: %v", total, stopped, by)
	if total < 190_000 || stopped*1000 > total {
		t.Errorf("%d of %d do not pass", stopped, total)
	}
}

// TestLogDecisionsOnRealFeeds logs the decisions of each guard about five million names that real feeds list or have listed.
func TestLogDecisionsOnRealFeeds(t *testing.T) {
	if !testing.Verbose() {
		t.Skip("a report over five million names: -v shows it")
	}
	g := newGuards(t, Config{})
	ranks := tranco(t)
	stopped := map[string][]string{}
	total := 0
	eachReal(t, "scale/threat-names-5041083.sorted.txt.gz", func(line string) {
		total++
		if f := check(t, g, line); f.Outcome != Pass {
			kind := f.Outcome.String() + " " + f.Guard.String()
			stopped[kind] = append(stopped[kind], line)
		}
	})
	for _, kind := range slices.Sorted(maps.Keys(stopped)) {
		names := stopped[kind]
		slices.SortStableFunc(names, func(a, b string) int { return rankOr(ranks, a) - rankOr(ranks, b) })
		t.Logf("%s: %d, the most popular %v", kind, len(names), names[:min(10, len(names))])
	}
	t.Logf("of %d", total)
}

func rankOr(ranks map[string]int, name string) int {
	if r := ranks[name]; r > 0 {
		return r
	}
	return maxRank
}
