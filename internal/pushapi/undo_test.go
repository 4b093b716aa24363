package pushapi_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

func (f *fixture) published(t testing.TB, s pushapi.ChangeSet) changeset.Receipt {
	t.Helper()
	return into[changeset.Receipt](t, f.push(t, "ada", s), http.StatusCreated)
}

func (f *fixture) undo(t testing.TB, id string) changeset.UndoResult {
	t.Helper()
	return into[changeset.UndoResult](t, f.post(t, "bob", "/v1/changesets/"+id+"/undo"), http.StatusCreated)
}

func act(do journal.Act, name string) changeset.Change { return changeset.Change{Do: do, Name: name} }

// TestUndoCanBeUndone checks that an undo can be repeated, that it can be undone, and that this second undo can be undone too.
func TestUndoCanBeUndone(t *testing.T) {
	f := start(t, setting{})
	f.published(t, set("first", "a.example", "b.example"))
	f.published(t, pushapi.ChangeSet{ID: "later", Changes: []changeset.Change{{Name: "b.example", Category: "phishing"}}})
	u := f.undo(t, "first")
	if again := into[changeset.UndoResult](t, f.post(t, "bob", "/v1/changesets/first/undo"), http.StatusOK); again.Lefts != 1 || !slices.Equal(again.Left, u.Left) {
		t.Errorf("the repeated undo: %+v", again)
	}
	f.undo(t, u.ID)
	f.wants(t, "a.example", blocklist.BlockedBy)
	if r := f.state(t, "first"); r.State != changeset.Published || r.UndoneBy != "" {
		t.Errorf("after the undo of its undo: %+v, want published", r)
	}
	refused(t, f.post(t, "bob", "/v1/changesets/first/undo"), http.StatusConflict, "path.id") // later change sets changed its names
	f.undo(t, "undo-"+u.ID)
	f.wants(t, "a.example", blocklist.Pass)
	if r := f.state(t, "first"); r.State != changeset.Undone || r.UndoneBy != u.ID {
		t.Errorf("after the undo was in effect again: %+v, want undone", r)
	}
	f.published(t, staged("some", 3600, "some.example"))
	f.undo(t, f.undo(t, "some").ID)
	if r := f.state(t, "some"); r.State != changeset.Undone || !strings.Contains(r.Note, "push it again") {
		t.Errorf("a staged change set after the undo of its undo: %+v, want undone with a note", r)
	}
}

// TestUndoRestoresEarlierClaims checks that an undo restores the earlier claims about a name, or removes the claims if there were none, and keeps later
// changes.
func TestUndoRestoresEarlierClaims(t *testing.T) {
	f := start(t, setting{})
	f.published(t, set("first", "a.example", "b.example", "c.example"))
	f.published(t, pushapi.ChangeSet{ID: "later", Changes: []changeset.Change{{Name: "b.example", Category: "phishing"}}})
	u := f.undo(t, "first")
	if u.Lefts != 1 || !slices.Equal(u.Left, []string{"b.example"}) || u.Accepted != 2 {
		t.Errorf("undo %+v, want 2 changes, and b.example left", u)
	}
	f.wants(t, "a.example", blocklist.Pass)
	f.wants(t, "b.example", blocklist.BlockedBy)
	f.wants(t, "c.example", blocklist.Pass)
	again := into[changeset.UndoResult](t, f.post(t, "bob", "/v1/changesets/first/undo"), http.StatusOK)
	if again.ID != u.ID || again.Version != u.Version {
		t.Errorf("again: %+v", again)
	}
	// If the undo is undone, its blocks are in effect again.
	f.undo(t, u.ID)
	f.wants(t, "a.example", blocklist.BlockedBy)

	// The undo of a withdrawal restores the block.
	f.published(t, pushapi.ChangeSet{ID: "gone", Changes: []changeset.Change{act(journal.Withdraw, "b.example"), act(journal.Withdraw, "never.example")}})
	f.wants(t, "b.example", blocklist.Pass)
	f.undo(t, "gone")
	f.wants(t, "b.example", blocklist.BlockedBy)
	i := into[pushapi.NameInfo](t, f.get(t, "joe", "/v1/names/b.example"), http.StatusOK)
	if len(i.Claims) != 1 || i.Claims[0].Category != "phishing" {
		t.Errorf("b.example: %+v, want one claim with the category phishing", i)
	}
	f.wants(t, "never.example", blocklist.Pass)

	// The undo of a renewal restores the earlier expiry, and the undo of an allow restores the block.
	first, second := time.Now().Add(time.Hour).UTC().Truncate(time.Second), time.Now().Add(2*time.Hour).UTC().Truncate(time.Second)
	f.published(t, pushapi.ChangeSet{ID: "born", Changes: []changeset.Change{{Name: "d.example", Expiry: &first}}})
	f.published(t, pushapi.ChangeSet{ID: "renewed", Changes: []changeset.Change{{Name: "d.example", Scope: "subtree", Expiry: &second}}})
	f.undo(t, "renewed")
	if i := into[pushapi.NameInfo](t, f.get(t, "joe", "/v1/names/d.example"), http.StatusOK); len(i.Claims) != 1 || !i.Claims[0].Expiry.Equal(first) {
		t.Errorf("d.example: %+v, want one claim that expires at %v", i, first)
	}
	f.published(t, pushapi.ChangeSet{ID: "allowed", Changes: []changeset.Change{act(journal.Allow, "d.example")}})
	f.wants(t, "d.example", blocklist.Allowed)
	f.undo(t, "allowed")
	f.wants(t, "d.example", blocklist.BlockedBy)

	// An undo is refused if a later change set changed all names, or if the change set does not exist.
	f.published(t, set("over", "e.example"))
	f.published(t, set("overtaken", "e.example"))
	refused(t, f.post(t, "ada", "/v1/changesets/over/undo"), http.StatusConflict, "path.id")
	refused(t, f.post(t, "ada", "/v1/changesets/nothing/undo"), http.StatusNotFound, "path.id")
	refused(t, f.push(t, "ada", set("undo-over", "x.example")), http.StatusUnprocessableEntity, "id")
	long := strings.Repeat("x", 100)
	f.published(t, set(long, "long.example"))
	f.undo(t, long)
	f.wants(t, "long.example", blocklist.Pass)
}

