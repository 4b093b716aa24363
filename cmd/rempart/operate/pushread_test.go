package operate

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rempart/internal/journal"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	scam := map[string]json.RawMessage{"category": json.RawMessage(`"scam"`)}
	for name, tt := range map[string]struct {
		formatName, in string
		defaults       map[string]json.RawMessage
		want           string // lines that are sent
		err            string
	}{
		"plain":                               {"", "# names\r\nA.example\r\n\r\n b.example # why\nlast.example", nil, "\n{\"name\":\"A.example\"}\n\n{\"name\":\"b.example\"}\n{\"name\":\"last.example\"}\n", ""},
		"plain with defaults":                 {"", "a.example", scam, `{"category":"scam","name":"a.example"}` + "\n", ""},
		"byte order mark":                     {"", "\ufeffa.example\n", nil, "{\"name\":\"a.example\"}\n", ""},
		"quoted characters":                   {"", "a\"\\\x01.example\n", nil, `{"name":"a\"\\\u0001.example"}` + "\n", ""},
		"NDJSON is not changed":               {"", "{\"name\":\"a.example\", \"x\":1}\n\n{oops\n", nil, "{\"name\":\"a.example\", \"x\":1}\n\n{oops\n", ""},
		"NDJSON with defaults":                {"", `{"name":"a.example"}` + "\n" + `{"Category":"phishing","name":"b.example"}` + "\n" + `{"category":null,"name":"c.example"}` + "\n{oops", scam, `{"category":"scam","name":"a.example"}` + "\n" + `{"Category":"phishing","name":"b.example"}` + "\n" + `{"category":"scam","name":"c.example"}` + "\n{oops\n", ""},
		"CSV":                                 {"", "Name,countries,reason\na.example,FR DE,\n", nil, "\n" + `{"countries":["FR","DE"],"name":"a.example"}` + "\n", ""},
		"CSV of several lines":                {"", "name;reason\n\na.example;\"one\ntwo\nthree\"\nb.example;\n", nil, "\n\n" + `{"name":"a.example","reason":"one\ntwo\nthree"}` + "\n\n\n" + `{"name":"b.example"}` + "\n", ""},
		"CSV of one column":                   {"", "name\na.example\n", nil, "\n{\"name\":\"a.example\"}\n", ""},
		"CSV with tabs":                       {"", "category\tname\nscam\ta.example\n", nil, "\n" + `{"category":"scam","name":"a.example"}` + "\n", ""},
		"hosts file is not CSV":               {"", "0.0.0.0\ta.example\n", nil, "{\"name\":\"0.0.0.0\\ta.example\"}\n", ""},
		"another column":                      {"", "name,colour\na.example,red\n", nil, "\n{\"name\":\"a.example\"}\n", ""},
		"columns in French":                   {"", "domaine;motif\na.example;hameçonnage\n", nil, "\n" + `{"name":"a.example","reason":"hameçonnage"}` + "\n", ""},
		"categories in French":                {"", "FQDN,Categorie\na.example,phishing\nb.example,Hameçonnage\nc.example,\nd.example,jeux\n", scam, "\n" + `{"category":"phishing","name":"a.example"}` + "\n" + `{"category":"phishing","name":"b.example"}` + "\n" + `{"category":"scam","name":"c.example"}` + "\n" + `{"category":"jeux","name":"d.example"}` + "\n", ""},
		"exact title overrides similar ones":  {"", "name,Kategorie,category,Motif,reason\na.example,malware,SCAM,x,y\n", nil, "\n" + `{"category":"scam","name":"a.example","reason":"y"}` + "\n", ""},
		"a category twice":                    {"", "name,category,Category\n", nil, "", "two columns hold the field category"},
		"threats and labels":                  {"", "domain,tags,label\na.example,\"phishing, bank\",1\nb.example,case 7,\nc.example,,benign\n", scam, "\n" + `{"category":"phishing","name":"a.example"}` + "\n" + `{"category":"scam","name":"b.example"}` + "\n" + `{"category":"benign","name":"c.example"}` + "\n", ""},
		"a benign name, allowed":              {"", "do,domain,label\nallow,a.example,benign\n", nil, "\n" + `{"do":"allow","name":"a.example"}` + "\n", ""},
		"NDJSON with keys of lists":           {"", `{"domain":"a.example"}` + "\n" + `{"url":"https://b.example/","Catégorie":"hameçonnage","motif":"x"}` + "\n" + `{"host":"c.example","category":"phishing"}` + "\n", nil, `{"name":"a.example"}` + "\n" + `{"category":"phishing","name":"https://b.example/","reason":"x"}` + "\n" + `{"category":"phishing","name":"c.example"}` + "\n", ""},
		"NDJSON, with defaults":               {"", `{"domain":"a.example"}` + "\n", scam, `{"category":"scam","name":"a.example"}` + "\n", ""},
		"NDJSON of two names":                 {"", `{"domain":"a.example","url":"https://b.example/"}` + "\n", nil, `{"domain":"a.example","url":"https://b.example/"}` + "\n", ""},
		"address column before the names":     {"", "ip,domain\n192.0.2.1,a.example\n", nil, "\n{\"name\":\"a.example\"}\n", ""},
		"column with the indicator's type":    {"", "ioc,type\na.example,domain\n", nil, "\n{\"name\":\"a.example\"}\n", ""},
		"date column before the names":        {"", "first_seen,url\n2026-01-01,https://a.example/\n", nil, "\n{\"name\":\"https://a.example/\"}\n", ""},
		"no column of names":                  {"", "ip,colour\n192.0.2.1,red\n", nil, "", `no column is called "name"`},
		"lines that end with CR":              {"", "a.example\r\rb.example\r", nil, "{\"name\":\"a.example\"}\n\n{\"name\":\"b.example\"}\n", ""},
		"a table with CR":                     {"", "domain,reason\ra.example,x\r", nil, "\n" + `{"name":"a.example","reason":"x"}` + "\n", ""},
		"column titles of lists":              {"", "Domain;Reason\na.example;x\n", nil, "\n" + `{"name":"a.example","reason":"x"}` + "\n", ""},
		"single column with a title of lists": {"", "url\nhxxps://a[.]example/\n", nil, "\n" + `{"name":"hxxps://a[.]example/"}` + "\n", ""},
		"UTF-16":                              {"", "\xff\xfea\x00.\x00e\x00x\x00\r\x00\n\x00", nil, `{"name":"a.ex"}` + "\n", ""},
		"comments without a space":            {"", "a.example#why\n*.b.example # why\nhttps://c.example/#d\n", nil, `{"name":"a.example"}` + "\n" + `{"name":"*.b.example"}` + "\n" + `{"name":"https://c.example/#d"}` + "\n", ""},
		"a column twice":                      {"", "name,name\n", nil, "", "two columns hold the field name"},
		"two columns of names":                {"", "domain,url\n", nil, "", "two columns hold the field name"},
		"no name":                             {"", "category,reason\n", nil, "", `no column is called "name"`},
		"a row too short":                     {"", "name,reason\na.example,x\nb.example\n", nil, "", "line 3: the number of columns differs"},
		"a quote that never ends":             {"", "name,reason\na.example,\"" + strings.Repeat("x\n", 4*journal.MaxLine) + "\n", nil, "", "a quote that is not closed"},
		"a line too long":                     {"", "a.example\n" + strings.Repeat("x", journal.MaxLine+1) + "\n", nil, "", "line 2: the line is longer than 8192 bytes"},
		"a change too long":                   {"", strings.Repeat("x", journal.MaxLine-1) + "\n", scam, "", "line 1: the change is longer than 8192 bytes"},
		"empty input":                         {"", "", nil, "", "no change found"},
		"only comments":                       {"", "# a\n\n# b", nil, "", "no change found"},
		"unknown format":                      {"xml", "a.example\n", nil, "", "the formats are plain, ndjson and csv"},
		"explicit format":                     {formatPlain, "name\n", nil, "{\"name\":\"name\"}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			_, err := normalize(&out, strings.NewReader(tt.in), tt.formatName, tt.defaults, func(string) {})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzNormalise searches for input after which a change is not on the line where it began, or is longer than control accepts.
func FuzzNormalise(f *testing.F) {
	for _, seed := range []string{"a.example\nb.example", "name,reason\na,\"b\nc\"\n", `{"name":"a"}`, "name;do\n#\na;\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		var out strings.Builder
		n, err := normalize(&out, strings.NewReader(in), "", map[string]json.RawMessage{"category": json.RawMessage(`"scam"`)}, func(string) {})
		if err != nil {
			return
		}
		changes := 0
		for line := range strings.Lines(out.String()) {
			if len(line) > journal.MaxLine+1 {
				t.Errorf("a line of %d bytes", len(line))
			}
			if strings.TrimSpace(line) != "" {
				changes++
			}
		}
		if changes != n || strings.Count(out.String(), "\n") > strings.Count(in, "\n")+strings.Count(in, "\r")+1 {
			t.Errorf("%d changes, want %d, in %q", changes, n, out.String())
		}
	})
}

func TestPushFlags(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 8, 0, 0, 5, time.UTC)
	f := pushFlags{valid: "30d", share: "5%", shareTime: "30m"}
	f.change.Countries = []string{"FR"}
	head, err := f.read(now)
	if err != nil {
		t.Fatal(err)
	}
	set, defaults := head.set, head.defaults
	if set.Stage == nil || set.Stage.Share != 0.05 || set.Stage.Seconds != 1800 || !strings.HasPrefix(set.ID, "cs-20261122-") {
		t.Errorf("change set %+v, want a stage of 5 %% for 30 minutes and an ID with the date", set)
	}
	got := fmt.Sprintf("%s", defaults)
	if want := `map[countries:["FR"] expiry:"2026-12-22T08:00:00Z"]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for what, f := range map[string]pushFlags{
		"one of them":       {expiry: "2027-01-01", valid: "1h"},
		"--expiry":          {expiry: "2026-01-01", start: "2026-02-01"},
		"--do":              {do: "destroy"},
		"--stage-for":       {share: "0.5", shareTime: "never"},
		"a share":           {share: "0", shareTime: "1h"},
		"--start yesterday": {start: "yesterday"},
		"--for 1ns":         {valid: "1ns"},
	} {
		if _, err := f.read(now); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("reading the flags: error %v, want one that contains %q", err, what)
		}
	}
}

// BenchmarkNormalise reads a plain list with defaults.
func BenchmarkNormalise(b *testing.B) {
	var list strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&list, "name-%d.example\n", i)
	}
	defaults := map[string]json.RawMessage{"category": json.RawMessage(`"scam"`), "reason": json.RawMessage(`"seen"`)}
	b.SetBytes(int64(list.Len()))
	for b.Loop() {
		if _, err := normalize(io.Discard, strings.NewReader(list.String()), "", defaults, func(string) {}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestIgnoredColumnsAreReported(t *testing.T) {
	t.Parallel()
	var noted []string
	in := strings.NewReader("Expriy;domain;Colour\n2027-01-01;a.example;red\n")
	if _, err := normalize(io.Discard, in, "", nil, func(column string) { noted = append(noted, column) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Expriy", "Colour"}, noted); diff != "" {
		t.Error(diff)
	}
}
