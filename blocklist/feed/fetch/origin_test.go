package fetch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/google/go-cmp/cmp"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
)

func TestOriginCheck(t *testing.T) {
	const secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
	for _, tt := range []struct {
		origin Origin
		want   string // in the error; "" for none
	}{
		{Origin{URL: "https://lists.example/a?token=SECRET"}, ""},
		{Origin{URL: "http://user:SECRET@lists.example/a", Format: "HOSTS"}, ""},
		{Origin{URL: "https://lists.example/a", Format: "lines"}, "not known"},
		{Origin{URL: "ftp://lists.example/SECRET"}, "neither http"},
		{Origin{URL: "https:///SECRET"}, "not a URL"},
		{Origin{URL: "https://SECRET%zz/"}, "not a URL"},
		{Origin{URL: "https://lists.example/a", TSIG: "k:" + secret}, "zone transfers"},
		{Origin{URL: "axfr://192.0.2.1/rpz.example"}, ""},
		{Origin{URL: "axfr://192.0.2.1/rpz", Format: format.RPZ}, ""},
		{Origin{URL: "axfr://[2001:db8::1]:5353/RPZ.example.", TSIG: "k:" + secret}, ""},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "hmac-sha512:key.example:" + secret}, ""},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "HMAC-SHA384.:key.example.:" + secret}, ""},
		{Origin{URL: "axfr://ns.example/rpz.example", Format: format.Hosts}, "format must be rpz"},
		{Origin{URL: "axfr://ns.example/"}, "name of a zone"},
		{Origin{URL: "axfr://ns.example/a/b"}, "name of a zone"},
		{Origin{URL: "axfr://ns.example/a..b"}, "name of a zone"},
		{Origin{URL: "axfr://ns.example/" + strings.Repeat("a", 64)}, "name of a zone"},
		{Origin{URL: "axfr://ns.example/rpz.example?SECRET"}, "no more"},
		{Origin{URL: "axfr://k:SECRET@ns.example/rpz.example"}, "no more"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "hmac-md5:k:" + secret}, "too weak"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "hmac-sha1:k:" + secret}, "too weak"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "hmac-sha224:k:" + secret}, "too weak"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "SECRET:k:" + secret}, "not known"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "k:SECRET!"}, "not base64"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: "k:"}, "not base64"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: secret}, "algorithm:"},
		{Origin{URL: "axfr://ns.example/rpz.example", TSIG: ":" + secret}, "name of the TSIG key"},
		{Origin{URL: "https://user:SECRET@taxii.example/api/collections/1-2/", Format: format.TAXII}, ""},
		{Origin{URL: "https://taxii.example/api/collections/1-2/objects/?match[type]=indicator", Format: format.TAXII}, ""},
		{Origin{URL: "https://taxii.example/api/SECRET/", Format: format.TAXII}, "/collections/{id}/"},
		{Origin{URL: "https://taxii.example/api/collections/", Format: format.TAXII}, "/collections/{id}/"},
		{Origin{URL: "https://taxii.example/api/collections/1/2/", Format: format.TAXII}, "/collections/{id}/"},
		{Origin{URL: "https://misp.example/feed/", Format: format.MISP}, ""},
	} {
		err := tt.origin.Check()
		switch {
		case (err != nil) != (tt.want != ""), err != nil && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%+v: %v, want %q", tt.origin, err, tt.want)
		case err != nil && (strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), secret)):
			t.Errorf("%+v: the error holds a secret: %v", tt.origin, err)
		}
	}
}

func TestOriginProtocol(t *testing.T) {
	for _, tt := range []struct {
		url    string
		format format.Format
		want   protocol
	}{
		{"https://x.example/feed", "", overHTTP},
		{"https://x.example/feed/", format.JSON, overHTTP},
		{"https://x.example/feed/", "MISP", overMISP},
		{"https://x.example", format.MISP, overMISP},
		{"https://x.example/feed/manifest.json", format.MISP, overMISP},
		{"https://x.example/feed/5a0d5bf4-99c8-4f15-9879-22b1950d210f.json", format.MISP, overHTTP},
		{"https://x.example/collections/1/", format.TAXII, overTAXII},
		{"axfr://x.example/rpz.example", format.RPZ, overAXFR},
	} {
		if got, _, err := (Origin{URL: tt.url, Format: tt.format}).protocol(); got != tt.want || err != nil {
			t.Errorf("%s as %q: %v, %v", tt.url, tt.format, got, err)
		}
	}
}

