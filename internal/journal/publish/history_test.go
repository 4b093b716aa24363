package publish_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/internal/journal"
	"rempart/internal/journal/journaltest"
	"rempart/internal/journal/publish"
	"rempart/internal/signing"
)

// TestUndoRestoresEarlierClaims checks that the undo of a change set about one name makes the earlier claims for all nodes again, and no others.
func TestUndoRestoresEarlierClaims(t *testing.T) {
	const all, staged, advance = "all", "staged", "advance"
	type act struct {
		what, id string // id is the change set that an advance names
		do       journal.Act
		scope    string
	}
	tests := []struct {
		name, undo string
		acts       []act
		want       string // the changes of the undo; "left" for none
	}{
		{"no earlier change", "b", []act{{all, "b", journal.Block, ""}}, "withdraw"},
		{"earlier allow", "b", []act{{all, "a", journal.Allow, ""}, {all, "b", journal.Block, ""}}, "withdraw, allow"},
		{"earlier block and staged allow", "b",
			[]act{{all, "a", journal.Block, ""}, {staged, "s", journal.Allow, ""}, {all, "b", journal.Block, ""}}, "withdraw, block"},
		{"earlier block and advanced allow", "b",
			[]act{{all, "a", journal.Block, ""}, {staged, "s", journal.Allow, ""}, {advance, "s", "", ""}, {all, "b", journal.Block, ""}}, "withdraw, allow"},
		{"staged allow replaced before it was advanced", "b",
			[]act{{staged, "s", journal.Allow, ""}, {all, "a", journal.Block, ""}, {advance, "s", "", ""}, {all, "b", journal.Block, ""}}, "withdraw, block"},
		{"two staged change sets advanced in order", "b",
			[]act{{staged, "s", journal.Allow, ""}, {staged, "o", journal.Block, ""}, {advance, "s", "", ""}, {advance, "o", "", ""}, {all, "b", journal.Allow, ""}}, "withdraw, block"},
		{"two staged change sets, the later advanced first", "b",
			[]act{{staged, "s", journal.Allow, ""}, {staged, "o", journal.Block, ""}, {advance, "o", "", ""}, {advance, "s", "", ""}, {all, "b", journal.Allow, ""}}, "withdraw, block"},
		{"staged change set advanced afterwards, overridden", "b",
			[]act{{staged, "s", journal.Allow, ""}, {all, "b", journal.Block, ""}, {advance, "s", "", ""}}, "withdraw"},
		{"staged change set of another scope advanced afterwards", "b",
			[]act{{staged, "s", journal.Allow, "exact"}, {all, "b", journal.Block, ""}, {advance, "s", "", ""}}, "left"},
		{"undo of a staged change set", "s", []act{{all, "a", journal.Block, ""}, {staged, "s", journal.Allow, ""}}, "withdraw, block"},
		{"undo of an advanced change set", "s",
			[]act{{all, "a", journal.Block, ""}, {staged, "s", journal.Allow, ""}, {advance, "s", "", ""}}, "withdraw, block"},
		{"undo of an advanced change set, an earlier staged one advanced after it", "s",
			[]act{{staged, "o", journal.Block, ""}, {staged, "s", journal.Allow, ""}, {advance, "s", "", ""}, {advance, "o", "", ""}}, "withdraw"},
		{"undo of a staged change set, another one advanced", "s",
			[]act{{staged, "o", journal.Allow, ""}, {staged, "s", journal.Block, ""}, {advance, "o", "", ""}}, "left"},
	}
	k := journaltest.NewKeys(t)
	c := journaltest.StartControl(t, k, t.TempDir(), nil)
	for i, test := range tests {
		id := func(id string) string { return fmt.Sprint(id, i) }
		for _, a := range test.acts {
			set := &journal.ChangeSet{ID: id(a.id), Time: time.Now().Unix()}
			if a.what == staged {
				set.Stage = &journal.Stage{Share: 0.1, Seconds: 60}
			}
			if a.what == advance {
				c.MustPublish(t, publish.Draft{Kind: journal.RecordAdvance, ChangeSetID: set.ID})
				continue
			}
			payload, err := journal.Encode(set, []journal.Change{{Do: a.do, Name: fmt.Sprintf("x%d.example", i), Scope: a.scope}})
			if err != nil {
				t.Fatal(err)
			}
			c.Push(t, signing.Seal(signing.KindChanges, payload, k.Author))
		}
		if got := undoText(t, c, id(test.undo)); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// undoText returns the changes of an undo as text.
func undoText(t *testing.T, c *journaltest.Control, id string) string {
	t.Helper()
	u, err := c.Undo(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var says []string
	for ch := range u.Changes {
		says = append(says, string(ch.Do))
	}
	if u.SkippedCount > 0 {
		says = append(says, "left")
	}
	return strings.Join(says, ", ")
}

// TestUndoOfUserNamedLists checks the undo of a change set that was pushed by a user whose name is that of the publisher of lists.
func TestUndoOfUserNamedLists(t *testing.T) {
	k := journaltest.NewKeys(t)
	c := journaltest.StartControl(t, k, t.TempDir(), nil)
	c.Push(t, k.ChangeSet(t, "a", journaltest.Block("x.example"), journaltest.Block("y.example")))
	c.MustPublish(t, publish.Draft{Kind: journal.RecordChanges, By: "lists", Body: k.ChangeSet(t, "b", journal.Change{Do: journal.Allow, Name: "x.example"})})
	u, err := c.Undo(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Collect(u.Changes)
	if diff := cmp.Diff([]journal.Change{{Do: journal.Withdraw, Name: "y.example"}}, got); diff != "" || !slices.Equal(u.Skipped, []string{"x.example"}) {
		t.Errorf("skipped %q; %s", u.Skipped, diff)
	}
}
