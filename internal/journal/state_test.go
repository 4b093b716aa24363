package journal

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"rempart/blocklist"
)

// fleet is a control, and nodes that apply its records one by one.
type fleet struct {
	nodes  []Node // the first is control
	states []*State
	at     int64 // Unix seconds
	sets   int
}

func newFleet(t rapid.TB) *fleet {
	f := &fleet{at: 1_000_000, nodes: []Node{{Control: true}}}
	for i, country := range []string{"FR", "FR", "DE", ""} {
		f.nodes = append(f.nodes, Node{ID: fmt.Sprint("node", i), Country: country, Operator: []string{"", "isp"}[i%2]})
	}
	empty, err := emptyView()
	if err != nil {
		t.Fatal(err)
	}
	for range f.nodes {
		f.states = append(f.states, &State{base: empty, view: empty})
	}
	return f
}

// publish applies a record on every node.
func (f *fleet) publish(t rapid.TB, c checked) {
	c.Epoch, c.Version, c.Time = 1, f.states[0].Version+1, f.at*1000
	for i, n := range f.nodes {
		st, _, err := f.states[i].next(&c, 0, n)
		if err != nil {
			t.Fatal(err)
		}
		f.states[i] = st
	}
}

// push publishes a change set and returns its ID. If share is not 0, the change set is staged.
func (f *fleet) push(t rapid.TB, share float64, changes ...Change) string {
	f.sets++
	id := fmt.Sprint("set", f.sets)
	f.pushAs(t, id, share, changes...)
	return id
}

// pushAs is push with a given ID.
func (f *fleet) pushAs(t rapid.TB, id string, share float64, changes ...Change) {
	set := &ChangeSet{ID: id, Time: f.at}
	if share > 0 {
		set.Stage = &Stage{Share: share, Seconds: 60}
	}
	f.publish(t, checked{Record: Record{Kind: RecordChanges}, changeSet: set, changes: changes})
}

func (f *fleet) advance(t rapid.TB, set string) {
	f.publish(t, checked{Record: Record{Kind: RecordAdvance, ChangeSetID: set}})
}

// claims returns the entries of a name in a state, without the dates of first listing.
func claims(t rapid.TB, st *State, name string) []blocklist.Entry {
	wire, err := blocklist.AppendName(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	all := st.View().Claims(wire)
	slices.SortFunc(all, func(a, b blocklist.Entry) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return all
}

var (
	modelNames = []string{"x.example", "y.example"}
	undated    = cmpopts.IgnoreFields(blocklist.Entry{}, "Since")
)

// check checks that nodes that start from a snapshot of the current state hold the same as the running nodes.
func (f *fleet) check(t rapid.TB) {
	for i, n := range f.nodes[1:] {
		there := f.states[i+1]
		late, err := (&State{Version: there.Version, Scoped: f.states[0].Scoped, base: f.states[0].view}).buildViews(n)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(f.states[0].Scoped, there.Scoped); diff != "" {
			t.Fatalf("scoped (-control +%s):\n%s", n.ID, diff)
		}
		for _, name := range modelNames {
			if diff := gocmp.Diff(claims(t, late, name), claims(t, there, name), undated); diff != "" {
				t.Fatalf("%s of node %q (-late +there):\n%s", name, n.ID, diff)
			}
		}
	}
}

func drawAct(t *rapid.T, at int64) Change {
	c := Change{
		Do:    rapid.SampledFrom([]Act{Block, Block, Allow, Withdraw}).Draw(t, "do"),
		Name:  rapid.SampledFrom([]string{modelNames[0], modelNames[0], modelNames[0], modelNames[1]}).Draw(t, "name"),
		Scope: rapid.SampledFrom([]string{"", "", "subtree", "exact", "below"}).Draw(t, "scope"),
	}
	if c.Do != Withdraw {
		c.Mark = rapid.SampledFrom([]string{"", "censored"}).Draw(t, "mark")
		c.Countries = rapid.SampledFrom([][]string{nil, nil, {"FR"}, {"FR", "DE"}}).Draw(t, "countries")
		c.Operators = rapid.SampledFrom([][]string{nil, nil, nil, {"isp"}}).Draw(t, "operators")
		c.Expiry = rapid.SampledFrom([]int64{0, 0, at + 100}).Draw(t, "expiry")
	}
	return c
}

// TestFollowedAndSnapshotStatesAgree checks with random changes that a node that followed all records and a node that started from a snapshot have the same
// claims, and that the last change is in effect.
func TestFollowedAndSnapshotStatesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFleet(t)
		var staged []string
		for range rapid.IntRange(1, 30).Draw(t, "records") {
			switch act := rapid.IntRange(0, 9).Draw(t, "act"); {
			case act == 0:
				f.at += 60
				f.publish(t, checked{Record: Record{Kind: RecordRenew}})
			case act <= 2 && len(staged) > 0:
				f.advance(t, rapid.SampledFrom(staged).Draw(t, "advanced"))
			default:
				c := drawAct(t, f.at)
				share := rapid.SampledFrom([]float64{0, 0, 0.5}).Draw(t, "share")
				id := f.push(t, share, c)
				if share > 0 {
					staged = append(staged, id)
					break
				}
				f.wantSoleClaim(t, c)
			}
			f.check(t)
		}
	})
}

