package pushapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// nodes are simulated nodes that report to control; by maps the name of each to its last report.
type nodes struct {
	f  *fixture
	by map[string]*journal.Status
}

func newNodes(t testing.TB, f *fixture, n int) *nodes {
	all := &nodes{f, map[string]*journal.Status{}}
	for i := range n {
		name := fmt.Sprint("edge", i)
		all.by[name] = &journal.Status{Node: name}
	}
	return all
}

// steadyNodes returns twenty nodes whose usual block rate control knows from five reports.
func steadyNodes(t testing.TB, f *fixture) *nodes {
	t.Helper()
	n := newNodes(t, f, 20)
	for range 5 {
		n.report(t, 1000, steady)
	}
	return n
}

// report makes each node report that many more queries. rate returns the share of them that the node blocked.
func (n *nodes) report(t testing.TB, queries uint64, rate func(name string) float64) {
	t.Helper()
	for name, st := range n.by {
		st.Version = n.f.journ.State().Version
		st.Queries += queries
		st.Blocked += uint64(float64(queries) * rate(name))
		n.send(t, st)
	}
}

func (n *nodes) send(t testing.TB, st *journal.Status) {
	t.Helper()
	if st.Hash == "" { // fill in the hash of this journal's record
		at := *st
		at.Epoch, at.Hash = n.f.journ.State().Epoch, n.f.hashAt(t, st.Version)
		st = &at
	}
	data, err := json.Marshal(st)
	if err == nil {
		err = n.f.api.Report(t.Context(), "node", data)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hashAt returns the hash of the record of a version, as a node with that version reports it.
func (f *fixture) hashAt(t testing.TB, version uint64) string {
	t.Helper()
	if version == 0 {
		return ""
	}
	hash, err := f.journ.HashAt(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func steady(string) float64 { return 0.02 }

func staged(id string, seconds int64, names ...string) pushapi.ChangeSet {
	s := set(id, names...)
	s.Stage = &pushapi.StageIn{Share: 0.5, Seconds: seconds}
	return s
}

func (f *fixture) state(t testing.TB, id string) changeset.Receipt {
	t.Helper()
	return into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/"+id), http.StatusOK)
}

// TestStagedChangeSetIsPublished checks that a staged change set is published at the end of its stage or by an advance, and has no effect after an undo.
func TestStagedChangeSetIsPublished(t *testing.T) {
	f := start(t, setting{})
	edges := steadyNodes(t, f)
	begun := time.Now()
	f.published(t, staged("soon", 3, "soon.example"))
	r := f.published(t, staged("itself", 3600, "itself.example"))
	if r.State != changeset.Staged {
		t.Errorf("receipt %+v, want it staged", r)
	}
	f.wants(t, "itself.example", blocklist.Pass) // control is in no share
	edges.report(t, 1000, steady)
	edges.send(t, &journal.Status{Node: "edge0", Queries: 5}) // the node was restarted: its counters are lower
	f.due(t, "itself")
	for _, id := range []string{"itself", "soon"} {
		waitFor(t, "the stage's end", func() bool { return f.state(t, id).State == changeset.Published })
		f.wants(t, id+".example", blocklist.BlockedBy)
	}
	if took := time.Since(begun); took < 2*time.Second { // stages end at whole seconds
		t.Errorf("a stage of three seconds ended after %v", took)
	}
	refused(t, f.post(t, "ada", "/v1/changesets/itself/advance"), http.StatusConflict, "path.id")

	f.published(t, staged("called", 3600, "called.example"))
	if a := f.post(t, "eve", "/v1/changesets/called/advance"); a.status != http.StatusOK {
		t.Errorf("advance: %s, want status 200", a)
	}
	f.wants(t, "called.example", blocklist.BlockedBy)

	f.published(t, staged("undone", 3600, "undone.example"))
	f.undo(t, "undone")
	if n := len(f.journ.State().Scoped); n != 0 {
		t.Errorf("%d scoped", n)
	}
	refused(t, f.post(t, "eve", "/v1/changesets/undone/advance"), http.StatusConflict, "path.id")
}

// TestStageContinuesAfterCrash checks that control, after a crash between the writes to the journal and to the receipts, continues stages and corrects the
// receipts.
func TestStageContinuesAfterCrash(t *testing.T) {
	f := start(t, setting{})
	f.published(t, staged("long", 3, "long.example"))
	f.published(t, set("plain", "plain.example"))
	f.held(t, "ada", "held")
	crashed := map[string]any{"state": "pending", "version": 0, "stage": nil, "touched": time.Now().Add(-time.Hour).Unix(), "instance": "another"}
	for _, id := range []string{"long", "plain", "held", "lost"} {
		f.edit(t, id, crashed)
	}
	f.stop()
	again := start(t, setting{keys: f.keys, dir: f.dir})
	again.secret = f.secret
	waitFor(t, "the stage's end", func() bool { return again.state(t, "long").State == changeset.Published })
	again.wants(t, "long.example", blocklist.BlockedBy)
	waitFor(t, "the receipts", func() bool { return again.state(t, "lost").Note != "" })
	waitFor(t, "the receipt that is corrected after them", func() bool { return again.state(t, "plain").State == changeset.Published })
	for id, want := range map[string]changeset.State{"plain": changeset.Published, "held": changeset.Held, "lost": changeset.Pending} {
		if s := again.state(t, id).State; s != want {
			t.Errorf("%s is %s, want %s", id, s, want)
		}
	}
	if n := len(again.journ.State().Scoped); n != 0 {
		t.Errorf("%d scoped", n)
	}
	if a := again.post(t, "eve", "/v1/changesets/held/approve"); a.status != http.StatusCreated {
		t.Errorf("approval: %s, want status 201", a)
	}
}

// rampant makes each node in the share of a staged change set report that it blocks most queries.
func (n *nodes) rampant(t testing.TB, set string) {
	t.Helper()
	n.report(t, 1000, func(name string) float64 {
		if journal.InStage(set, name, 0.5) {
			return 0.6
		}
		return 0.02
	})
}

// TestWithdrawalAboveThresholdNeedsApproval checks the withdrawal of a staged change set that needs more keys than control has: the receipt names the undo that
// a second person must approve. If that person rejects the undo, the stage continues. If the undo expires, or the journal refuses it, control requests another
// one.
func TestWithdrawalAboveThresholdNeedsApproval(t *testing.T) {
	f := start(t, setting{ring: func(r *signing.Ring) { r.Threshold = signing.Threshold{Changes: 2, Keys: 2} }})
	edges := steadyNodes(t, f)
	var changes []journal.Change
	for _, n := range []string{"a.example", "b.example", "c.example"} {
		changes = append(changes, journal.Change{Do: journal.Block, Name: n})
	}
	body := signed(t, &journal.ChangeSet{ID: "bad", Stage: &journal.Stage{Share: 0.5, Seconds: 3600}}, changes, f.author, f.approver)
	if a := f.call(t, "ada", http.MethodPost, "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(body)); a.status != http.StatusCreated {
		t.Fatalf("push with two signatures: %s, want status 201", a)
	}
	edges.rampant(t, "bad")
	asked := func(undo string) {
		t.Helper()
		waitFor(t, undo, func() bool { return strings.Contains(f.state(t, "bad").Note, "approves "+undo+":") })
		if u, bad := f.state(t, undo), f.state(t, "bad"); u.State != changeset.Held || bad.State != changeset.Staged || !strings.Contains(bad.Note, "edge") {
			t.Errorf("%+v\n%+v", u, bad)
		}
		refused(t, f.post(t, "eve", "/v1/changesets/bad/advance"), http.StatusConflict, "path.id")
	}
	asked("undo-bad")
	f.edit(t, "undo-bad", map[string]any{"until": time.Now().Unix() - 1})
	asked("undo-bad~2")
	f.edit(t, "undo-bad~2", map[string]any{"state": "refused"})
	asked("undo-bad~3")
	if a := f.post(t, "eve", "/v1/changesets/undo-bad~3/reject"); a.status != http.StatusOK {
		t.Fatalf("rejection of the undo: %s, want status 200", a)
	}
	waitFor(t, "the stage to continue", func() bool { return strings.Contains(f.state(t, "bad").Note, "rejected by eve") })
	if a := f.post(t, "eve", "/v1/changesets/bad/advance"); a.status != http.StatusOK {
		t.Errorf("advance: %s, want status 200", a)
	}
	f.wants(t, "a.example", blocklist.BlockedBy)
}

// TestStageThatCannotBeWithdrawn checks a staged change set that control cannot withdraw, because a later change set changed all of its names: the log reports
// this once, and a withdrawal by a person ends the stage.
func TestStageThatCannotBeWithdrawn(t *testing.T) {
	f := start(t, setting{})
	edges := steadyNodes(t, f)
	f.published(t, staged("bad", 3600, "x.example"))
	f.published(t, pushapi.ChangeSet{ID: "fr", Changes: []changeset.Change{{Name: "x.example", Category: "scam", Countries: []string{"FR"}}}})
	edges.rampant(t, "bad")
	waitFor(t, "the note in the receipt", func() bool { return strings.Contains(f.state(t, "bad").Note, "by hand") })
	time.Sleep(3 * time.Second)
	if n := strings.Count(f.logged.String(), "by hand"); n != 1 {
		t.Errorf("the problem was logged %d times, want once", n)
	}
	f.published(t, pushapi.ChangeSet{ID: "hand", Changes: []changeset.Change{act(journal.Withdraw, "x.example")}})
	waitFor(t, "the end of the stage", func() bool { return f.state(t, "bad").State == changeset.Undone })
	refused(t, f.post(t, "bob", "/v1/changesets/bad/undo"), http.StatusConflict, "path.id")
}

// TestUnusualBlockRateWithdrawsStage checks that control withdraws a staged change set once if the block rate of its nodes leaves the usual range, and does not
// publish it at the end of the stage.
func TestUnusualBlockRateWithdrawsStage(t *testing.T) {
	for seconds := int64(5); !stageWithdrawn(t, seconds); seconds *= 2 {
		if seconds > 80 {
			t.Fatal("this machine is too slow to report within a stage")
		}
	}
}

// stageWithdrawn is TestUnusualBlockRateWithdrawsStage with a stage of that many seconds. It returns false if the stage may have ended before the nodes had
// reported.
func stageWithdrawn(t *testing.T, seconds int64) bool {
	t.Helper()
	f := start(t, setting{})
	edges := steadyNodes(t, f)
	end := time.Now().Unix() + seconds
	f.published(t, staged("bad", seconds, "bad.example"))
	report := func(having, others float64) {
		edges.report(t, 1000, func(name string) float64 {
			if journal.InStage("bad", name, 0.5) {
				return having
			}
			return others
		})
	}
	for range 3 { // the block rate of nodes outside the share has no effect
		report(0.021, 0.9)
		time.Sleep(200 * time.Millisecond)
	}
	state := f.state(t, "bad").State
	report(0.5, 0.02)
	if time.Now().Unix() >= end {
		return false
	}
	if state != changeset.Staged {
		t.Errorf("state %s, want staged", state)
	}
	waitFor(t, "the withdrawal", func() bool { return f.state(t, "bad").State == changeset.Undone })
	r := f.state(t, "bad")
	if !strings.Contains(r.Note, "edge") || r.UndoneBy != "undo-bad" || f.state(t, "undo-bad").By != "control" {
		t.Errorf("receipt %+v, want it undone by control as undo-bad, with a note that names a node", r)
	}
	if n := len(f.journ.State().Scoped); n != 0 {
		t.Errorf("%d scoped", n)
	}
	version := f.journ.State().Version
	time.Sleep(time.Until(time.Unix(end, 0)) + 5*time.Second)
	if v := f.journ.State().Version; v != version {
		t.Errorf("version %d after %d", v, version)
	}
	f.wants(t, "bad.example", blocklist.Pass)
	if !strings.Contains(f.logged.String(), "withdrawn") {
		t.Error("the withdrawal was not logged")
	}
	if strings.Contains(f.logged.String(), "cannot be looked at") {
		t.Error("a successful withdrawal was logged as a failure")
	}
	return true
}

// TestStageContinuesAfterRestart checks that a stage continues after a restart of control.
func TestStageContinuesAfterRestart(t *testing.T) {
	f := start(t, setting{})
	f.published(t, staged("long", 3600, "long.example"))
	f.stop()
	again := start(t, setting{keys: f.keys, dir: f.dir})
	again.secret = f.secret
	if s := again.state(t, "long").State; s != changeset.Staged {
		t.Errorf("after the restart the change set is %s, want staged", s)
	}
	again.wants(t, "long.example", blocklist.Pass)
	again.due(t, "long")
	waitFor(t, "the stage's end", func() bool { return again.state(t, "long").State == changeset.Published })
	again.wants(t, "long.example", blocklist.BlockedBy)
}

// TestEnforcementIsSuspendedAndResumed checks that enforcement can be suspended and resumed, and that the journal records who suspended it and why.
func TestEnforcementIsSuspendedAndResumed(t *testing.T) {
	f := start(t, setting{})
	f.published(t, set("one", "one.example"))
	call := func(who, what, body string) *answer {
		return f.call(t, who, "POST", "/v1/"+what, pushapi.TypeJSON, strings.NewReader(body))
	}
	refused(t, call("ada", "suspend", `{}`), http.StatusUnprocessableEntity, "body")
	refused(t, call("ada", "suspend", `{"reason":""}`), http.StatusUnprocessableEntity, "body.reason")
	refused(t, call("ada", "suspend", `{"reason":"`+strings.Repeat("x", 100_000)+`"}`), http.StatusRequestEntityTooLarge, "")
	type answered struct {
		Version   uint64
		Suspended bool
	}
	for range 2 {
		if a := into[answered](t, call("eve", "suspend", `{"reason":"all is wrong"}`), http.StatusOK); !a.Suspended || a.Version != f.journ.State().Version {
			t.Errorf("suspend: %+v, want enforcement suspended at the newest version", a)
		}
	}
	if !f.journ.State().Suspended || !f.journ.State().View().Suspended() {
		t.Error("enforcement is not suspended")
	}
	if a := into[answered](t, call("ada", "resume", `{"reason":"all is well"}`), http.StatusOK); a.Suspended {
		t.Errorf("resume: %+v, want enforcement resumed", a)
	}
	f.wants(t, "one.example", blocklist.BlockedBy)
	data, err := f.journ.Record(t.Context(), f.journ.State().Version-1)
	if err != nil {
		t.Fatal(err)
	}
	if r, _, err := journal.ReadRecord(data); err != nil || r.Kind != journal.RecordSuspend || r.By != "eve" || r.Reason != "all is wrong" {
		t.Errorf("record %+v, %v; want a suspension by eve with its reason", r, err)
	}
}

// TestVersionShowsItsNodes checks that the API shows on how many nodes a version is in force, and that invalid reports of nodes are refused.
func TestVersionShowsItsNodes(t *testing.T) {
	f := start(t, setting{idle: true}) // otherwise control is also listed as a node
	edges := newNodes(t, f, 10)
	edges.report(t, 0, steady)
	r := f.published(t, set("one", "one.example"))
	late := edges.by["edge9"]
	delete(edges.by, "edge9")
	for i := range 9 {
		edges.by[fmt.Sprint("edge", i)].Took = int64(10 * (i + 1))
	}
	edges.report(t, 0, steady)
	path := fmt.Sprint("/v1/versions/", r.Version)
	v := into[pushapi.VersionInfo](t, f.get(t, "ada", path), http.StatusOK)
	if v.Nodes != 10 || v.InForce != 9 || v.Slowest > 90 || v.Median > 50 || v.By != "ada" || v.Kind != "changes" {
		t.Errorf("version %+v, want it in force on 9 of 10 nodes, by ada", v)
	}
	edges.send(t, &journal.Status{Node: "new", Version: r.Version}) // a new node: the time until it reported is not measured
	late.Version = r.Version
	edges.send(t, late)
	v = into[pushapi.VersionInfo](t, f.get(t, "ada", path), http.StatusOK)
	if v.Nodes != 11 || v.InForce != 11 {
		t.Errorf("version %+v, want it in force on 11 of 11 nodes", v)
	}
	refused(t, f.get(t, "ada", "/v1/versions/999"), http.StatusNotFound, "path.version")
	refused(t, f.get(t, "ada", "/v1/versions/x"), http.StatusUnprocessableEntity, "path.version")
	all := into[struct{ Nodes []pushapi.NodeInfo }](t, f.get(t, "ada", "/v1/nodes"), http.StatusOK)
	if len(all.Nodes) != 11 || all.Nodes[0].Node != "node/edge0" || all.Nodes[0].Behind != 0 {
		t.Errorf("nodes %+v, want 11, the first of them node/edge0, up to date", all)
	}
	for _, bad := range []string{"", "x", `{}`, `{"node":"a b"}`, `{"node":"x","queries":1,"blocked":2}`, `{"node":"` + strings.Repeat("x", 65) + `"}`, strings.Repeat("x", 5000)} {
		if f.api.Report(t.Context(), "node", []byte(bad)) == nil {
			t.Errorf("the report %.100q was accepted, want an error", bad)
		}
	}
	for i := range 12_000 { // more nodes than control stores
		_ = f.api.Report(t.Context(), "mallory", fmt.Appendf(nil, `{"node":"n%d","version":%d}`, i, r.Version))
	}
	all = into[struct{ Nodes []pushapi.NodeInfo }](t, f.get(t, "ada", "/v1/nodes"), http.StatusOK)
	if len(all.Nodes) != 10_000 {
		t.Errorf("%d nodes, want 10,000", len(all.Nodes))
	}
}
