// Package bench has workloads for Go benchmarks and for load from outside. Its results are in README.md.
package bench

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"rempart/blocklist"
	"rempart/internal/durable"
)

// Variables that name real data: files with one name per line, gzip or not. Without them names are invented, with the same lengths and depths, the same ones in
// each run.
const (
	ThreatNames  = "REMPART_BENCH_THREATS" // names to block
	PopularNames = "REMPART_BENCH_POPULAR" // popular names, in the order of their ranks
)

// Blocked returns n distinct names to block, spread evenly over the real data; if there are fewer, names below them are added, as in feeds.
func Blocked(n int) ([]string, error) { return load(ThreatNames, n, true, "threat") }

// Popular returns n distinct popular names, the first of the real data.
func Popular(n int) ([]string, error) { return load(PopularNames, n, false, "site") }

func load(variable string, n int, spread bool, word string) ([]string, error) {
	path := os.Getenv(variable)
	if path == "" {
		return madeUp(n, word), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	defer f.Close()
	var r io.Reader = bufio.NewReader(f)
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", variable, path, err)
		}
	}
	var all []string
	lines := bufio.NewScanner(r)
	for lines.Scan() && (spread || len(all) < n) {
		if strings.Contains(lines.Text(), ".") {
			all = append(all, lines.Text())
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %s: %w", variable, path, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %s holds no names", variable, path)
	}
	for labels, i := []string{"login", "www2", "secure", "cdn7", "fr"}, 0; len(all) < n; i++ {
		all = append(all, labels[i%len(labels)]+"."+all[i])
	}
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:n:n], nil
}

// Wire returns names in wire format, one after the other in memory: in a server, the judged name is in the cache.
func Wire(names []string) ([][]byte, error) {
	size := 0
	for _, n := range names {
		size += len(n) + 2
	}
	all, out := make([]byte, 0, size), make([][]byte, len(names))
	for i, n := range names {
		begin := len(all)
		var err error
		if all, err = blocklist.AppendName(all, n); err != nil {
			return nil, err
		}
		out[i] = all[begin:len(all):len(all)]
	}
	return out, nil
}

// madeUp returns invented names: mostly two labels, sometimes three, and about twenty bytes.
func madeUp(n int, word string) []string {
	rng := rand.New(rand.NewPCG(42, uint64(len(word))))
	tlds := []string{"com", "net", "fr", "top", "xyz", "info", "ru", "shop"}
	names := make([]string, n)
	for i := range names {
		name := fmt.Sprintf("%s%x.%s", word, uint32(i)*2654435761, tlds[rng.IntN(len(tlds))])
		if rng.IntN(3) == 0 {
			name = "login." + name
		}
		names[i] = name
	}
	return names
}

// View compiles names, each with all names below it, into a set that is mapped from a file of the temporary folder, as in the program. The file is removed when
// the process ends.
func View(names []string) (*blocklist.View, error) {
	b := blocklist.NewBuilder()
	var name []byte
	for _, text := range names {
		var err error
		if name, err = blocklist.AppendName(name[:0], text); err != nil {
			return nil, err
		}
		if err := b.Add(blocklist.Listing{Name: name, Scope: blocklist.Subtree}); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp("", "rempart-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // the mapping stays
	path := filepath.Join(dir, "set.snapshot")
	err = durable.WriteFile(path, func(w io.Writer) error {
		return blocklist.Compile(w, blocklist.Info{Version: 1}, b.Input(blocklist.Source{Name: "bench"}))
	})
	if err != nil {
		return nil, err
	}
	m, err := durable.Map(path)
	if err != nil {
		return nil, err
	}
	return blocklist.OpenView(m.Data(), m.Close)
}