// wantSoleClaim checks that a change is the only claim of its name and scope on the nodes to which it applies.
func (f *fleet) wantSoleClaim(t rapid.TB, c Change) {
	for i, n := range f.nodes {
		if n.Control && !c.AppliesEverywhere() || !c.AppliesTo(n.Country, n.Operator) {
			continue
		}
		var got []blocklist.Entry
		for _, e := range claims(t, f.states[i], c.Name) {
			if c.Do == Withdraw && c.Scope == "" || e.Scope.String() == cmp.Or(c.Scope, "subtree") {
				got = append(got, e)
			}
		}
		if c.Do == Withdraw && len(got) == 0 {
			continue
		}
		l, err := c.Listing()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 1 || got[0].Decision != l.Decision || got[0].Mark != l.Mark || got[0].Expiry != l.Expiry || c.Do == Withdraw {
			t.Fatalf("%+v was pushed, and node %q holds %+v", c, n.ID, got)
		}
	}
}

// TestLaterChangeOverridesAdvance checks that a change that was pushed after a staged change set stays in effect when the change set is advanced.
func TestLaterChangeOverridesAdvance(t *testing.T) {
	france := []string{"FR"}
	for name, test := range map[string]struct {
		before, staged, after Change
		fr, de                blocklist.Decision
	}{
		"allowed for a country": {
			staged: Change{Do: Block}, after: Change{Do: Allow, Countries: france},
			fr: blocklist.Allow, de: blocklist.Block,
		},
		"blocked for a country, withdrawn for all": {
			before: Change{Do: Block, Mark: "filtered"}, staged: Change{Do: Withdraw}, after: Change{Do: Block, Countries: france, Mark: "censored"},
			fr: blocklist.Block, de: noClaim,
		},
		"blocked for all in another scope": {
			before: Change{Do: Allow}, staged: Change{Do: Withdraw}, after: Change{Do: Block, Scope: "exact"},
			fr: blocklist.Block, de: blocklist.Block,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t)
			test.before.Name, test.staged.Name, test.after.Name = modelNames[0], modelNames[0], modelNames[0]
			if test.before.Do != "" {
				f.push(t, 0, test.before)
			}
			staged := f.push(t, 0.5, test.staged)
			f.push(t, 0, test.after)
			f.check(t)
			f.advance(t, staged)
			f.check(t)
			f.wantDecision(t, 1, test.fr)
			f.wantDecision(t, 3, test.de)
		})
	}
}

const noClaim = blocklist.Decision(255)

// wantDecision checks the decision on the first name at a node.
func (f *fleet) wantDecision(t *testing.T, node int, want blocklist.Decision) {
	t.Helper()
	got := claims(t, f.states[node], modelNames[0])
	if want == noClaim && len(got) == 0 || len(got) == 1 && got[0].Decision == want {
		return
	}
	t.Errorf("%q holds %+v, want decision %v", f.nodes[node].ID, got, want)
}

// TestOverriddenChangeReturnsAfterExpiry checks that the change that a country's change overrode is in effect there again after the latter expired.
func TestOverriddenChangeReturnsAfterExpiry(t *testing.T) {
	f := newFleet(t)
	f.push(t, 0, Change{Do: Block, Name: modelNames[0]})
	f.push(t, 0, Change{Do: Allow, Name: modelNames[0], Countries: []string{"FR"}, Expiry: f.at + 10})
	f.wantDecision(t, 1, blocklist.Allow)
	f.wantDecision(t, 3, blocklist.Block)
	f.at += 10
	f.publish(t, checked{Record: Record{Kind: RecordRenew}})
	f.wantDecision(t, 1, blocklist.Block)
	f.check(t)
}
