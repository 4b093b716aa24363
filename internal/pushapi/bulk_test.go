package pushapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rempart/blocklist"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/pushapi"
)

// names is a Reader of an upload of n lines. It creates the lines while it is read.
type names struct {
	n, next int
	buf     []byte
	line    func(b []byte, i int) []byte
}

func (r *names) Read(p []byte) (int, error) {
	for len(r.buf) == 0 {
		if r.next == r.n {
			return 0, io.EOF
		}
		for ; r.next < r.n && len(r.buf) < 16<<10; r.next++ {
			r.buf = r.line(r.buf, r.next)
		}
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	return n, nil
}

// peak starts to measure the size of the heap. The returned function stops the measurement and returns the largest size in bytes.
func peak() func() uint64 {
	var most atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	go func() {
		defer close(done)
		for {
			metrics.Read(sample)
			most.Store(max(most.Load(), sample[0].Value.Uint64()))
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); <-done; return most.Load() }
}

// highWater returns the peak memory of the process, if the system reports it.
func highWater() string {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "unknown"
}

// longTests is the environment variable that enables tests of several minutes.
const longTests = "REMPART_LONG_TESTS"

// TestPushOfMillionNames checks a push of a million names in one call, and its undo.
func TestPushOfMillionNames(t *testing.T) {
	n := 1_000_000
	if os.Getenv(longTests) == "" {
		n = 50_000
	}
	f := start(t, setting{})
	most, begun := peak(), time.Now()
	body := &names{n: n, line: func(b []byte, i int) []byte {
		return fmt.Appendf(b, `{"name":"login-%d.phish%d.example","category":"phishing","reason":"reported"}`+"\n", i, i%1000)
	}}
	a := f.call(t, "ada", "POST", "/v1/changesets?id=million", pushapi.TypeNDJSON, body)
	r := into[changeset.Receipt](t, a, http.StatusCreated)
	took := time.Since(begun)
	t.Logf("%d names in force at control after %.1f s; peak heap %d MiB, VmHWM %s", n, took.Seconds(), most()>>20, highWater())
	if r.Accepted != n || r.State != changeset.Published {
		t.Errorf("receipt %+v, want %d accepted changes, published", r, n)
	}
	f.wants(t, "login-0.phish0.example", blocklist.BlockedBy)
	f.wants(t, fmt.Sprintf("login-%d.phish%d.example", n-1, (n-1)%1000), blocklist.BlockedBy)
	if got := f.journ.State().View().Stats().Names; got != n {
		t.Errorf("%d names", got)
	}
	if again := f.call(t, "ada", "POST", "/v1/changesets?id=million", pushapi.TypeNDJSON, &names{n: n, line: body.line}); again.status != http.StatusOK {
		t.Errorf("pushed again: %s", again)
	}
	f.published(t, set("between", "login-7.phish7.example"))
	most, begun = peak(), time.Now()
	u := f.undo(t, "million")
	t.Logf("undone after %.1f s; peak heap %d MiB, VmHWM %s", time.Since(begun).Seconds(), most()>>20, highWater())
	if u.Lefts != 1 || u.Accepted != n-1 {
		t.Errorf("the undo left %d changes and accepted %d, want 1 and all others", u.Lefts, u.Accepted)
	}
	f.wants(t, "login-0.phish0.example", blocklist.Pass)
	f.wants(t, "login-7.phish7.example", blocklist.BlockedBy)
	if got := f.journ.State().View().Stats().Names; got != 1 {
		t.Errorf("%d names", got)
	}
}

// TestUploadMemoryIsBounded checks that memory does not grow with the size of an upload whose changes are all refused.
func TestUploadMemoryIsBounded(t *testing.T) {
	n := 400_000
	if testing.Short() {
		n = 100_000
	}
	f := start(t, setting{})
	runtime.GC()
	now := peak()
	base := now()
	most := peak()
	body := &names{n: n, line: func(b []byte, i int) []byte {
		return fmt.Appendf(b, `{"name":"n%d..example","reason":%q}`+"\n", i, strings.Repeat("x", 200))
	}}
	r := into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=bad", pushapi.TypeNDJSON, body), http.StatusOK)
	if got := most(); r.State != changeset.Refused || r.Refusals != n || len(r.Refused) != 1000 || got > 2*base+64<<20 { // the heap may double before a collection
		t.Errorf("%s, %d refused, %d listed, peak heap %d MiB from %d", r.State, r.Refusals, len(r.Refused), got>>20, base>>20)
	} else {
		t.Logf("%d bad lines, %d MB: peak heap %d MiB from %d", n, n*225/1e6, got>>20, base>>20)
	}
}

// TestMalformedUploadsAreRefused sends uploads that cannot be read: each answer states the mistake and its position.
func TestMalformedUploadsAreRefused(t *testing.T) {
	f := start(t, setting{config: func(c *pushapi.Config) { c.MaxChanges = 100 }})
	before := f.journ.State().Version
	const doc, lines, table = pushapi.TypeJSON, pushapi.TypeNDJSON, pushapi.TypeCSV
	change := func(fields string) string { return `{"changes":[{"name":"x.example",` + fields + `}]}` }
	long := strings.Repeat("x", 9000)
	for what, c := range map[string]struct {
		mediaType, body string
		status          int
		field           string
	}{
		"empty":                          {doc, ``, 400, "body"},
		"no JSON":                        {doc, `{"changes":`, 400, "body"},
		"no object":                      {doc, `[]`, 422, "body"},
		"null":                           {doc, `null`, 422, "body"},
		"two documents":                  {doc, `{"changes":[{"name":"a.example"}]} {}`, 400, "body"},
		"document and a closing bracket": {doc, `{"changes":[{"name":"a.example"}]} ]`, 400, "body"},
		"no changes":                     {doc, `{}`, 422, "body"},
		"empty changes":                  {doc, `{"changes":[]}`, 422, "body.changes"},
		"no name":                        {doc, `{"changes":[{}]}`, 422, "body.changes[0]"},
		"unknown field":                  {doc, change(`"colour":"red"`), 422, "body.changes[0].colour"},
		"unknown action":                 {doc, change(`"do":"explode"`), 422, "body.changes[0].do"},
		"except":                         {doc, change(`"do":"except"`), 422, "body.changes[0].do"},
		"scope":                          {doc, change(`"scope":"all"`), 422, "body.changes[0].scope"},
		"category":                       {doc, change(`"category":"ads"`), 422, "body.changes[0].category"},
		"mark":                           {doc, change(`"mark":"x"`), 422, "body.changes[0].mark"},
		"invalid expiry":                 {doc, change(`"expiry":"tomorrow"`), 422, "body.changes[0].expiry"},
		"reason is a number":             {doc, change(`"reason":7`), 422, "body.changes[0].reason"},
		"long reason":                    {doc, change(`"reason":"` + long + `"`), 422, "body.changes[0].reason"},
		"stage":                          {doc, `{"stage":{"share":2,"seconds":5},"changes":[{"name":"x.example"}]}`, 422, "body.stage.share"},
		"id":                             {doc, `{"id":"a b","changes":[{"name":"x.example"}]}`, 422, "id"},
		"id of dots":                     {doc, `{"id":"..","changes":[{"name":"x.example"}]}`, 422, "id"},
		"deeply nested":                  {doc, strings.Repeat("[", 20_000), 400, "body"},
		"long document":                  {doc, `{"comment":"` + strings.Repeat("x", 4<<20) + `"}`, 413, "body"},
		"too many changes":               {doc, `{"changes":[` + strings.Repeat(`{"name":"x.example"},`, 100) + `{"name":"x.example"}]}`, 413, "body"},
		"no lines":                       {lines, "\n\n", 422, "body"},
		"long line":                      {lines, `{"name":"ok.example"}` + "\n" + `{"name":"` + long + `"}`, 400, "body.line[2]"},
		"too many lines":                 {lines, strings.Repeat(`{"name":"x.example"}`+"\n", 101), 413, "body"},
		"too many bad lines":             {lines, strings.Repeat("?\n", 101), 413, "body"},
		"empty CSV":                      {table, "", 400, "body.line[1]"},
		"unknown column":                 {table, "name,colour\n", 400, "body.line[1]"},
		"column twice":                   {table, "name,name\n", 400, "body.line[1]"},
		"no column name":                 {table, "do\nblock\n", 400, "body.line[1]"},
		"open quote":                     {table, "name,reason\nx.example,\"" + strings.Repeat("y\n", 20_000), 400, "body"},
		"long row":                       {table, "name,reason\nx.example," + strings.Repeat("y", 30_000) + "\n", 400, "body"},
		"bare quote":                     {table, "name\nx\"y\n", 400, "body.line[2]"},
		"no such type":                   {"image/png", "x", 415, "header.Content-Type"},
	} {
		a := f.call(t, "ada", "POST", "/v1/changesets", c.mediaType, strings.NewReader(c.body))
		if a.status != c.status {
			t.Errorf("%s: %.500s, want status %d", what, a, c.status)
			continue
		}
		refused(t, a, c.status, c.field)
		if len(a.body) > 4<<10 {
			t.Errorf("%s: an answer of %d bytes", what, len(a.body))
		}
	}
	for query, field := range map[string]string{
		"?dry_run=perhaps": "query.dry_run", "?stage_share=2&stage_seconds=5": "body", "?id=" + strings.Repeat("x", 101): "query.id", "?id=a%2Fb": "id",
	} {
		refused(t, f.call(t, "ada", "POST", "/v1/changesets"+query, lines, strings.NewReader(`{"name":"x.example"}`)), http.StatusUnprocessableEntity, field)
	}
	if v := f.journ.State().Version; v != before {
		t.Errorf("version %d after %d", v, before)
	}
}

// TestInvalidLinesAreReported checks that each invalid line of an upload is reported, and that the other lines are accepted.
func TestInvalidLinesAreReported(t *testing.T) {
	f := start(t, setting{})
	bad := []struct{ line, field string }{
		{`?`, "line"}, {`{"name":"x.example"} {}`, "line"}, {`{"name":"x.example","colour":1}`, "line"}, {`{"name":"x..example"}`, "name"}, {`{}`, "name"},
		{`{"name":"x.example","do":"explode"}`, "do"}, {`{"name":"x.example","do":"except"}`, "do"}, {`{"name":"x.example","scope":"all"}`, "scope"}, {`{"name":"x.example","category":"ads"}`, "category"},
		{`{"name":"x.example","mark":"x"}`, "mark"}, {`{"name":"x.example","expiry":"2001-01-01T00:00:00Z"}`, "expiry"},
		{`{"name":"x.example","reason":"` + strings.Repeat("x", 1001) + `"}`, "reason"}, {`{"name":"com"}`, "name"}, {`{"name":"co.uk"}`, "public-suffix"}, {`{"name":"gouv.fr"}`, "public-suffix"},
		{`{"name":"co.uk","do":"allow"}`, "public-suffix"}, {`{"name":"10.0.0.1"}`, "name"},
	}
	body := "\ufeff" + `{"name":"good.example"}` + "\r\n"
	for _, b := range bad {
		body += b.line + "\n"
	}
	body += `{"name":"last.example"}`
	r := into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=lines", pushapi.TypeNDJSON, strings.NewReader(body)), http.StatusCreated)
	if r.Accepted != 2 || r.Refusals != len(bad) {
		t.Errorf("%d accepted, %d refused; want 2 accepted and all others refused", r.Accepted, r.Refusals)
	}
	for i, got := range r.Refused {
		if got.Line != i+2 || got.Guard != bad[i].field || got.Why == "" {
			t.Errorf("line %s: refusal %+v, want line %d, field %s and a reason", bad[i].line, got, i+2, bad[i].field)
		}
	}
	f.wants(t, "good.example", blocklist.BlockedBy)
	f.wants(t, "last.example", blocklist.BlockedBy)
	table := "\ufeffName, DO ,reason,start\na.example,block,\"two\nlines, \"\"quoted\"\"\",\nb.example\n,,,\nc.example,,,never\nd.example,block," + strings.Repeat("\x01", 1000) + ",\ne.example,,,2020-01-01T00:00:00Z\n"
	r = into[changeset.Receipt](t, f.call(t, "ada", "POST", "/v1/changesets?id=table", "text/csv; charset=utf-8", strings.NewReader(table)), http.StatusCreated)
	if r.Accepted != 3 || r.Refusals != 3 || r.Refused[0].Line != 4 || r.Refused[1].Line != 5 || r.Refused[2].Guard != "start" {
		t.Errorf("receipt %+v, want 3 accepted and 3 refused lines", r)
	}
	f.wants(t, "e.example", blocklist.BlockedBy)
	wide := "name,reason,authority,decision\nw.example," + strings.Repeat("\x01", 1000) + "," + strings.Repeat("\x01", 200) + "," + strings.Repeat("\x01", 100) + "\n"
	wide += "v.example,,,\n"
	if a := f.call(t, "ada", "POST", "/v1/changesets?id=wide", pushapi.TypeCSV, strings.NewReader(wide)); a.status != http.StatusCreated {
		t.Errorf("push of a wide table: %s, want status 201", a)
	}
	f.wants(t, "v.example", blocklist.BlockedBy)
}

// TestUnfinishedUploadsDoNotDelayOthers checks that unfinished uploads of two persons delay neither small change sets nor the uploads of a third person.
func TestUnfinishedUploadsDoNotDelayOthers(t *testing.T) {
	f := start(t, setting{})
	var dribbling sync.WaitGroup
	stop := make(chan struct{})
	defer func() { close(stop); dribbling.Wait() }()
	slow := func(who string) (end func()) {
		t.Helper()
		c, err := net.Dial("tcp", f.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		dribbling.Go(func() { dribble(c, stop) })
		fmt.Fprintf(c, "POST /v1/changesets?id=slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 1000000\r\n\r\n{", f.secret[who], pushapi.TypeNDJSON)
		return func() { c.Close() }
	}
	for range 4 { // ada and bob: uploads above the limit of a person are refused
		defer slow("ada")()
		defer slow("bob")()
	}
	line := func() io.Reader { return strings.NewReader(`{"name":"quick.example"}`) }
	waitFor(t, "the unfinished uploads to reach the limit", func() bool {
		return f.call(t, "ada", "POST", "/v1/changesets?id=x&dry_run=true", pushapi.TypeNDJSON, line()).status == http.StatusTooManyRequests
	})
	if a := f.call(t, "ada", "POST", "/v1/changesets", pushapi.TypeNDJSON, line()); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("upload above the limit: %s, want status 429 with Retry-After", a)
	}
	for i := range 10 {
		f.published(t, set(fmt.Sprint("small", i), fmt.Sprintf("small%d.example", i)))
	}
	if a := f.call(t, "sam", "POST", "/v1/changesets?id=other", pushapi.TypeNDJSON, line()); a.status != http.StatusCreated {
		t.Errorf("upload by another person: %s, want status 201", a)
	}
	if a := f.call(t, "ada", "POST", "/v1/changesets?id=x&dry_run=true", pushapi.TypeNDJSON, line()); a.status != http.StatusTooManyRequests {
		t.Errorf("ada's unfinished uploads ended before the other calls did: %s", a)
	}
}

// dribble sends one byte every five seconds, for at most two minutes.
func dribble(c net.Conn, stop <-chan struct{}) {
	for range 24 {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Second):
			_, _ = c.Write([]byte(" "))
		}
	}
}

