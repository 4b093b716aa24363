package journal_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
)

// interrupted is a Source that can fail for reports, for following, or for both.
type interrupted struct {
	journaltest.Offline
	mu              sync.Mutex
	reports, follow bool
	arrived         []journal.Status
	followed        time.Time // start of following
}

func (s *interrupted) reach(reports, follow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports, s.follow, s.arrived = reports, follow, nil
}

func (s *interrupted) Follow(ctx context.Context, after journal.Position, to journal.Consumer) error {
	s.mu.Lock()
	reached := s.follow
	s.followed = time.Now()
	s.mu.Unlock()
	if !reached {
		return s.Offline.Follow(ctx, after, to)
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *interrupted) Report(_ context.Context, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var st journal.Status
	if !s.reports {
		return errors.New("unreachable")
	}
	s.arrived = append(s.arrived, st)
	return json.Unmarshal(data, &s.arrived[len(s.arrived)-1])
}

// TestReportClearsUnreachableControl checks that a report which reaches control names no unreachable control, and makes the node follow control at once. A node
// whose reports arrive, but which cannot follow, must report this problem.
func TestReportClearsUnreachableControl(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e"})
	e.Reaches(t, c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example"))).Version)
	e.Stop()
	c.Stop()
	synctest.Test(t, func(t *testing.T) {
		source := &interrupted{}
		f, err := journal.NewFollower(journal.FollowerConfig{Dir: filepath.Join(dir, "e"), Source: source, Trust: k.Trust(), Node: journal.Node{ID: "e"}})
		if err == nil {
			err = f.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		defer func() { cancel(); <-done }()
		time.Sleep(5*time.Minute + time.Millisecond)
		if f.Health().Problem == "" {
			t.Error("the node does not report that control cannot be reached")
		}

		source.reach(true, false)
		time.Sleep(time.Minute)
		source.mu.Lock()
		if first, last := source.arrived[0], source.arrived[len(source.arrived)-1]; first.Problem != "" || last.Problem != "unreachable" {
			t.Errorf("problem %q in the first report that arrived, and %q in the last one of a node that still cannot follow", first.Problem, last.Problem)
		}
		source.mu.Unlock()

		source.reach(false, false)
		time.Sleep(5 * time.Minute)
		source.reach(true, true)
		back := time.Now()
		for arrived := 0; arrived == 0; time.Sleep(time.Millisecond) {
			source.mu.Lock()
			arrived = len(source.arrived)
			source.mu.Unlock()
		}
		source.mu.Lock()
		defer source.mu.Unlock()
		if at := source.followed; at.Before(back) {
			t.Error("the node does not follow control although its report arrived")
		}
	})
}

// TestReportNamesOnlyCurrentProblem checks that a node's report names a problem only while it lasts.
func TestReportNamesOnlyCurrentProblem(t *testing.T) {
	k, dir := journaltest.NewKeys(t), t.TempDir()
	c := journaltest.StartControl(t, k, filepath.Join(dir, "c"), nil)
	e := journaltest.StartEdge(t, k, filepath.Join(dir, "e"), journaltest.FromStream(c, "e"), journal.Node{ID: "e", Country: "FR", Operator: "isp"})
	e.Reaches(t, c.Push(t, k.ChangeSet(t, "one", journaltest.Block("one.example"))).Version)
	journaltest.WaitFor(t, "a problem to be reported", func() bool { // a heartbeat that was on its way may end it at once
		e.SetProblem("the network is away")
		return e.Health().Problem != ""
	})
	if h := e.Health(); h.Country != "FR" || h.Operator != "isp" {
		t.Errorf("health %+v", h.Status)
	}
	journaltest.WaitFor(t, "the next heartbeat to end the problem", func() bool { return e.Health().Problem == "" })
}
