package pushapi_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/journal/publish"
	"rempart/internal/journal/stream"
	"rempart/internal/pushapi"
	"rempart/internal/signing"
)

// TestPushInEveryFormat checks a push in each unsigned format, and the undo of one.
func TestPushInEveryFormat(t *testing.T) {
	f := start(t, setting{})
	r := into[changeset.Receipt](t, f.push(t, "ada", set("one", "login.bank.example")), http.StatusCreated)
	if r.State != changeset.Published || r.Version != f.journ.State().Version || r.By != "ada" || r.Accepted != 1 {
		t.Errorf("receipt %+v, want one change of ada, published as the newest version", r)
	}
	f.wants(t, "www.login.bank.example", blocklist.BlockedBy)
	if again := into[changeset.Receipt](t, f.push(t, "ada", set("one", "login.bank.example")), http.StatusOK); again.Version != r.Version {
		t.Errorf("pushed again: %+v", again)
	}
	refused(t, f.push(t, "ada", set("one", "other.example")), http.StatusConflict, "id")
	lines := `{"name":"a.example"}` + "\n" + `{"name":"bücher.example","do":"block","category":"phishing"}` + "\n"
	r = into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=two", pushapi.TypeNDJSON, strings.NewReader(lines)), http.StatusCreated)
	f.wants(t, "xn--bcher-kva.example", blocklist.BlockedBy)
	table := "name,do,expiry,countries\nc.example,block,2099-01-01T00:00:00Z,\nd.example,,,\n"
	r = into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=three", pushapi.TypeCSV, strings.NewReader(table)), http.StatusCreated)
	if r.Accepted != 2 {
		t.Errorf("receipt %+v, want 2 accepted changes", r)
	}
	f.wants(t, "c.example", blocklist.BlockedBy)
	u := into[changeset.UndoResult](t, f.post(t, "ada", "/v1/changesets/three/undo"), http.StatusCreated)
	if u.Undoes != "three" || u.Lefts != 0 {
		t.Errorf("undo %+v, want that of three, with no change left", u)
	}
	f.wants(t, "c.example", blocklist.Pass)
	if r := into[changeset.Receipt](t, f.get(t, "joe", "/v1/changesets/three"), http.StatusOK); r.State != changeset.Undone || r.UndoneBy != u.ID {
		t.Errorf("receipt %+v, want it undone by %s", r, u.ID)
	}
}

// TestPushAcceptsNotationsOfLists checks that a push accepts names in the notations of lists, in each format of upload, with the scope that a list would give
// them.
func TestPushAcceptsNotationsOfLists(t *testing.T) {
	f := start(t, setting{})
	texts := []struct {
		text, name string
		below      blocklist.Action // verdict on a name below
	}{
		{"a%d[.]example", "a%d.example", blocklist.BlockedBy}, {"a%d(.)example", "a%d.example", blocklist.BlockedBy},
		{"a%d[dot]example", "a%d.example", blocklist.BlockedBy}, {"*.a%d.example", "a%d.example", blocklist.BlockedBy},
		{"hxxps://a%d[.]example/", "a%d.example", blocklist.Pass}, {"https://a%d.example:8443", "a%d.example", blocklist.Pass},
		{"\u200ba%d.example\u00a0", "a%d.example", blocklist.BlockedBy},
	}
	for kind, upload := range map[string]func([]string) (path, kind, body string){
		"ndjson": func(texts []string) (string, string, string) {
			var b strings.Builder
			for _, text := range texts {
				fmt.Fprintf(&b, "{\"name\":%q}\n", text)
			}
			return "/v1/changesets?id=ndjson", pushapi.TypeNDJSON, strings.ReplaceAll(b.String(), `\u00a0`, " ")
		},
		"semicolons": func(texts []string) (string, string, string) {
			return "/v1/changesets?id=semicolons", pushapi.TypeCSV, "\ufeffNom de domaine;reason\r\n" + strings.Join(texts, ";x\r\n") + ";x\r\n"
		},
		"csv": func(texts []string) (string, string, string) {
			return "/v1/changesets?id=csv", pushapi.TypeCSV, "Domain,reason\n" + strings.Join(texts, ",x\n") + ",x\n"
		},
	} {
		var all []string
		for i, tt := range texts {
			all = append(all, strings.ReplaceAll(tt.text, "%d", fmt.Sprint(i, kind)[:1]+kind))
		}
		path, mediaType, body := upload(all)
		r := into[changeset.Receipt](t, f.call(t, "ada", "POST", path, mediaType, strings.NewReader(body)), http.StatusCreated)
		if r.Accepted != len(texts) {
			t.Errorf("%s: receipt %+v, want %d accepted changes", kind, r, len(texts))
		}
		for i, tt := range texts {
			name := strings.ReplaceAll(tt.name, "%d", fmt.Sprint(i)+kind)
			f.wants(t, name, blocklist.BlockedBy)
			f.wants(t, "www."+name, tt.below)
		}
	}
	r := into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=page", pushapi.TypeCSV, strings.NewReader("url\nhttps://page.example/login\nok.example\n")), http.StatusCreated)
	if r.Accepted != 1 || len(r.Refused) != 1 || r.Refused[0].Line != 2 || !strings.Contains(r.Refused[0].Why, "URL that names a page") {
		t.Errorf("receipt %+v, want line 2 refused as a URL that names a page", r)
	}
}

