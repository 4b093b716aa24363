package format

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"rempart/blocklist/feed/fetch/fetchtest"

	"github.com/google/go-cmp/cmp"
)

func TestJSON(t *testing.T) {
	tests := []struct {
		name   string
		format Format
		list   string
		want   []string
	}{
		{
			"PhishTank", Auto,
			`[{"phish_id":1,"url":"http:\/\/a.example\/","phish_detail_url":"http:\/\/p.example\/1","submission_time":"2024-03-22T20:40:23+00:00",
			"verified":"yes","online":"yes","details":[{"ip_address":"192.0.2.1","domain":"no.example"}],"target":"Other"},
			{"phish_id":2,"url":"http://b.example/x","verified":"yes"},{"phish_id":3,"url":"http://c.example/","verified":"no"}]`,
			[]string{"1 =a.example phishing since 2024-03-22", "2 !url-path", "3 !not-to-block"},
		},
		{
			"CERT.PL", Auto,
			`[{"RegisterPositionId":1,"DomainAddress":"a.example","InsertDate":"2020-03-21T13:37:00","DeleteDate":null},
			{"RegisterPositionId":2,"DomainAddress":"b.example","InsertDate":"2020-03-21T13:37:00","DeleteDate":"2020-04-01T08:00:00"}]`,
			[]string{"1 a.example since 2020-03-21", "2 b.example since 2020-03-21 expiry 2020-04-01T08:00:00"},
		},
		{
			"polkadot", Auto, `{"allow":["*.wide.example","good.example"],"deny":["a.example","b.example."],"denySub":["x.example/y"]}`,
			[]string{"1 !inexact-exception", "2 @=good.example", "3 a.example", "4 b.example", "5 !url-path"},
		},
		{"array of strings", Auto, `["a.example","http://b.example/","discörd.com",7,null]`, []string{"1 a.example", "2 =b.example", "3 xn--discrd-zxa.com"}},
		{"objects under an unknown key", Auto, `{"123":[{"dateadded":"2026-01-02 00:00:00 UTC","url":"http://a.example/","threat":"malware_download"}]}`,
			[]string{"1 =a.example malware since 2026-01-02"}},
		{"strings under an unknown key", Auto, `{"list":["good.example"],"domains":["a.example"]}`, []string{"1 !unknown-form", "2 a.example"}},
		{"hosts and categories as keys", Auto, `{"hosts":["a.example"],"phishing":["b.example"],"urls":["c.example","d.example/x"]}`,
			[]string{"1 =a.example", "2 b.example phishing", "3 =c.example", "4 !url-path"}},
		{"NDJSON", Auto, "{\"domain\":\"a.example\",\"tags\":[\"phishing\"],\"seen\":{\"by\":[\"no.example\"]}}\n{\"domain\":\"b.example\"}\n\n{\"x\":1}\n",
			[]string{"1 !unknown-form", "2 a.example phishing", "3 b.example", "4 !unknown-form"}},
		{"nested names of an entry are ignored", Auto, `[{"domain":"a.example","related":["no.example"],"ref":{"url":"http://no.example/"},"references":[{"url":"http://no.example/"}]}]`,
			[]string{"1 a.example"}},
		{
			"OTX", Auto,
			`[{"name":"Some Pulse","tags":["x"],"indicators":[{"indicator":"a.example","type":"domain","created":"2015-09-02T09:21:53.093"},
			{"indicator":"b.example","type":"hostname"},{"indicator":"http://c.example/","type":"URL"},{"indicator":"d.example","type":"FileHash-MD5"}]}]`,
			[]string{"1 a.example since 2015-09-02", "2 =b.example", "3 =c.example", "4 !other-indicator"},
		},
		{"rows of cells", Auto, `{"data":[["a.example","b.example"]]}`, []string{"1 !unknown-form", "error: not a list of names: of 1 entries none lists a name, most are refused as unknown-form"}},
		{"empty documents", Auto, `[] {"domains":[]} {} {"more":false}`, nil},
		{"MISP format with plain JSON", MISP, `[{"domain":"a.example"},"b.example"]`, []string{"1 !unknown-form", "2 !unknown-form",
			"error: not a list of names: of 2 entries none lists a name, most are refused as unknown-form"}},
		{
			"MISP", Auto,
			`{"Event":{"info":"x","Tag":[{"name":"tlp:white"}],"RelatedEvent":[{"Event":{"Attribute":[{"type":"domain","value":"no.example","to_ids":true}]}}],
			"Attribute":[{"type":"domain","value":"a.example","to_ids":true,"timestamp":"1513893921","Tag":[{"name":"malware:phishing-kit"}]},
			{"type":"domain","value":"b.example","to_ids":false},{"type":"domain","value":"c.example"},
			{"type":"domain|ip","value":"d.example|192.0.2.1","to_ids":true,"first_seen":"2020-01-02T00:00:00.000000+00:00","timestamp":"1513893921"},
			{"type":"hostname|port","value":"e.example|80","to_ids":true},{"type":"uri","value":"http://f.example/","to_ids":true},
			{"type":"filename","value":"g.example","to_ids":true},{"type":"ip-dst","value":"192.0.2.1","to_ids":true},
			{"type":"domain","value":"h.example","to_ids":true,"deleted":true}],
			"Galaxy":[{"name":"no.example"}],
			"Object":[{"name":"domain-ip","Attribute":[{"type":"hostname","value":"i.example","to_ids":true,"category":"Payload delivery"}],
			"ObjectReference":[{"Object":{"Attribute":[{"type":"domain","value":"no.example","to_ids":true}]}}]},{"name":"no.example"}]}}
			{"response":[{"Event":{"Attribute":[{"type":"url","value":"http://j.example/x","to_ids":true}]}}]}`,
			[]string{"1 a.example since 2017-12-21", "2 !not-to-block", "3 !not-to-block", "4 d.example since 2020-01-02", "5 =e.example", "6 =f.example",
				"7 !other-indicator", "8 !address", "9 !not-to-block", "10 =i.example malware", "11 !not-to-block", "12 !url-path"},
		},
		{
			"STIX", Auto,
			`{"type":"bundle","id":"bundle--1","objects":[
			{"type":"indicator","id":"indicator--1","created":"2024-01-26T21:28:21.013Z","valid_from":"2024-01-26T21:28:21.013Z","pattern":"[domain-name:value='a.example']","indicator_types":["malicious-activity"]},
			{"type":"indicator","id":"indicator--2","created":"2024-01-26T21:28:21Z","valid_from":"2030-01-01T00:00:00Z","valid_until":"2031-01-01T00:00:00Z","pattern":"[domain-name:value IN ('b.example','c.example')]","labels":["phishing"]},
			{"type":"indicator","id":"indicator--3","revoked":true,"pattern":"[domain-name:value='d.example']"},
			{"type":"indicator","id":"indicator--4","pattern_type":"snort","pattern":"alert"},
			{"type":"indicator","id":"indicator--5","indicator_types":["benign"],"pattern":"[domain-name:value='e.example']"},
			{"type":"indicator","id":"indicator--6"},
			{"type":"domain-name","id":"domain-name--7","value":"seen.example"},
			{"type":"observed-data","id":"observed-data--8","objects":{"0":{"type":"domain-name","value":"seen.example"}}},
			{"type":"malware","id":"malware--9","name":"no.example","external_references":[{"url":"http://no.example/"}]},
			{"type":"indicator","id":"indicator--10","pattern":"[url:value='http://f.example/' OR url:value='http://f.example/x'] OR [ipv4-addr:value='192.0.2.1']"}]}`,
			[]string{"1 a.example since 2024-01-26", "2 b.example phishing since 2024-01-26 start 2030-01-01 expiry 2031-01-01",
				"2 c.example phishing since 2024-01-26 start 2030-01-01 expiry 2031-01-01", "3 !not-to-block", "4 !pattern", "5 !not-to-block", "6 !pattern",
				"10 =f.example", "10 !url-path", "10 !pattern"},
		},
		{"TAXII, in pages", TAXII, `{"more":true,"next":"2","objects":[{"type":"indicator","id":"indicator--1","pattern":"[domain-name:value='a.example']"}]}
			{"more":false,"objects":[{"id":"indicator--2","pattern":"[domain-name:value='b.example']","type":"indicator"}]}{}`, []string{"1 a.example", "2 b.example"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, readFull(t, Options{Format: tt.format}, tt.list)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// repeat returns a reader of n copies of s, which are not all in memory.
func repeat(s string, n int64) io.Reader { return io.LimitReader(&repeating{s: s}, n*int64(len(s))) }

type repeating struct {
	s string
	i int
}

func (r *repeating) Read(p []byte) (int, error) {
	for n := range p {
		p[n] = r.s[r.i]
		r.i = (r.i + 1) % len(r.s)
	}
	return len(p), nil
}

func TestHostileJSON(t *testing.T) {
	notUnderRace(t)
	between := func(before string, middle io.Reader, after string) io.Reader {
		return io.MultiReader(strings.NewReader(before), middle, strings.NewReader(after))
	}
	for name, r := range map[string]io.Reader{
		"document cut short":             strings.NewReader(`{"domains":["a.example","b.example"`),
		"cut short within a key":         strings.NewReader(`{"domains":["a.example"],"x`),
		"two documents with a comma":     strings.NewReader(`["a.example"],["b.example"]`),
		"no comma":                       strings.NewReader(`["a.example" "b.example"]`),
		"deeply nested arrays":           between("", repeat("[", 1<<20), ""),
		"deeply nested objects":          between("", repeat(`{"a":`, 1<<20), ""),
		"deeply nested arrays in a list": between(`["a.example",`, repeat("[[", 64), ""),
		"long number":                    between("[", repeat("1", 1<<20), "]"),
		"error object":                   strings.NewReader(`{"error":"no such list","code":404}`),
		"read error":                     between(`["a.example",`, iotest.ErrReader(errors.New("broken")), ""),
	} {
		if _, err := Parse(r, Options{Format: JSON}, &transcript{t: t}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// Long values are skipped and need little memory.
	for name, r := range map[string]io.Reader{
		"text":    between(`["a.example",{"data":"`, repeat(`\u0041\"x`, 1<<22), `"},"b.example"]`),
		"blanks":  between(`["a.example",`, repeat(" \n", 1<<24), `"b.example"]`),
		"strings": between(`["a.example",{"tags":["x"`, repeat(`,"x"`, 1<<20), `]},"b.example"]`),
	} {
		s := &transcript{t: t}
		if _, err := Parse(r, Options{}, s); err != nil {
			t.Errorf("%s: Parse: %v", name, err)
		}
		if got := strings.Join(s.lines, " "); !strings.HasPrefix(got, "a.example") || !strings.HasSuffix(got, "b.example") {
			t.Errorf("%s: listings %q, want a.example first and b.example last", name, got)
		}
	}
}

// TestJSONErrorObjectListsNoName checks that a JSON document that reports an error lists no name, even if it contains a URL.
func TestJSONErrorObjectListsNoName(t *testing.T) {
	for _, body := range fetchtest.ErrorObjects() {
		if got := strings.Join(read(t, body), " "); strings.Contains(got, "example") {
			t.Errorf("%s lists %s", body, got)
		}
	}
	for body, want := range map[string]string{
		`{"url":"https://evil.example/"}`:                                 "=evil.example",
		`{"error":null,"data":[{"domain":"evil.example"}]}`:               "evil.example",
		`{"allow":["*.ok.example","a*.example"],"deny":["evil.example"]}`: "!inexact-exception !inexact-exception evil.example",
		`{"error":false,"domain":"evil.example"}`:                         "evil.example",
		"{\"url\":\"https://evil.example/\",\"status\":\"online\"}\n{\"url\":\"https://b.example/\",\"status\":\"offline\",\"message\":\"seen\"}": "=evil.example =b.example",
		`[{"url":"https://evil.example/","message":"seen by us"}]`:                                                                                "=evil.example",
	} {
		if got := strings.Join(read(t, body), " "); got != want {
			t.Errorf("%s: got %s, want %s", body, got, want)
		}
	}
}

// notUnderRace skips a slow test that uses only one goroutine, in which the race detector cannot find anything.
func notUnderRace(t *testing.T) {
	if raceEnabled {
		t.Skip("the test uses only one goroutine and is slow under the race detector")
	}
}