// fetchTest is a Client with the paths of two bodies, as the writer of the lists uses them.
type fetchTest struct {
	t            *testing.T
	client       Client
	from         Origin
	before, path string
	validators   Validators
}

func newFetching(t *testing.T, from Origin) *fetchTest {
	dir := t.TempDir()
	return &fetchTest{t: t, client: NewClient(Config{}), from: from, before: "", path: filepath.Join(dir, "a.new")}
}

// try fetches. If it succeeds, the new body replaces the body before.
func (f *fetchTest) try() (Result, error) {
	f.t.Helper()
	got, err := f.client.Fetch(f.t.Context(), f.from, f.validators, f.before, f.path)
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(f.path), ".*")); len(left) > 0 {
		f.t.Errorf("temporary files were not removed: %q", left)
	}
	_, statErr := os.Stat(f.path)
	if wrote := statErr == nil; wrote != (err == nil && !got.Unchanged) {
		f.t.Errorf("a body was written: %v; same %v, error %v", wrote, got.Unchanged, err)
	}
	if err != nil || got.Unchanged {
		return got, err
	}
	if text, err := os.ReadFile(f.path); err != nil || xxhash.Sum64(text) != got.Sum {
		f.t.Errorf("the hash of the body is %x, not %x: %v", xxhash.Sum64(text), got.Sum, err)
	}
	f.before = filepath.Join(filepath.Dir(f.path), "a.body")
	f.validators = got.Validators
	if err := os.Rename(f.path, f.before); err != nil {
		f.t.Fatal(err)
	}
	return got, nil
}

func (f *fetchTest) mustFetch(same bool) Result {
	f.t.Helper()
	got, err := f.try()
	if err != nil || got.Unchanged != same {
		f.t.Fatalf("fetch: %+v, %v; want the same: %v", got, err, same)
	}
	return got
}

// mustFail checks that a fetch fails with want in the error and no secret, and that the previous body stays.
func (f *fetchTest) mustFail(want string) {
	f.t.Helper()
	held := ""
	if f.before != "" {
		held = f.body()
	}
	_, err := f.try()
	if err == nil || !strings.Contains(err.Error(), want) {
		f.t.Errorf("fetch: %v, want an error with %q", err, want)
	}
	if err != nil && strings.Contains(err.Error(), "SECRET") {
		f.t.Errorf("the error holds a secret: %v", err)
	}
	if f.before != "" && f.body() != held {
		f.t.Error("the body before was changed")
	}
}

func (f *fetchTest) body() string {
	f.t.Helper()
	text, err := os.ReadFile(f.before)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

// listed checks what the body lists.
func (f *fetchTest) listed(want names) {
	f.t.Helper()
	got := names{}
	stats, err := format.Parse(strings.NewReader(f.body()), format.Options{Format: f.from.Format}, got)
	if err != nil {
		f.t.Fatalf("parse: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		f.t.Errorf("(-want +got), refused %v\n%s", stats.Refused.Map(), diff)
	}
}

// blocked returns a set of names that are blocked together with all names below them.
func blocked(list ...string) names {
	n := names{}
	for _, name := range list {
		n[name] = blocklist.Subtree
	}
	return n
}

// names is a Sink that keeps the blocked names, with the widest scope listed.
type names map[string]blocklist.Scope

func (n names) Add(_ int, l blocklist.Listing) {
	if l.Decision == blocklist.Block {
		n[blocklist.NameText(l.Name)] |= l.Scope
	}
}
func (n names) Cancel(int, []byte, blocklist.Scope) {}
func (n names) Refuse(int, format.Reason)           {}