// TestUnfinishedDocumentsAreBounded checks that one person can send only a limited number of unfinished documents, because control holds them in memory, and
// that pushes of other persons succeed meanwhile.
func TestUnfinishedDocumentsAreBounded(t *testing.T) {
	f := start(t, setting{})
	for range 20 {
		c, err := net.Dial("tcp", f.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "POST /v1/changesets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{", f.secret["ada"])
	}
	waitFor(t, "the limit of documents", func() bool { return f.push(t, "ada", set("", "ada.example")).status == http.StatusTooManyRequests })
	if a := f.push(t, "bob", set("", "bob.example")); a.status != http.StatusCreated {
		t.Errorf("push by another person: %s, want status 201", a)
	}
}

// TestStalledUploadIsEnded checks that the server ends an upload that sends no more data within two minutes.
func TestStalledUploadIsEnded(t *testing.T) {
	if testing.Short() {
		t.Skip("this test takes half a minute")
	}
	t.Parallel()
	f := start(t, setting{})
	for what, request := range map[string]string{
		"lines":    "POST /v1/changesets?id=stall HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + f.secret["ada"] + "\r\nContent-Type: " + pushapi.TypeNDJSON + "\r\nContent-Length: 1000\r\n\r\n{\"name\":",
		"nobody's": "POST /v1/changesets?id=stall HTTP/1.1\r\nHost: x\r\nContent-Type: " + pushapi.TypeNDJSON + "\r\nContent-Length: 1000\r\n\r\n{",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", f.srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, request)
			begun := time.Now()
			_ = c.SetReadDeadline(begun.Add(2 * time.Minute))
			answer, err := io.ReadAll(c)
			if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) {
				t.Errorf("after %v: %v %s", time.Since(begun), err, answer)
			}
			if took := time.Since(begun); what == "nobody's" && took > 20*time.Second {
				t.Errorf("an upload without a token was refused after %v, want at most 20 s", took)
			}
			t.Logf("ended after %.0f s: %.20s", time.Since(begun).Seconds(), answer)
		})
	}
}

