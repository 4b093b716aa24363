package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rempart/bench"
	"rempart/blocklist"
	"rempart/blocklist/guard"
)

// The loads, as tables call them.
const (
	distinct = "blocked, all distinct" // every listed name, in no order, once
	blocked  = "blocked"               // hot listed names, in turn
	cached   = "cached"                // hot popular names, in turn
	mixed    = "mixed"                 // 95 % cached, 3 % blocked, 2 % names never asked before
	typical  = "typical of an ISP"     // 80 % cached, 3 % blocked, 17 % names never asked before
	misses   = "misses"                // names never asked before
)

// shares are the parts of loads that are made again for each run, in per cent: names that are cached, and listed names. The rest was never asked before.
var shares = map[string]struct{ cached, blocked int }{mixed: {95, 3}, typical: {80, 3}, misses: {0, 0}}

const (
	hot         = 10_000  // number of names of the blocked and of the cached load
	fastest     = 200_000 // queries per second that no server exceeds here: the length of a load that is made again for each run
	longestName = 200     // bytes of text: room for the policy zone's name and for one more label
)

// loads makes the queries.
type loads struct {
	dir     string
	names   []string // on the list
	popular []string // not on the list, nor below a listed name
	made    int      // names invented so far, so that none is used twice
	rng     *rand.Rand
}

// newLoads chooses the names and writes the loads that do not change.
func newLoads(dir string, listed int) (*loads, error) {
	l := &loads{dir: dir, rng: rand.New(rand.NewPCG(7, 7))}
	names, err := bench.Blocked(listed)
	if err != nil {
		return nil, err
	}
	if l.names, err = acceptable(names); err != nil {
		return nil, err
	}
	on := make(map[string]bool, len(l.names))
	for _, n := range l.names {
		on[n] = true
	}
	popular, err := bench.Popular(2 * hot)
	if err != nil {
		return nil, err
	}
	l.popular = slices.DeleteFunc(popular, func(n string) bool { return !plain(n) || below(on, n) })
	if len(l.names) < hot || len(l.popular) < hot {
		return nil, fmt.Errorf("%d names to block and %d to ask for are left of the workload: it takes %d of each", len(l.names), len(l.popular), hot)
	}
	l.popular = l.popular[:hot]
	shuffled := slices.Clone(l.names)
	l.rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for load, names := range map[string][]string{distinct: shuffled, blocked: l.names[:hot], cached: l.popular} {
		if err := bench.WriteLines(l.path(load), names, " A"); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// acceptable returns the names that every server accepts: plain ones that Rempart's guards do not refuse, so that all servers have the same work.
func acceptable(names []string) ([]string, error) {
	guards, err := guard.New(guard.Config{})
	if err != nil {
		return nil, err
	}
	var wire []byte
	return slices.DeleteFunc(names, func(n string) bool {
		if !plain(n) {
			return true
		}
		if wire, err = blocklist.AppendName(wire[:0], n); err != nil {
			return true
		}
		return guards.Check(blocklist.Listing{Name: wire, Scope: blocklist.Subtree}).Outcome != guard.Pass
	}), nil
}

// special are the top-level names that servers answer themselves, each a different choice of them (RFC 6761 and similar).
var special = []string{"alt", "arpa", "example", "internal", "invalid", "lan", "local", "localhost", "onion", "test"}

// plain reports whether a name is written the same in every server's configuration, and has no special use.
func plain(name string) bool {
	top := name[strings.LastIndexByte(name, '.')+1:]
	return len(name) <= longestName && len(top) < len(name) && !slices.Contains(special, top) &&
		!strings.ContainsFunc(name, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
		})
}

// below reports whether a name, or one above it, is listed.
func below(on map[string]bool, name string) bool {
	for {
		if on[name] {
			return true
		}
		_, parent, ok := strings.Cut(name, ".")
		if !ok {
			return false
		}
		name = parent
	}
}

// list and zone return the paths of the list, one name per line and as a response policy zone: in a folder to which nothing else is written, because it may be
// watched.
func (l *loads) list() string { return filepath.Join(l.dir, listFolder, "list.txt") }
func (l *loads) zone() string { return filepath.Join(l.dir, listFolder, "list.rpz") }

const listFolder = "list"

func (l *loads) writeLists() error {
	return errors.Join(os.MkdirAll(filepath.Dir(l.list()), 0o755), bench.WriteLines(l.list(), l.names, ""), writeZone(l.zone(), l.names))
}

func (l *loads) path(load string) string {
	return filepath.Join(l.dir, strings.ReplaceAll(load, ", ", "-")+".queries")
}

// file returns the path of the load's file of queries, one per line. Loads with names that were never asked before are made again each time: the file is valid
// until the next call, and long enough for that many seconds.
func (l *loads) file(load string, seconds int) (string, error) {
	path := l.path(load)
	share, made := shares[load]
	if !made {
		return path, nil
	}
	queries := make([]string, seconds*fastest)
	for i := range queries {
		switch p := l.rng.IntN(100); {
		case p < share.cached:
			queries[i] = l.popular[l.rng.IntN(hot)]
		case p < share.cached+share.blocked:
			queries[i] = l.names[l.rng.IntN(hot)]
		default:
			l.made++
			queries[i] = fmt.Sprintf("m%x.%s", l.made, l.popular[l.made%hot])
		}
	}
	return path, bench.WriteLines(path, queries, " A")
}

// once reports whether a load's file is used at most once.
func once(load string) bool {
	_, made := shares[load]
	return made || load == distinct
}
