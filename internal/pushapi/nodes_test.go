package pushapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
)

// nodeInfos returns the nodes that the API lists.
func (f *fixture) nodeInfos(t testing.TB) []pushapi.NodeInfo {
	t.Helper()
	return into[struct{ Nodes []pushapi.NodeInfo }](t, f.get(t, "ada", "/v1/nodes"), http.StatusOK).Nodes
}

func digits(n uint64) string { return strconv.FormatUint(n, 10) }

// upToDate returns the status of a node that has the newest record of the fixture's journal in force.
func (f *fixture) upToDate(node string) *journal.Status {
	st := f.journ.State()
	return &journal.Status{Node: node, Epoch: st.Epoch, Version: st.Version, Hash: st.Hash}
}

// TestNothingIsPublishedWhileNodeIsAhead checks that control refuses to publish while a node reports a later version, a later epoch or another record than the
// journal has, and publishes again after the node reports the newest record of the journal.
func TestNothingIsPublishedWhileNodeIsAhead(t *testing.T) {
	for what, change := range map[string]func(*journal.Status){
		"later version":  func(st *journal.Status) { st.Version += 3 },
		"later epoch":    func(st *journal.Status) { st.Epoch++ },
		"another record": func(st *journal.Status) { st.Hash = strings.Repeat("0", 64) },
		"another record while a snapshot is on its way": func(st *journal.Status) {
			st.HashOf, st.Version, st.Hash = st.Version, st.Version-1, strings.Repeat("0", 64)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var f *fixture
			f = start(t, setting{control: func(cfg *publish.Config) {
				cfg.Refuse = func() error {
					if f == nil || f.api == nil {
						return nil
					}
					return f.api.Conflict()
				}
			}})
			edges := newNodes(t, f, 0)
			f.published(t, set("before", "before.example"))
			wrong := f.upToDate("wrong")
			change(wrong)
			edges.send(t, wrong)
			for _, act := range []string{"/v1/changesets/before/undo", "/v1/suspend"} {
				a := f.call(t, "ada", "POST", act, pushapi.TypeJSON, strings.NewReader(`{"reason":"x"}`))
				refused(t, a, http.StatusConflict, "")
				for _, want := range []string{"node/wrong", "--recover", "--new-epoch"} {
					if !strings.Contains(a.String(), want) {
						t.Errorf("%s: the answer does not name %s: %s", act, want, a)
					}
				}
			}
			refused(t, f.push(t, "ada", set("fork", "fork.example")), http.StatusConflict, "")
			if _, err := f.journ.Publish(t.Context(), publish.Draft{Kind: journal.RecordRenew, By: "time"}); !errors.Is(err, publish.ErrOlder) {
				t.Errorf("control itself appended a record: %v", err)
			}
			if infos := f.nodeInfos(t); len(infos) != 1 || infos[0].Problem == "" {
				t.Errorf("nodes %+v, want one with a problem", infos)
			}
			edges.send(t, f.upToDate("wrong"))
			f.published(t, set("fork", "fork.example"))
			f.wants(t, "fork.example", blocklist.BlockedBy)
		})
	}
}

// errLate means that control published its record only after AheadFor, so that the attempt is invalid.
var errLate = errors.New("late")

// TestPushIsDelayedWhileNodeIsAhead checks that a push is delayed and not refused if a node receives a record less than AheadFor before this control does.
func TestPushIsDelayedWhileNodeIsAhead(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 0)
	tries := 0
	waitFor(t, "a publication within AheadFor", func() bool { // a slow machine may take longer than AheadFor
		tries++
		soon := f.upToDate("soon")
		soon.Version++
		soon.Hash = strings.Repeat("0", 64)
		begun, caughtUp := time.Now(), make(chan error, 1)
		edges.send(t, soon)
		time.AfterFunc(200*time.Millisecond, func() {
			_, err := f.journ.Publish(context.WithoutCancel(t.Context()), publish.Draft{Kind: journal.RecordRenew, By: "time"})
			if time.Since(begun) >= pushapi.AheadFor {
				err = errLate
			}
			caughtUp <- err
		})
		a := f.push(t, "ada", set(fmt.Sprint("after", tries), fmt.Sprintf("after%d.example", tries)))
		err := <-caughtUp
		if !errors.Is(err, errLate) && (err != nil || a.status != http.StatusCreated) {
			t.Fatalf("the node is caught up: %v; push: %s, want status 201", err, a)
		}
		edges.send(t, f.upToDate("soon"))
		return err == nil
	})
}