// TestConcurrentPushesOfOneIDArePublishedOnce checks that a change set which many callers push at the same time is published once, and that every caller gets
// the same receipt.
func TestConcurrentPushesOfOneIDArePublishedOnce(t *testing.T) {
	f := start(t, setting{})
	before := f.journ.State().Version
	const n = 20
	answers := make([]*answer, n)
	var g sync.WaitGroup
	for i := range n {
		g.Go(func() { answers[i] = f.push(t, []string{"ada", "bob"}[i%2], set("same", "same.example")) })
	}
	g.Wait()
	created := 0
	for _, a := range answers {
		if a.status == http.StatusCreated {
			created++
		} else if a.status != http.StatusOK {
			t.Errorf("concurrent push: %s, want status 200 or 201", a)
		}
		var r changeset.Receipt
		if err := json.Unmarshal(a.body, &r); err != nil || r.Version != before+1 || r.State != changeset.Published {
			t.Errorf("concurrent push: %v, %s; want the receipt of version %d", err, a, before+1)
		}
	}
	if v := f.journ.State().Version; created != 1 || v != before+1 {
		t.Errorf("%d of %d calls published the change set, want 1; version %d after %d", created, n, v, before)
	}
	lines := `{"name":"lines.example"}`
	bulk := func(query string) *answer {
		return f.call(t, "ada", "POST", "/v1/changesets?id=lines"+query, pushapi.TypeNDJSON, strings.NewReader(lines))
	}
	if a := bulk(""); a.status != http.StatusCreated {
		t.Errorf("bulk push: %s, want status 201", a)
	}
	refused(t, bulk("&comment=another"), http.StatusConflict, "id")
}

