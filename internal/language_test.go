package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// phrases are expressions that a reader has to decode, and what to write instead. They are searched in comments, strings and documents, in any case, between
// the ends of words.
var phrases = map[string]string{
	"told":             "logged, returned, reported, notified, shown, documented",
	"tells":            "logs, returns, reports, notifies, shows, documents",
	"counts for":       "applies to",
	"has it":           "the exact verb: holds, stores, contains",
	"let go":           "approved, released",
	"lets go":          "approves, releases",
	"lets it go":       "approves it, releases it",
	"goes on":          "continues",
	"go on":            "continue",
	"a name a line":    "one name per line",
	"a change a line":  "one change per line",
	"an object a line": "one object per line",
	"a worker a core":  "one worker per core",
	"a socket a core":  "one socket per core",
	"but for":          "except",
	"as it were":       "(nothing)",
	"figure":           "number, metric, measurement",
	"figures":          "numbers, metrics, measurements",
	"octet":            "byte",
	"octets":           "bytes",
	"stranger":         "unauthorized client",
	"strangers":        "unauthorized clients",
	"be had":           "be fetched, be read",
	"is had":           "was fetched, was read",
	"found out":        "detected",
	"find out":         "detect",
	"finds out":        "detects",
	"red handle":       "kill switch",
	"what differs":     "differences",
	"what was pushed":  "pushed changes",
	"what is scoped":   "scoped changes",
	"what counts":      "what applies",
	"in earnest":       "in production",
	"whoever has":      "a holder of",
}

// onTheWire are the folders in which an octet is a byte of a message or of a name in wire format.
var onTheWire = []string{"internal/wire/", "internal/rpz/", "internal/dnstest/"}

// TestLanguage looks for phrases in every Go file, document and configuration file.
func TestLanguage(t *testing.T) {
	var words []string
	for p := range phrases {
		words = append(words, regexp.QuoteMeta(p))
	}
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) }) // the longest first
	jsonKey := regexp.MustCompile(`json:"[^"]*"|"\w+":`)                     // a name in an interface stays as it is
	find := regexp.MustCompile(`(?i)\b(?:` + strings.Join(words, "|") + `)\b`)
	check := func(where, text string) {
		text = jsonKey.ReplaceAllString(text, "")
		text = strings.ReplaceAll(text, "application/octet-stream", "") // a media type
		for _, found := range find.FindAllString(text, -1) {
			phrase := strings.ToLower(found)
			if strings.HasPrefix(phrase, "octet") && slices.ContainsFunc(onTheWire, func(dir string) bool { return strings.HasPrefix(where, dir) }) {
				continue
			}
			t.Errorf("%s: %q: write %s", where, found, phrases[phrase])
		}
	}
	eachText(t, func(file, text string) {
		if !strings.HasSuffix(file, ".go") {
			for i, line := range strings.Split(text, "\n") {
				check(fmt.Sprintf("%s:%d", file, i+1), line)
			}
			return
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range f.Comments {
			for _, c := range group.List {
				check(fset.Position(c.Pos()).String(), c.Text)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
				check(fset.Position(s.Pos()).String(), s.Value)
			}
			return true
		})
	})
}

// eachText calls visit for the text of each file that people write: Go, documents, configuration and scripts, not data. file is its path from the module's
// root.
func eachText(t *testing.T, visit func(file, text string)) {
	t.Helper()
	written := []string{".go", ".md", ".txtar", ".toml", ".env", ".conf", ".service", ".socket", ".yml"}
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel("..", p)
		rel = filepath.ToSlash(rel)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || rel == "blocklist/feed/format/testdata"):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains(written, filepath.Ext(p)) || rel == "internal/language_test.go":
			return nil
		}
		b, err := os.ReadFile(p)
		if err == nil {
			visit(rel, string(b))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