// TestVersionInForceRequiresSameHash checks that a version is not in force on a node that reports its number with another epoch or another hash.
func TestVersionInForceRequiresSameHash(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 0)
	r := f.published(t, set("one", "one.example"))
	other, older := f.upToDate("other"), f.upToDate("older")
	other.Hash = strings.Repeat("f", 64)
	older.Epoch--
	for _, st := range []*journal.Status{f.upToDate("same"), other, older} {
		edges.send(t, st)
	}
	v := into[pushapi.VersionInfo](t, f.get(t, "ada", "/v1/versions/"+digits(r.Version)), http.StatusOK)
	if v.Nodes != 3 || v.InForce != 1 {
		t.Errorf("in force on %d of %d, want 1 of 3", v.InForce, v.Nodes)
	}
}

// TestUpToDateNodeHasNoProblem checks that the API lists no problem for a node that has control's newest record, even if the node reported a problem.
func TestUpToDateNodeHasNoProblem(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 0)
	behind := f.upToDate("behind")
	f.published(t, set("one", "one.example"))
	newest := f.upToDate("newest")
	soon := f.upToDate("soon") // this node already has the next record, as after a restart of control with --recover
	soon.Version, soon.Hash = soon.Version+1, strings.Repeat("0", 64)
	for _, st := range []*journal.Status{behind, newest, soon} {
		st.Problem = "control's newest version is another one"
		edges.send(t, st)
	}
	problems := func() string {
		var all []string
		for _, i := range f.nodeInfos(t) {
			if i.Problem != "" {
				all = append(all, i.Node)
			}
		}
		return strings.Join(all, " ")
	}
	if got := problems(); got != "node/behind node/soon" {
		t.Errorf("with a problem: %s", got)
	}
	if _, err := f.journ.Publish(t.Context(), publish.Draft{Kind: journal.RecordRenew, By: "time"}); err != nil {
		t.Fatal(err)
	}
	edges.send(t, f.upToDate("newest"))
	if got := problems(); got != "node/behind" {
		t.Errorf("with a problem after control caught up: %s", got)
	}
}

