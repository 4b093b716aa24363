package format

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch/fetchtest"
)

func packZstd(t testing.TB, content string, opt ...zstd.EOption) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, opt...)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func packZip(t testing.TB, contents ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, c := range contents {
		f, err := w.Create(fmt.Sprintf("list-%d.txt", i))
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, c)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// bzipped is "a.example\nb.example\n", compressed with bzip2.
const bzipped = "BZh91AY&SY \x81\x10\xe9\x00\x00\x02Q\x80\x00\x10\x00\x012\x06@@ \x00!(44 \xc9\x88BV\xc9\xd3F`\xc6x\xbb\x92)\xc2\x84\x81\x04\x08\x87H"

func TestCompressions(t *testing.T) {
	const content = "a.example\nb.example\n"
	half := "\nb.example\n"
	for name, list := range map[string]string{
		"gzip":                              fetchtest.Gzip(t, content),
		"gzip members":                      fetchtest.Gzip(t, "a.example") + fetchtest.Gzip(t, half),
		"zstd":                              packZstd(t, content),
		"zstd frames":                       packZstd(t, "a.example") + packZstd(t, half),
		"zstd with a skippable frame first": "\x53\x2a\x4d\x18\x02\x00\x00\x00xx" + packZstd(t, content),
		"bzip2":                             bzipped,
		"bzip2 in gzip":                     fetchtest.Gzip(t, bzipped),
		"zip":                               packZip(t, content),
		"zip of two":                        packZip(t, "a.example", "b.example"),
		"zip with empty files":              packZip(t, "", content, ""),
		"gzip, zstd in zip":                 packZip(t, fetchtest.Gzip(t, "a.example"), packZstd(t, "b.example")),
		"gzip in gzip":                      fetchtest.Gzip(t, fetchtest.Gzip(t, content)),
		"zip of two formats":                packZip(t, "\ufeff[\"a.example\"]", "\ufeff||b.example^"),
	} {
		if diff := cmp.Diff([]string{"a.example", "b.example"}, read(t, list)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	if got := read(t, "BZh9.example"); len(got) != 1 || got[0] != "bzh9.example" {
		t.Errorf("a name that begins as bzip2 does: %v", got)
	}
}

func TestHostileCompressions(t *testing.T) {
	notUnderRace(t)
	thrice := fetchtest.Gzip(t, fetchtest.Gzip(t, fetchtest.Gzip(t, "a.example")))
	damaged := []byte(packZip(t, strings.Repeat("a.example\n", 100)))
	damaged[60] ^= 0xff
	for name, list := range map[string]string{
		"compressed three times":       thrice,
		"gzip twice, in a zip":         packZip(t, fetchtest.Gzip(t, fetchtest.Gzip(t, "a.example"))),
		"zip in gzip":                  fetchtest.Gzip(t, packZip(t, "a.example")),
		"zip in zip":                   packZip(t, packZip(t, "a.example")),
		"cut zip":                      packZip(t, "a.example")[:40],
		"damaged zip":                  string(damaged),
		"cut zstd":                     packZstd(t, strings.Repeat("a.example\n", 10))[:12],
		"cut bzip2":                    bzipped[:30],
		"gzip with trailing data":      fetchtest.Gzip(t, "a.example\n") + "b.example\n",
		"zstd with too large a window": packZstd(t, strings.Repeat("a.example\n", 5<<20), zstd.WithWindowSize(32<<20)),
	} {
		if _, err := Parse(strings.NewReader(list), Options{}, &transcript{t: t}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	_, err := Parse(io.MultiReader(strings.NewReader(packZip(t, "a.example"))), Options{}, &transcript{t: t})
	if err == nil || !strings.Contains(err.Error(), "from a file only") {
		t.Errorf("zip from a stream: %v", err)
	}
	var many []string
	for range 2000 {
		many = append(many, strings.Repeat("a.example\n", 100))
	}
	if _, err := parse(strings.NewReader(packZip(t, many...)), Options{}, &transcript{t: t}, 1_999_999); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("files that are small, but many: %v", err)
	}
	if _, err := parse(strings.NewReader(packZip(t, many...)), Options{}, &transcript{t: t}, 2_000_000); err != nil {
		t.Errorf("exactly as long as the limit: %v", err)
	}
	bomb := fetchtest.Gzip(t, packZstd(t, strings.Repeat("a.example\n", 100_000)))
	if _, err := parse(strings.NewReader(bomb), Options{}, &transcript{t: t}, 999_999); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("bomb in two layers: %v", err)
	}
	if _, err := Parse(strings.NewReader(packZip(t, make([]string, maxFiles+1)...)), Options{}, &transcript{t: t}); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("more files than are read: %v", err)
	}
	if _, err := Parse(strings.NewReader(packZip(t, make([]string, 60_000)...)), Options{}, &transcript{t: t}); !errors.Is(err, bounded.ErrTooLarge) {
		t.Errorf("a directory that is too long: %v", err)
	}
}

// TestPlainTextLineNumbersEqualParse checks that a line of plainText has the same number as in Parse.
func TestPlainTextLineNumbersEqualParse(t *testing.T) {
	archive := packZip(t, "a.example", "", "b.example\nc.example", fetchtest.Gzip(t, "\nd.example\n"), "e.example")
	s := &full{transcript{t: t}}
	if _, err := Parse(strings.NewReader(archive), Options{}, s); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"1 a.example", "2 b.example", "3 c.example", "5 d.example", "6 e.example"}, s.lines); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r, err := plainText(strings.NewReader(archive), maxPlain)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil || string(text) != "a.example\nb.example\nc.example\n\nd.example\ne.example" {
		t.Errorf("plain text: %q, %v; want five names and an empty line between the two files", text, err)
	}
}