// TestPendingReceiptsAreSettledAfterCrash checks pushes and an undo of change sets whose receipts a crash left in the state pending, with and without a record
// in the journal.
func TestPendingReceiptsAreSettledAfterCrash(t *testing.T) {
	f := start(t, setting{})
	pending := func(id string, touched time.Time) string {
		t.Helper()
		a := f.push(t, "ada", set(id, id+".example"))
		r := into[changeset.Receipt](t, a, http.StatusCreated)
		data, _, err := f.stream.Bucket(stream.Receipts).Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		var kept map[string]any
		if err := json.Unmarshal(data, &kept); err != nil {
			t.Fatal(err)
		}
		kept["state"], kept["touched"], kept["instance"] = "pending", touched.Unix(), "another"
		delete(kept, "version")
		if data, err = json.Marshal(kept); err != nil {
			t.Fatal(err)
		}
		if _, err := f.stream.Bucket(stream.Receipts).Put(t.Context(), id, data); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(r.Version)
	}
	version := pending("after", time.Now())
	before := f.journ.State().Version
	r := into[changeset.Receipt](t, f.push(t, "ada", set("after", "after.example")), http.StatusOK)
	if fmt.Sprint(r.Version) != version || r.State != changeset.Published || f.journ.State().Version != before {
		t.Errorf("published already: %+v", r)
	}

	// Another control started to publish a change set, and has not published it: just now, and an hour ago.
	for id, want := range map[string]int{"young": http.StatusServiceUnavailable, "old": http.StatusCreated} {
		content := contentOf(t, set(id, id+".example"))
		touched := time.Now()
		if id == "old" {
			touched = touched.Add(-time.Hour)
		}
		data, err := json.Marshal(map[string]any{"id": id, "state": "pending", "by": "ada", "owner": "ada", "content": content, "touched": touched.Unix(), "instance": "another", "time": touched})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.stream.Bucket(stream.Receipts).Create(t.Context(), id, data); err != nil {
			t.Fatal(err)
		}
		before := f.journ.State().Version
		a := f.push(t, "ada", set(id, id+".example"))
		if a.status != want || a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
			t.Errorf("push of %s: %s, want status %d, and Retry-After with 503", id, a, want)
		}
		if v := f.journ.State().Version; v-before != map[bool]uint64{true: 1}[want == http.StatusCreated] {
			t.Errorf("%s: version %d after %d", id, v, before)
		}
	}
	// The change set is in the journal while the state of its receipt is pending.
	body := signed(t, &journal.ChangeSet{ID: "hand"}, []journal.Change{{Do: journal.Block, Name: "hand.example"}}, f.author)
	data, _ := json.Marshal(map[string]any{"id": "hand", "state": "pending", "by": "ada", "owner": "ada", "content": "?", "instance": "another", "time": time.Now()})
	if _, err := f.stream.Bucket(stream.Receipts).Create(t.Context(), "hand", data); err != nil {
		t.Fatal(err)
	}
	if _, err := f.journ.Publish(t.Context(), publish.Draft{Kind: journal.RecordChanges, By: "ada", Body: body}); err != nil {
		t.Fatal(err)
	}
	if u := f.post(t, "ada", "/v1/changesets/hand/undo"); u.status != http.StatusCreated {
		t.Errorf("undo: %s, want status 201", u)
	}
	f.wants(t, "hand.example", blocklist.Pass)
}

