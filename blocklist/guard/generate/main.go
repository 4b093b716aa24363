// Command generate makes the guards' shipped lists out of the MISP warning lists, a copy of whose
// repository it is given:
//
//	git clone --depth 1 https://github.com/MISP/misp-warninglists
//	go run ./generate -lists misp-warninglists
//
// It is run in blocklist/guard and writes popular.csv.gz, suffixes.txt and shared.txt there.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// popularity holds the combined lists and the rank of their names: MISP sorts them by name, so that only the length of the list bounds the rank of a name.
var popularity = []struct {
	list string
	rank int
}{
	{"moz-top500", 500}, {"alexa", 1000}, {"cisco_top1000", 1000},
	{"tranco10k", 10000}, {"cisco_top10k", 10000}, {"majestic_million", 10000},
}

func main() {
	lists := flag.String("lists", "", "folder of a copy of MISP's misp-warninglists repository")
	flag.Parse()
	if err := generate(*lists); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(folder string) error {
	ranks := map[string]int{}
	for _, p := range popularity {
		names, err := read(folder, p.list)
		if err != nil {
			return err
		}
		for _, name := range names {
			if best, ok := ranks[name]; (!ok || p.rank < best) && strings.Contains(name, ".") && !strings.HasSuffix(name, ".arpa") {
				ranks[name] = p.rank
			}
		}
	}
	suffixes, err := read(folder, "second-level-tlds")
	if err != nil {
		return err
	}
	var shared []string
	for _, list := range []string{"url-shortener", "link-in-bio", "lots-project"} {
		names, err := read(folder, list)
		if err != nil {
			return err
		}
		shared = append(shared, names...)
	}
	slices.Sort(shared)
	return write(ranks, rules(suffixes), slices.Compact(shared))
}

// read returns the names of a list, in lower case and as A-labels, without lines that are no names.
func read(folder, list string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(folder, "lists", list, "list.json"))
	if err != nil {
		return nil, err
	}
	var content struct{ List []string }
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", list, err)
	}
	var names []string
	for _, entry := range content.List {
		name, err := idna.Punycode.ToASCII(strings.ToLower(strings.Trim(entry, ".")))
		if err == nil && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// rules distinguishes the rules and "*.name", of which the list of suffixes contains the name only. A suffix that x/net does not know yet is a rule. Top-level
// domains are left out: a listing of one never takes effect.
func rules(suffixes []string) []string {
	var all []string
	for _, name := range suffixes {
		wildcard := isSuffix("_." + name)
		if wildcard {
			all = append(all, "*."+name)
		}
		if strings.Contains(name, ".") && (!wildcard || isSuffix(name)) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func isSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix == name
}

func write(ranks map[string]int, suffixes, shared []string) error {
	byRank := slices.SortedFunc(maps.Keys(ranks), func(a, b string) int {
		if ranks[a] != ranks[b] {
			return ranks[a] - ranks[b]
		}
		return strings.Compare(a, b)
	})
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	for _, name := range byRank {
		fmt.Fprintf(z, "%d,%s\n", ranks[name], name)
	}
	if err := z.Close(); err != nil {
		return err
	}
	for file, data := range map[string][]byte{
		"popular.csv.gz": packed.Bytes(),
		"suffixes.txt":   []byte(strings.Join(suffixes, "\n") + "\n"),
		"shared.txt":     []byte(strings.Join(shared, "\n") + "\n"),
	} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("%d popular names, %d rules of suffixes, %d shared hosts\n", len(byRank), len(suffixes), len(shared))
	return nil
}