// savedNodes returns the names of the nodes on disk.
func (f *fixture) savedNodes(t testing.TB) string {
	t.Helper()
	var names []string
	err := f.stream.Bucket(stream.Nodes).Each(t.Context(), func(name string, _ []byte) error {
		names = append(names, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// TestNodesAreKnownAfterRestart checks that control, after a restart, still lists the nodes that reported before, and waits for their reports before it
// publishes.
func TestNodesAreKnownAfterRestart(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 0)
	for _, name := range []string{"a", "b", "c", "retired"} {
		edges.send(t, f.upToDate(name))
	}
	a := f.call(t, "ada", "POST", "/v1/nodes/forget", pushapi.TypeJSON, strings.NewReader(`{"node":"node/retired"}`))
	if got := into[struct{ Forgotten int }](t, a, http.StatusOK).Forgotten; got != 1 {
		t.Errorf("%d nodes were forgotten, want 1", got)
	}
	refused(t, f.call(t, "ada", "POST", "/v1/nodes/forget", pushapi.TypeJSON, strings.NewReader(`{"node":"nobody"}`)), http.StatusNotFound, "body.node")
	waitFor(t, "the nodes to be saved", func() bool { return f.savedNodes(t) == "node/a node/b node/c" })
	version := f.journ.State().Version
	f.stop()

	f2 := start(t, setting{keys: f.keys, dir: f.dir})
	f2.secret = f.secret
	v := into[pushapi.VersionInfo](t, f2.get(t, "ada", "/v1/versions/"+digits(version)), http.StatusOK)
	if v.Nodes != 3 || v.InForce != 0 {
		t.Errorf("right after the restart: in force on %d of %d nodes, want 0 of 3", v.InForce, v.Nodes)
	}
	if infos := f2.nodeInfos(t); len(infos) != 3 || slices.ContainsFunc(infos, func(i pushapi.NodeInfo) bool { return !i.Awaited || i.Gone }) {
		t.Errorf("nodes %+v, want three that are awaited and not gone", infos)
	}
	pushed := make(chan *answer, 1)
	go func() { pushed <- f2.push(t, "ada", set("early", "early.example")) }()
	select {
	case a := <-pushed:
		t.Errorf("control published before the nodes reported: %s", a)
	case <-time.After(700 * time.Millisecond):
	}
	edges.f = f2
	for _, name := range []string{"a", "b", "c"} {
		edges.send(t, f2.upToDate(name))
	}
	if a := <-pushed; a.status != http.StatusCreated {
		t.Errorf("push after the reports: %s, want status 201", a)
	}
	if v := into[pushapi.VersionInfo](t, f2.get(t, "ada", "/v1/versions/"+digits(version)), http.StatusOK); v.InForce != 3 {
		t.Errorf("version %+v, want it in force on 3 nodes", v)
	}
}

// TestForgetByAnyName checks that a server can be forgotten by its listed name, by its own name and by its token, and that the answer names the forgotten
// servers that still report.
func TestForgetByAnyName(t *testing.T) {
	f := start(t, setting{})
	report := func(token string, names ...string) {
		for _, name := range names {
			data, err := json.Marshal(f.upToDate(name))
			if err == nil {
				err = f.api.Report(t.Context(), token, data)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	report("node", "n1", "n2", "n3", "both")
	report("other", "both")
	forget := func(name string) *answer {
		return f.call(t, "ada", "POST", "/v1/nodes/forget", pushapi.TypeJSON, strings.NewReader(`{"node":"`+name+`"}`))
	}
	if p := refused(t, forget("both"), http.StatusUnprocessableEntity, "body.node"); !strings.Contains(p.Errors[0].Message, "node/both, other/both") {
		t.Errorf("problem %+v, want one that names both nodes", p)
	}
	refused(t, forget("n4"), http.StatusNotFound, "body.node")
	for name, want := range map[string]string{"n3": "node/n3", "node/n2": "node/n2", "other": "other/both"} {
		got := into[struct{ Reporting []string }](t, forget(name), http.StatusOK).Reporting
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q still report, want %s", name, got, want)
		}
	}
	if got := into[struct{ Forgotten int }](t, forget("node"), http.StatusOK).Forgotten; got != 2 || len(f.nodeInfos(t)) != 0 {
		t.Errorf("%d servers of the token were forgotten, want 2; still listed: %+v", got, f.nodeInfos(t))
	}
}

// TestRevokedNodeIsForgotten checks that control does not wait for the nodes of a revoked token.
func TestRevokedNodeIsForgotten(t *testing.T) {
	f := start(t, setting{})
	newNodes(t, f, 0).send(t, f.upToDate("eve"))
	f.token(t, pushapi.Order{Do: "revoke", Name: "eve"}) // the server's own name is eve, and it reports with the token node
	if infos := f.nodeInfos(t); len(infos) != 1 {
		t.Errorf("nodes %+v, want one", infos)
	}
	f.token(t, pushapi.Order{Do: "revoke", Name: "node"})
	if infos := f.nodeInfos(t); len(infos) != 0 {
		t.Errorf("nodes %+v, want none", infos)
	}
}

// TestReceiptWarnsOfUnknownAudience checks that a country that does not exist is refused, and that a receipt warns of countries and operators that no node
// reports.
func TestReceiptWarnsOfUnknownAudience(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 0)
	for name, operator := range map[string]string{"a": "orange", "b": "free"} {
		st := f.upToDate(name)
		st.Country, st.Operator = "FR", operator
		edges.send(t, st)
	}
	scoped := func(id string, change func(*changeset.Change)) pushapi.ChangeSet {
		s := set(id, id+".example")
		change(&s.Changes[0])
		return s
	}
	for i, code := range []string{"France", "FRA", "ZZ", "UK", "", "F"} {
		r := into[changeset.Receipt](t, f.push(t, "ada", scoped("no-"+digits(uint64(i)), func(c *changeset.Change) { c.Countries = []string{code} })), http.StatusOK)
		if r.State != changeset.Refused || len(r.Refused) != 1 || r.Refused[0].Guard != "countries" || !strings.Contains(r.Refused[0].Why, "ISO 3166-1") {
			t.Errorf("country %q: %+v", code, r)
		}
	}
	for id, want := range map[string]struct {
		change  func(*changeset.Change)
		reaches int
		warning string
	}{
		"known-operator":        {func(c *changeset.Change) { c.Operators = []string{"orange"} }, 1, ""},
		"known-country":         {func(c *changeset.Change) { c.Countries = []string{"fr"} }, 2, ""},
		"unknown-operator":      {func(c *changeset.Change) { c.Operators = []string{"Ornage"} }, 0, `"Ornage"`},
		"country-without-nodes": {func(c *changeset.Change) { c.Countries = []string{"FR", "BE"} }, 2, `"BE"`},
	} {
		r := f.published(t, scoped(id, want.change))
		if r.Reaches == nil || *r.Reaches != want.reaches || (len(r.Warnings) > 0) != (want.warning != "") || !strings.Contains(strings.Join(r.Warnings, " "), want.warning) {
			t.Errorf("%s: reaches %v, warnings %q; want %d, %q", id, r.Reaches, r.Warnings, want.reaches, want.warning)
		}
	}
	if r := f.published(t, set("all", "all.example")); r.Reaches != nil || r.Warnings != nil {
		t.Errorf("receipt %+v, want no number of nodes and no warning", r)
	}
}

// TestReceiptListsNodesOfStage checks that a receipt lists the nodes on which a staged change set is in force.
func TestReceiptListsNodesOfStage(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 20)
	edges.report(t, 100, steady)
	r := f.published(t, staged("half", 3600, "half.example"))
	if got := f.state(t, "half").Nodes; len(got) != 0 {
		t.Errorf("in force on %q before any node reported it", got)
	}
	edges.report(t, 100, steady)
	got := f.state(t, "half").Nodes
	if r.Reaches == nil || len(got) != *r.Reaches || len(got) == 0 || len(got) == 20 {
		t.Errorf("in force on %q, reaches %v", got, r.Reaches)
	}
	for _, name := range got {
		if own, _ := strings.CutPrefix(name, "node/"); !journal.InStage("half", own, 0.5) {
			t.Errorf("%s is not in its share", name)
		}
	}
}

// TestStageWithoutServersWarns checks that a receipt warns while no server is in the share of a staged change set.
func TestStageWithoutServersWarns(t *testing.T) {
	f := start(t, setting{})
	edges := newNodes(t, f, 0)
	in, out := "", []string{}
	for i := 0; in == "" || len(out) < 3; i++ {
		if name := "n" + digits(uint64(i)); journal.InStage("few", name, 0.05) {
			in = name
		} else if len(out) < 3 {
			out = append(out, name)
		}
	}
	for _, name := range out {
		edges.send(t, f.upToDate(name))
	}
	few := staged("few", 3600, "few.example")
	few.Stage.Share = 0.05
	const want = "the stage reaches 0 of 3 servers before the change set is extended to all of them: choose a larger share"
	for _, r := range []changeset.Receipt{f.published(t, few), f.state(t, "few")} {
		if r.Reaches == nil || *r.Reaches != 0 || len(r.Warnings) != 1 || r.Warnings[0] != want {
			t.Errorf("reaches %v, warnings %q", r.Reaches, r.Warnings)
		}
	}
	edges.send(t, f.upToDate(in))
	if r := f.state(t, "few"); *r.Reaches != 1 || r.Warnings != nil {
		t.Errorf("with a server in its share: reaches %d, warnings %q", *r.Reaches, r.Warnings)
	}
	r := into[changeset.Receipt](t, f.post(t, "eve", "/v1/changesets/few/advance"), http.StatusOK)
	if r.Reaches != nil || r.Warnings != nil {
		t.Errorf("on all servers: %+v", r)
	}
}

// TestSuspensionsAreListed checks that suspensions and resumptions are listed with the change sets and in the audit trail, with author and reason.
func TestSuspensionsAreListed(t *testing.T) {
	f := start(t, setting{})
	for _, act := range []string{"suspend", "resume"} {
		a := f.call(t, "eve", "POST", "/v1/"+act, pushapi.TypeJSON, strings.NewReader(`{"reason":"why `+act+`"}`))
		version := into[struct{ Version uint64 }](t, a, http.StatusOK).Version
		id := act + "-" + digits(version)
		if r := f.state(t, id); r.Kind != act || r.By != "eve" || r.Comment != "why "+act || r.Version != version || r.State != changeset.Published {
			t.Errorf("receipt %+v, want the kind %s by eve with its reason and version %d", r, act, version)
		}
		refused(t, f.post(t, "ada", "/v1/changesets/"+id+"/undo"), http.StatusConflict, "path.id")
	}
	all := into[struct{ ChangeSets []changeset.Receipt }](t, f.get(t, "joe", "/v1/changesets"), http.StatusOK).ChangeSets
	if len(all) != 2 || all[0].Kind != "resume" || all[1].Kind != "suspend" {
		t.Errorf("change sets %+v, want a resumption and a suspension", all)
	}
	if trail := f.get(t, "joe", "/v1/audit").String(); !strings.Contains(trail, `"reason":"why suspend"`) || !strings.Contains(trail, `"reason":"why resume"`) {
		t.Errorf("the audit trail has no reasons: %s", trail)
	}
}

// TestRecoveredChangesAreListed checks that changes which were recovered from a node are listed as change sets.
func TestRecoveredChangesAreListed(t *testing.T) {
	f := start(t, setting{})
	now := time.Now()
	record := func(version uint64, kind journal.RecordKind) journal.Record {
		return journal.Record{Epoch: 1, Version: version, Time: now.UnixMilli(), Kind: kind, By: "ada"}
	}
	change := record(8, journal.RecordChanges)
	suspend := record(9, journal.RecordSuspend)
	suspend.Reason = "all is wrong"
	lists := record(10, journal.RecordChanges)
	all := []publish.Recovered{
		{Record: change, ChangeSet: &journal.ChangeSet{ID: "lost", Comment: "a case"}, Count: 3}, {Record: suspend},
		{Record: lists, ChangeSet: &journal.ChangeSet{ID: "lists-1", Sources: []journal.ListSource{{Name: "a list"}}}, Count: 1},
	}
	for range 2 { // the second call must change nothing
		if err := f.api.Recover(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	if r := f.state(t, "lost"); r.State != changeset.Published || r.Accepted != 3 || r.By != "ada" || r.Version != 8 || r.Note == "" {
		t.Errorf("receipt of lost: %+v, want 3 changes of ada, published as version 8 with a note", r)
	}
	if r := f.state(t, "suspend-9"); r.Kind != "suspend" || r.Comment != "all is wrong" {
		t.Errorf("receipt of suspend-9: %+v, want a suspension with its reason", r)
	}
	refused(t, f.get(t, "ada", "/v1/changesets/lists-1"), http.StatusNotFound, "path.id")
}
