package journal_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/mirror"
)

// TestTwoHundredEdgesFollow checks that two hundred edges can follow one control over HTTPS, each with its own connection, folder and set. The test logs the time
// from the receipt of a change until the change is in force on the edges.
func TestTwoHundredEdgesFollow(t *testing.T) {
	edges, pushes := 200, 20
	if testing.Short() {
		edges, pushes = 40, 10
	}
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, dir, nil)
	srv := httptest.NewUnstartedServer(mirror.NewHandler(c, func(*http.Request, []byte) error { return nil }))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	var mu sync.Mutex
	kept := map[uint64]time.Time{}
	arrived := map[uint64][]time.Time{}
	var all []*journal.Follower
	for i := range edges {
		name := fmt.Sprintf("edge%d", i)
		transport := srv.Client().Transport.(*http.Transport).Clone() // one connection per edge
		t.Cleanup(transport.CloseIdleConnections)
		source, err := mirror.NewClient(srv.URL, nil, &http.Client{Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		f, err := journal.NewFollower(journal.FollowerConfig{
			Dir: filepath.Join(dir, name), Source: source, Trust: k.Trust(), Node: journal.Node{ID: name}, Log: journaltest.Logs(t),
			Changed: func(_, _ *blocklist.View, e journal.Effect) {
				now := time.Now()
				mu.Lock()
				defer mu.Unlock()
				arrived[e.Record.Version] = append(arrived[e.Record.Version], now)
			},
		})
		if err == nil {
			err = f.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		dnstest.Running(t, f.Run)
		all = append(all, f)
	}
	first := c.State().Version
	for _, f := range all {
		(&journaltest.Edge{Follower: f}).Reaches(t, first)
	}
	var last uint64
	for i := range pushes {
		r := c.Push(t, k.ChangeSet(t, fmt.Sprint("push", i), journaltest.Block(fmt.Sprintf("n%d.example", i))))
		mu.Lock()
		kept[r.Version] = time.Now()
		mu.Unlock()
		last = r.Version
		time.Sleep(500 * time.Millisecond)
	}
	for _, f := range all {
		(&journaltest.Edge{Follower: f}).Reaches(t, last)
	}
	mu.Lock()
	defer mu.Unlock()
	var took []time.Duration
	for version, at := range kept {
		if len(arrived[version]) != edges {
			t.Errorf("version %d arrived at %d of %d edges", version, len(arrived[version]), edges)
		}
		for _, a := range arrived[version] {
			took = append(took, max(0, a.Sub(at)))
		}
	}
	slices.Sort(took)
	t.Logf("%d changes on %d edges, from acknowledged to in force: p50 %v, p99 %v, slowest %v", pushes, edges,
		took[len(took)/2].Round(100*time.Microsecond), took[len(took)*99/100].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
}
