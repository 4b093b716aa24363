package main

import (
	"bufio"
	"os"
	"strings"
	"testing"

	"rempart/bench"
)

// TestLoads creates small loads and checks their names.
func TestLoads(t *testing.T) {
	t.Setenv(bench.ThreatNames, "")
	t.Setenv(bench.PopularNames, "")
	l, err := newLoads(t.TempDir(), 2*hot)
	if err != nil {
		t.Fatal(err)
	}
	listed, popular := set(l.names), set(l.popular)
	if asked := read(t, l.path(distinct)); len(asked) != len(l.names) || len(set(asked)) != len(asked) {
		t.Errorf("%d queries with %d distinct names, from %d names", len(asked), len(set(asked)), len(l.names))
	}
	seen := map[string]bool{}
	for range 2 {
		path, err := l.file(mixed, 1)
		if err != nil {
			t.Fatal(err)
		}
		counts := [3]int{}
		for _, n := range read(t, path) {
			switch {
			case popular[n]:
				counts[0]++
			case listed[n]:
				counts[1]++
			default:
				if seen[n] || below(listed, n) {
					t.Fatalf("%s is queried twice, or is listed", n)
				}
				seen[n] = true
				counts[2]++
			}
		}
		for i, share := range []float64{0.95, 0.03, 0.02} {
			if got := float64(counts[i]) / fastest; got < share*0.9 || got > share*1.1 {
				t.Errorf("part %d is %.4f of the load, want %.2f", i, got, share)
			}
		}
	}
}

func set(names []string) map[string]bool {
	all := make(map[string]bool, len(names))
	for _, n := range names {
		all[n] = true
	}
	return all
}

// read returns the names in a file of queries.
func read(t *testing.T, path string) (names []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, typ, _ := strings.Cut(lines.Text(), " ")
		if typ != "A" {
			t.Fatalf("%q is not a query for an address", lines.Text())
		}
		names = append(names, name)
	}
	return names
}

func TestPlainRefusesUnusualNames(t *testing.T) {
	for name, want := range map[string]bool{
		"evil.example.com": true, "a_b.net": true, "xn--e1awd7f.xn--p1ai": true,
		"com": false, "evil.onion": false, "a*.com": false, "A.com": false, `a\.com`: false, strings.Repeat("a.", 150) + "com": false,
	} {
		if plain(name) != want {
			t.Errorf("plain(%s) = %v, want %v", name, !want, want)
		}
	}
}