// contentOf returns the hash by which control recognizes that a document is pushed again.
func contentOf(t testing.TB, s pushapi.ChangeSet) string {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %v %d\n", pushapi.TypeJSON, "", 0.0, 0)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// TestOnlyValidSignaturesArePublished checks that only change sets with valid signatures of authors are published.
func TestOnlyValidSignaturesArePublished(t *testing.T) {
	f := start(t, setting{})
	push := func(body []byte) *answer {
		return f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(body))
	}
	one := []journal.Change{{Do: journal.Block, Name: "signed.example"}}
	before := f.journ.State().Version
	good := signed(t, &journal.ChangeSet{ID: "good"}, one, f.author)
	payload := good[bytes.Index(good, []byte("\n\n"))+2:]
	unknown := signed(t, &journal.ChangeSet{ID: "good"}, one, f.unknown)
	forged := append(bytes.Clone(unknown[:bytes.Index(unknown, []byte("\n\n"))+2]), payload...)
	renamed := bytes.Replace(unknown, []byte(f.unknown.ID()), []byte(f.author.ID()), 1)
	for what, c := range map[string]struct {
		body   []byte
		status int
	}{
		"signed by an unknown key":             {unknown, 403},
		"forged signature":                     {forged, 403},
		"signed in the name of another author": {renamed, 403},
		"signed by control":                    {signed(t, &journal.ChangeSet{ID: "good"}, one, f.control), 403},
		"signed only by an approver":           {signed(t, &journal.ChangeSet{ID: "good"}, one, f.approver), 403},
		"signed by the key of lists":           {signed(t, &journal.ChangeSet{ID: "good"}, one, f.feeds), 403},
		"no signature":                         {signing.Seal(signing.KindChanges, payload), 422},
		"envelope of another kind":             {signing.Seal(signing.KindOrder, payload, f.author), 422},
		"changed after signing":                {bytes.Replace(good, []byte("signed.example"), []byte("other1.example"), 1), 403},
		"change appended after signing":        {append(bytes.Clone(good), `{"do":"block","name":"more.example"}`+"\n"...), 403},
		"cut short":                            {good[:len(good)-1], 400},
		"envelope without a signature line":    {[]byte("rempart/1 changes\nx"), 400},
		"empty body":                           {nil, 400},
		"expired":                              {signed(t, &journal.ChangeSet{ID: "good", Time: time.Now().Unix() - 100, Expires: time.Now().Unix() - 10}, one, f.author), 422},
		"too old":                              {signed(t, &journal.ChangeSet{ID: "good", Time: time.Now().Add(-8 * 24 * time.Hour).Unix()}, one, f.author), 422},
		"dated in the future":                  {signed(t, &journal.ChangeSet{ID: "good", Time: time.Now().Add(time.Hour).Unix()}, one, f.author), 422},
		"change with a source":                 {signed(t, &journal.ChangeSet{ID: "good"}, []journal.Change{{Do: journal.Block, Name: "x.example", Source: "a list"}}, f.author), 400},
		"change set with list sources":         {signed(t, &journal.ChangeSet{ID: "good", Sources: []journal.ListSource{{Name: "operator", Weight: 5}}}, one, f.author), 422},
		"ID of an undo":                        {signed(t, &journal.ChangeSet{ID: "undo-x"}, one, f.author), 422},
		"unknown field":                        {signing.Seal(signing.KindChanges, []byte(`{"id":"x","time":`+fmt.Sprint(time.Now().Unix())+"}\n"+`{"do":"block","name":"x.example","colour":"red"}`+"\n"), f.author), 400},
		"no change":                            {signed(t, &journal.ChangeSet{ID: "good"}, nil, f.author), 422},
	} {
		a := push(c.body)
		if a.status != c.status {
			t.Errorf("%s: %s, want status %d", what, a, c.status)
		} else {
			refused(t, a, c.status, "")
		}
	}
	if v := f.journ.State().Version; v != before {
		t.Fatalf("an invalid change set was published: version %d after %d", v, before)
	}
	r := into[changeset.Receipt](t, push(good), http.StatusCreated)
	if !slices.Equal(r.Authors, []string{f.author.ID()}) {
		t.Errorf("receipt %+v, want %s as the only author", r, f.author.ID())
	}
	f.wants(t, "signed.example", blocklist.BlockedBy)
	if again := into[changeset.Receipt](t, push(good), http.StatusOK); again.Version != r.Version {
		t.Errorf("replayed: %+v", again)
	}
	mixed := signed(t, &journal.ChangeSet{ID: "mixed"}, []journal.Change{
		{Do: journal.Block, Name: "UPPER.example"}, {Do: journal.Block, Name: "fine.example"}, {Do: journal.Block, Name: "co.uk"},
	}, f.author)
	r = into[changeset.Receipt](t, push(mixed), http.StatusCreated)
	if r.Accepted != 1 || r.Refusals != 2 || r.Refused[0].Line != 1 || r.Refused[0].Guard != "name" || r.Refused[1].Guard != "public-suffix" {
		t.Errorf("receipt %+v, want one accepted change, and two refused by the guards name and public-suffix", r)
	}
	f.wants(t, "fine.example", blocklist.BlockedBy)
	f.wants(t, "upper.example", blocklist.Pass)
	f.wants(t, "x.co.uk", blocklist.Pass)
}

// TestDryRunChangesNothing checks that a dry run returns a receipt and changes nothing.
func TestDryRunChangesNothing(t *testing.T) {
	f := start(t, setting{})
	before := f.journ.State()
	s := set("dry", "dry.example", "gouv.fr", "google.com")
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	r := into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?dry_run=true", pushapi.TypeJSON, bytes.NewReader(data)), http.StatusOK)
	if r.State != changeset.DryRun || r.Accepted+r.Refusals != 3 || r.Refusals == 0 || r.Version != 0 {
		t.Errorf("receipt %+v, want a dry run of 3 changes without a version", r)
	}
	if st := f.journ.State(); st.Version != before.Version || st.Hash != before.Hash {
		t.Errorf("version %d after %d", st.Version, before.Version)
	}
	refused(t, f.get(t, "ada", "/v1/changesets/dry"), http.StatusNotFound, "path.id")
	for _, b := range []string{stream.Receipts, stream.Holds} {
		err := f.stream.Bucket(b).Each(t.Context(), func(key string, _ []byte) error { return fmt.Errorf("%s holds %s", b, key) })
		if err != nil {
			t.Error(err)
		}
	}
	if objects, err := f.stream.Objects(t.Context()); err != nil || slices.ContainsFunc(objects, func(o stream.ObjectInfo) bool { return strings.HasSuffix(o.Name, journal.ChangeSetSuffix) }) {
		t.Errorf("objects %v, %v; want no change set", objects, err)
	}
	f.wants(t, "dry.example", blocklist.Pass)
}
