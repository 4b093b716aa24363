package pushapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

const guardData = "../../../shared/data/guard"

// firstNames returns at most that many names from the start of a list, which may be compressed. name returns the name in a line, or "". If the file does not
// exist, firstNames returns nil.
func firstNames(t testing.TB, path string, most int, name func(string) string) (all []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(z); err != nil {
			t.Fatal(err)
		}
		data = b.Bytes()
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan() && len(all) < most; {
		if n := name(strings.TrimSpace(s.Text())); n != "" {
			if _, err := format.Name(n); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// protected returns names that one person may not block alone, from the lists in this repository and from the shared lists if they exist.
func protected(t testing.TB) []string {
	plain := func(line string) string {
		line, _, _ = strings.Cut(line, "#")
		return strings.TrimLeft(strings.TrimSpace(line), "*.=")
	}
	ranked := func(line string) string {
		if _, name, ok := strings.Cut(line, ","); ok {
			return name
		}
		return line
	}
	all := firstNames(t, "../../blocklist/guard/essential.txt", 1e6, func(line string) string {
		if fields := strings.Fields(plain(line)); len(fields) > 0 {
			return strings.TrimLeft(fields[0], "*.=")
		}
		return ""
	})
	all = append(all, firstNames(t, "../../blocklist/guard/popular.csv.gz", guard.DefaultBound, ranked)...)
	all = append(all, firstNames(t, filepath.Join(guardData, "tranco-100k-ranked.txt.gz"), 5000, ranked)...)
	all = append(all, firstNames(t, filepath.Join(guardData, "publicsuffix", "public_suffix_list.dat"), 1e6, func(line string) string {
		if strings.HasPrefix(line, "//") || strings.HasPrefix(line, "!") {
			return ""
		}
		return plain(line)
	})...)
	return all
}

// alone returns the names whose block the guards refuse or hold.
func alone(t testing.TB, names []string) (kept []string) {
	t.Helper()
	g, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, n := range names {
		wire, err := format.Name(n)
		if err != nil || seen[string(wire)] {
			continue
		}
		seen[string(wire)] = true
		if g.Check(blocklist.Listing{Name: wire, Scope: blocklist.Subtree}).Outcome != guard.Pass {
			kept = append(kept, blocklist.NameText(wire))
		}
	}
	return kept
}

// TestProtectedNamesNeedSecondPerson checks that one publisher alone cannot block protected names, in any format of a push.
func TestProtectedNamesNeedSecondPerson(t *testing.T) {
	f := start(t, setting{config: func(c *pushapi.Config) { c.Rate, c.Burst = 1e6, 1e6 }})
	listed := protected(t)
	names := alone(t, listed)
	if len(names) < 9000 {
		t.Fatalf("the guards protect %d of %d names, want at least 9000", len(names), len(listed))
	}
	pushes := 0
	ok := func(a *answer) {
		t.Helper()
		if pushes++; a.status != http.StatusOK && a.status != http.StatusAccepted {
			t.Errorf("push of protected names: %.500s, want status 200 or 202", a)
		}
	}
	for _, scope := range []string{"subtree", "exact", "below"} {
		for at := 0; at < len(names); at += 4000 {
			part := names[at:min(at+4000, len(names))]
			if scope == "exact" { // leave out the names that the guards protect only against a block of the names below them
				g, _ := shipped()
				var kept []string
				for _, n := range part {
					wire, _ := format.Name(n)
					if g.Check(blocklist.Listing{Name: wire, Scope: blocklist.Exact}).Outcome != guard.Pass {
						kept = append(kept, n)
					}
				}
				part = kept
			}
			var doc pushapi.ChangeSet
			var lines, table bytes.Buffer
			var changes []journal.Change
			table.WriteString("name,scope\n")
			for _, n := range part {
				doc.Changes = append(doc.Changes, changeset.Change{Name: n, Scope: scope})
				line, _ := json.Marshal(changeset.Change{Name: strings.ToUpper(n) + ".", Scope: scope})
				lines.Write(append(line, '\n'))
				fmt.Fprintf(&table, "%s,%s\n", n, scope)
				changes = append(changes, journal.Change{Do: journal.Block, Name: n, Scope: scope})
			}
			ok(f.push(t, "ada", doc))
			ok(f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeNDJSON, &lines))
			ok(f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeCSV, &table))
			id := fmt.Sprintf("signed-%s-%d", scope, at)
			ok(f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(signed(t, &journal.ChangeSet{ID: id}, changes, f.author))))
		}
	}
	inForce := 0
	view := f.journ.State().View()
	for _, n := range names {
		wire, _ := format.Name(n)
		for _, name := range [][]byte{wire, append([]byte("\x03www"), wire...)} {
			if view.Match(name, blocklist.AllCategories, time.Now().Unix()).Action != blocklist.Pass {
				inForce++
				t.Log(n)
				break
			}
		}
	}
	t.Logf("%d of %d names in force, after %d pushes of them in 4 forms and 3 scopes (%d names listed)", inForce, len(names), pushes, len(listed))
	if inForce > 0 {
		t.Fail()
	}
}

// TestGuardsRefuseAllow checks that the guards refuse an allow of a public suffix, or of a domain that many people share.
func TestGuardsRefuseAllow(t *testing.T) {
	f := start(t, setting{})
	for _, name := range []string{"co.uk", "github.io", "amazonaws.com", "cloudfront.net", "com", "azurewebsites.net", "uk.com", "fr"} {
		r := into[changeset.Receipt](t, f.push(t, "ada", pushapi.ChangeSet{Changes: []changeset.Change{act(journal.Allow, name)}}), http.StatusOK)
		if r.State != changeset.Refused || r.Accepted != 0 {
			t.Errorf("allow of %s: receipt %+v, want it refused", name, r)
		}
	}
}

// TestMassChangeIsHeld checks that change sets are held if they change too large a part of the set.
func TestMassChangeIsHeld(t *testing.T) {
	f := start(t, setting{})
	upload := func(id string, n int, do string) *answer {
		return f.call(t, "ada", "POST", "/v1/changesets?id="+id, pushapi.TypeNDJSON, &names{n: n, line: func(b []byte, i int) []byte {
			return fmt.Appendf(b, `{"do":%q,"name":"n%d.example"}`+"\n", do, i)
		}})
	}
	if a := upload("first", 1500, "block"); a.status != http.StatusCreated {
		t.Fatalf("first upload: %s, want status 201", a)
	}
	for id, n := range map[string]int{"small": 7000, "large": 12_000} {
		r := into[changeset.Receipt](t, upload(id, n, "block"), http.StatusAccepted)
		if r.Holds != 1 || r.Held[0].Guard != "mass-change" {
			t.Errorf("receipt %+v, want it held by the guard mass-change", r)
		}
	}
	for _, do := range []string{"withdraw", "allow"} {
		if a := upload(do, 1000, do); a.status != http.StatusAccepted {
			t.Errorf("%s of 1000 names: %s, want status 202", do, a)
		}
	}
	if n := f.journ.State().View().Stats().Names; n != 1500 {
		t.Errorf("%d names", n)
	}
	if a := f.post(t, "eve", "/v1/changesets/large/approve"); a.status != http.StatusCreated {
		t.Errorf("approval: %s, want status 201", a)
	}
	f.wants(t, "n11999.example", blocklist.BlockedBy)
	f.undo(t, "large")
	f.wants(t, "n1499.example", blocklist.BlockedBy)
	f.wants(t, "n1500.example", blocklist.Pass)
}