// TestUndoRestoresScopedChanges checks that the undo of a change for all nodes restores the earlier changes for some countries.
func TestUndoRestoresScopedChanges(t *testing.T) {
	f := start(t, setting{})
	countries := func(id, name string, countries ...string) {
		f.published(t, pushapi.ChangeSet{ID: id, Changes: []changeset.Change{{Name: name, Countries: countries}}})
	}
	countries("fr", "s.example", "FR")
	countries("de", "s.example", "DE")
	f.published(t, set("all", "s.example"))
	if n := len(f.journ.State().Scoped); n != 0 {
		t.Fatalf("%d scoped", n)
	}
	f.undo(t, "all")
	var in []string
	for _, s := range f.journ.State().Scoped {
		in = append(in, s.Change.Countries...)
	}
	if slices.Sort(in); !slices.Equal(in, []string{"DE", "FR"}) {
		t.Errorf("in force in %v", in)
	}
	f.wants(t, "s.example", blocklist.Pass)
}

// TestRejectedUndoCanBeRequestedAgain checks an undo that needs approval: after a rejection it can be requested again; after an approval the change set is
// undone.
func TestRejectedUndoCanBeRequestedAgain(t *testing.T) {
	f := start(t, setting{})
	f.held(t, "ada", "in")
	if a := f.post(t, "eve", "/v1/changesets/in/approve"); a.status != http.StatusCreated {
		t.Fatalf("approval: %s, want status 201", a)
	}
	f.published(t, pushapi.ChangeSet{ID: "out", Changes: []changeset.Change{act(journal.Withdraw, popular)}})
	f.wants(t, popular, blocklist.Pass)
	for i := range 3 { // the undo blocks a popular name again, which a second person must approve
		u := into[changeset.UndoResult](t, f.post(t, "bob", "/v1/changesets/out/undo"), http.StatusAccepted)
		if again := into[changeset.UndoResult](t, f.post(t, "bob", "/v1/changesets/out/undo"), http.StatusOK); again.ID != u.ID {
			t.Errorf("%s and %s", u.ID, again.ID)
		}
		f.wants(t, popular, blocklist.Pass)
		do, want := "/reject", http.StatusOK
		if i == 2 {
			do, want = "/approve", http.StatusCreated
		}
		if a := f.post(t, "eve", "/v1/changesets/"+u.ID+do); a.status != want {
			t.Errorf("%s of the undo: %s, want status %d", do, a, want)
		}
	}
	f.wants(t, popular, blocklist.BlockedBy)
	if r := into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/out"), http.StatusOK); r.State != changeset.Undone {
		t.Errorf("receipt %+v, want it undone", r)
	}
}

// TestScopedClaimsAreShown checks that the API shows the claims about a name that apply to some nodes only.
func TestScopedClaimsAreShown(t *testing.T) {
	f := start(t, setting{})
	f.published(t, pushapi.ChangeSet{ID: "fr", Changes: []changeset.Change{{Name: "fr.example", Category: "scam", Countries: []string{"FR"}}}})
	f.published(t, staged("some", 3600, "fr.example"))
	got := into[pushapi.NameInfo](t, f.get(t, "joe", "/v1/names/www.fr.example"), http.StatusOK)
	if got.Verdict != "pass" || len(got.Claims) != 2 {
		t.Fatalf("www.fr.example: %+v, want the verdict pass and two claims", got)
	}
	first, second := got.Claims[0], got.Claims[1]
	if first.ChangeSet != "fr" || !slices.Equal(first.Countries, []string{"FR"}) || first.Does != "block" || first.Scope != "subtree" || first.Category != "scam" {
		t.Errorf("first claim: %+v, want a block of the subtree in FR by the change set fr", first)
	}
	if second.ChangeSet != "some" || second.Share != 0.5 {
		t.Errorf("second claim: %+v, want one of the change set some for half of the nodes", second)
	}
}

