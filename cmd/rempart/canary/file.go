package canary

import (
	"fmt"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/durable"
	"rempart/internal/tomlfile"
	"rempart/internal/units"
	"rempart/resolver/upstream/transport"
)

// file is the content of a canary file (deploy/canary.toml).
type file struct {
	Every   string   // time between two rounds
	Blocked []string // names that every node must block
	Passed  []string // names that every node must pass
	Popular int      // popular names that are asked for in each round
	Listed  int      // names of control's set that are asked for in each round
	Node    []fileNode
}

// fileNode is a node in a canary file.
type fileNode struct {
	Name    string
	Ask     []string // where and how, in the format of REMPART_UPSTREAMS
	Metrics string   // URL of the node's metrics; empty: its version is not compared
}

// plan is a canary file that was read.
type plan struct {
	every           time.Duration
	blocked, passed [][]byte // canonical names
	popular, listed int
	nodes           []node
}

// node is a server that is asked.
type node struct {
	name      string
	endpoints []transport.Endpoint
	metrics   string
}

// Bounds of a canary file.
const (
	defaultEvery = time.Minute
	leastEvery   = time.Second
	mostNames    = 1000 // of each kind in a round
	mostNodes    = 10_000
)

// readPlan reads a canary file.
func readPlan(path string) (*plan, error) {
	data, err := durable.ReadRegular(path, tomlfile.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("the canary file: %w", err)
	}
	p, err := parsePlan(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func parsePlan(data []byte) (*plan, error) {
	f := file{}
	if err := tomlfile.Decode(data, &f); err != nil {
		return nil, err
	}
	p := &plan{every: defaultEvery, popular: f.Popular, listed: f.Listed}
	if f.Every != "" {
		every, err := units.ParseDuration(f.Every)
		if err != nil || every < leastEvery {
			return nil, fmt.Errorf("every = %q: write a time from %v on, such as \"1m\"", f.Every, leastEvery)
		}
		p.every = every
	}
	for _, count := range []struct {
		key string
		n   int
	}{{"popular", f.Popular}, {"listed", f.Listed}, {"blocked", len(f.Blocked)}, {"passed", len(f.Passed)}} {
		if count.n < 0 || count.n > mostNames {
			return nil, fmt.Errorf("%s: %d names; a round asks for 0 to %d of a kind", count.key, count.n, mostNames)
		}
	}
	var err error
	if p.blocked, err = parseNames("blocked", f.Blocked); err != nil {
		return nil, err
	}
	if p.passed, err = parseNames("passed", f.Passed); err != nil {
		return nil, err
	}
	if len(f.Node) == 0 || len(f.Node) > mostNodes {
		return nil, fmt.Errorf("there are %d nodes: write from 1 to %d parts [[node]]", len(f.Node), mostNodes)
	}
	seen := map[string]bool{}
	for _, n := range f.Node {
		if n.Name == "" || seen[n.Name] {
			return nil, fmt.Errorf("node %q: each node needs a name of its own", n.Name)
		}
		seen[n.Name] = true
		read, err := parseNode(n)
		if err != nil {
			return nil, fmt.Errorf("node %q: %w", n.Name, err)
		}
		p.nodes = append(p.nodes, read)
	}
	return p, nil
}

func parseNames(key string, texts []string) (names [][]byte, err error) {
	for _, text := range texts {
		name, err := blocklist.AppendName(nil, strings.TrimSuffix(text, "."))
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", key, text, err)
		}
		names = append(names, name)
	}
	return names, nil
}

func parseNode(f fileNode) (node, error) {
	n := node{name: f.Name, metrics: f.Metrics}
	for _, text := range f.Ask {
		e, err := transport.ParseEndpoint(text)
		if err != nil {
			return n, err
		}
		if e.NeedsLookup() {
			return n, fmt.Errorf("%q: write the address of the host behind @, so that the canary depends on no other resolver", text)
		}
		n.endpoints = append(n.endpoints, e)
	}
	if len(n.endpoints) == 0 {
		return n, fmt.Errorf("it has nothing to ask: write ask = [\"udp://192.0.2.1\"]")
	}
	return n, nil
}