// ignored is a Sink that discards everything.
type ignored struct{}

func (ignored) Add(int, blocklist.Listing)          {}
func (ignored) Cancel(int, []byte, blocklist.Scope) {}
func (ignored) Refuse(int, Reason)                  {}

// TestImplausibleCompressionRatioIsRefused reads compressed lists that expand to more than a hundred times their size: they are refused long before they reach
// the size limit of lists.
func TestImplausibleCompressionRatioIsRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("it reads hundreds of megabytes")
	}
	text := strings.Repeat("a.example\n", 6<<20) // 60 MB
	names := &strings.Builder{}
	for i := range 400_000 { // more than uncheckedBytes in all
		fmt.Fprintf(names, "0.0.0.0 a-name-that-is-not-so-short-%d.with-a-long-suffix.and-then-some-more-of-it.example # %[1]d\n", i)
	}
	for how, pack := range map[string]func(string) string{
		"gzip":             func(s string) string { return fetchtest.Gzip(t, s) },
		"zstd":             func(s string) string { return packZstd(t, s) },
		"zip":              func(s string) string { return packZip(t, s) },
		"compressed twice": func(s string) string { return fetchtest.Gzip(t, fetchtest.Gzip(t, s)) },
	} {
		stats, err := Parse(strings.NewReader(pack(text)), Options{}, ignored{})
		if !errors.Is(err, bounded.ErrTooLarge) || !strings.Contains(fmt.Sprint(err), "times its compressed size") || stats.Lines > uncheckedBytes/5 {
			t.Errorf("%s: %d lines, %v", how, stats.Lines, err)
		}
		if stats, err := Parse(strings.NewReader(pack(names.String())), Options{}, ignored{}); err != nil || stats.Lines != 400_000 {
			t.Errorf("%s: %d lines of a list, %v", how, stats.Lines, err)
		}
	}
	lying := []byte(packZip(t, text)) // the directory claims that the file uses 1 GiB of the archive
	binary.LittleEndian.PutUint32(lying[bytes.LastIndex(lying, []byte("PK\x01\x02"))+20:], 1<<30)
	if stats, err := Parse(bytes.NewReader(lying), Options{}, ignored{}); !errors.Is(err, bounded.ErrTooLarge) || stats.Lines > uncheckedBytes/5 {
		t.Errorf("zip with a wrong size in its directory: %d lines, %v", stats.Lines, err)
	}
}