// TestLargeChangeSetCannotBeScopedOrStaged checks that a large change set can be neither scoped nor staged.
func TestLargeChangeSetCannotBeScopedOrStaged(t *testing.T) {
	f := start(t, setting{})
	upload := func(extra string) io.Reader {
		return &names{n: journal.MaxChanges + 1, line: func(b []byte, i int) []byte { return fmt.Appendf(b, `{"name":"n%d.example"%s}`+"\n", i, extra) }}
	}
	refused(t, f.call(t, "ada", "POST", "/v1/changesets?id=a", pushapi.TypeNDJSON, upload(`,"countries":["FR"]`)), http.StatusUnprocessableEntity, "body")
	refused(t, f.call(t, "ada", "POST", "/v1/changesets?id=b&stage_share=0.5&stage_seconds=5", pushapi.TypeNDJSON, upload("")), http.StatusUnprocessableEntity, "body")
	f.wants(t, "n1.example", blocklist.Pass)
}

// TestLargeSignedChangeSet checks a large signed change set with two refused changes: the log contains the refused changes, and an undo ignores them.
func TestLargeSignedChangeSet(t *testing.T) {
	f := start(t, setting{})
	f.published(t, set("before", "n3.example"))
	changes := []journal.Change{{Do: journal.Block, Name: "co.uk"}, {Do: journal.Block, Name: "N3.example"}}
	for i := range journal.MaxChanges + 10 {
		changes = append(changes, journal.Change{Do: journal.Block, Name: fmt.Sprintf("n%d.example", i)})
	}
	body := signed(t, &journal.ChangeSet{ID: "large"}, changes, f.author)
	r := into[changeset.Receipt](t, f.call(t, "bob", "POST", "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(body)), http.StatusCreated)
	if r.Accepted != journal.MaxChanges+10 || r.Refusals != 2 || r.Refused[0].Line != 1 || r.Refused[1].Line != 2 {
		t.Errorf("receipt %+v, want the changes of lines 1 and 2 refused and all others accepted", r)
	}
	f.wants(t, "n5009.example", blocklist.BlockedBy)
	for name, want := range map[string]bool{"co.uk": false, "n4.example": true} {
		log := into[struct{ Log []pushapi.LogEntry }](t, f.get(t, "joe", "/v1/names/"+name+"/log"), http.StatusOK)
		if len(log.Log) != 1 || log.Log[0].Applied != want {
			t.Errorf("log of %s: %+v, want one entry with applied %v", name, log.Log, want)
		}
	}
	if u := f.undo(t, "large"); u.Accepted != r.Accepted+1 || u.Lefts != 0 { // n3.example is blocked again by the change set "before"
		t.Errorf("undo: %+v, want %d changes and none left", u, r.Accepted+1)
	}
	f.wants(t, "n4.example", blocklist.Pass)
	f.wants(t, "n3.example", blocklist.BlockedBy)
	forged := bytes.Replace(body, []byte("n77.example"), []byte("n7x.example"), 1)
	refused(t, f.call(t, "bob", "POST", "/v1/changesets", pushapi.TypeSigned, bytes.NewReader(forged)), http.StatusForbidden, "body")
}