// TestLogShowsChangesOfName checks that the log of a name shows all changes about it, from small and large change sets and from lists.
func TestLogShowsChangesOfName(t *testing.T) {
	f := start(t, setting{})
	name := "log.watched.example"
	expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	f.published(t, pushapi.ChangeSet{ID: "one", Comment: "a comment", Changes: []changeset.Change{{
		Name: name, Reason: "a \"<reason>\" & more", Authority: "the court", Decision: "42/7", Mark: "censored", Expiry: &expiry,
	}}})
	f.published(t, pushapi.ChangeSet{ID: "two", Changes: []changeset.Change{act(journal.Allow, name)}})
	f.published(t, pushapi.ChangeSet{ID: "three", Changes: []changeset.Change{act(journal.Withdraw, name)}})
	f.published(t, pushapi.ChangeSet{ID: "above", Changes: []changeset.Change{{Name: "watched.example"}, {Name: "atched.example"}}})
	f.published(t, pushapi.ChangeSet{ID: "exact", Changes: []changeset.Change{{Name: "watched.example", Scope: "exact"}}})
	var lines strings.Builder
	for i := range journal.MaxChanges + 1 {
		fmt.Fprintf(&lines, `{"name":"n%d.example"}`+"\n", i)
	}
	fmt.Fprintf(&lines, `{"name":%q,"reason":"in a large set"}`+"\n", name)
	if a := f.call(t, "ada", "POST", "/v1/changesets?id=large", pushapi.TypeNDJSON, strings.NewReader(lines.String())); a.status != http.StatusCreated {
		t.Fatalf("push of the large change set: %s, want status 201", a)
	}
	// A signed change set in unusual JSON, with a refused change.
	body := fmt.Sprintf("{\"id\":\"odd\",\"time\":%d}\n{ \"do\" : \"block\", \"name\" : \"\\u006cog.watched.example\", \"category\":\"scam\"}\n{\"do\":\"block\",\"name\":\"co.uk\"}\n", time.Now().Unix())
	if a := f.call(t, "bob", "POST", "/v1/changesets", pushapi.TypeSigned, strings.NewReader(string(signing.Seal(signing.KindChanges, []byte(body), f.author)))); a.status != http.StatusCreated {
		t.Fatalf("signed push: %s, want status 201", a)
	}
	wire, err := format.Name(name)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := f.journ.State().View().With(f.journ.State().View().Info(), []blocklist.Change{{
		Source: blocklist.Source{Name: "a list"}, Listing: blocklist.Listing{Name: wire, Scope: blocklist.Subtree},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.journ.PublishLists(t.Context(), lists, nil, f.feeds); err != nil {
		t.Fatal(err)
	}
	f.undo(t, "large")

	log := into[struct {
		Name string
		Log  []pushapi.LogEntry
	}](t, f.get(t, "joe", "/v1/names/LOG.watched.example./log"), http.StatusOK)
	var got []string
	for _, e := range log.Log {
		got = append(got, fmt.Sprintf("%s %s %s by %s %s", e.ID, e.Do, e.Name, e.By, e.List))
		if e.ID == "one" && (e.Reason != "a \"<reason>\" & more" || e.Authority != "the court" || e.Decision != "42/7" || e.Mark != "censored" || !e.Expiry.Equal(expiry) ||
			e.Comment != "a comment" || !e.Applied || e.Version == 0) {
			t.Errorf("log entry of the change set one: %+v, want all fields of the change", e)
		}
	}
	want := []string{
		"one block log.watched.example by ada ", "two allow log.watched.example by ada ", "three withdraw log.watched.example by ada ",
		"above block watched.example by ada ", "large block log.watched.example by ada ", "odd block log.watched.example by bob ",
		"lists block log.watched.example by lists a list",
	}
	if len(got) != len(want) {
		t.Fatalf("log: %q, want %d entries", got, len(want))
	}
	for i := range want {
		if got[i] != want[i] && !(strings.HasPrefix(want[i], "lists") && strings.HasPrefix(got[i], "lists-") && strings.HasSuffix(got[i], want[i][len("lists"):])) {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
	// The refused change is in the log of its own name, and was not applied.
	log = into[struct {
		Name string
		Log  []pushapi.LogEntry
	}](t, f.get(t, "joe", "/v1/names/co.uk/log"), http.StatusOK)
	if len(log.Log) != 1 || log.Log[0].Applied {
		t.Errorf("log of co.uk: %+v, want one entry that was not applied", log)
	}
	refused(t, f.get(t, "joe", "/v1/names/no%20name/log"), http.StatusUnprocessableEntity, "path.name")
}
