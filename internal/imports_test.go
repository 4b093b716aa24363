// Package internal holds the tests that are about the tree as a whole.
package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "rempart"

// packageRules lists, for each package, the packages of this module that it may import. cmd and bench may import every package.
var packageRules = map[string]struct {
	may []string
	why string
}{
	"internal/wire":                {nil, "every package may use wire, so wire uses none"},
	"internal/tsig":                {nil, "keys are parsed alike for both sides of a transfer"},
	"internal/grant":               {[]string{"internal/fair", "internal/secret", "internal/wire"}, "the page makes tokens and the resolver checks them: neither may import the other"},
	"internal/secret":              {nil, "one format of files of shared secrets, whatever they protect"},
	"internal/tomlfile":            {nil, "it decodes any file, independent of its content"},
	"internal/units":               {nil, "it only knows how quantities are written"},
	"internal/pause":               {nil, "it only waits"},
	"internal/config":              {[]string{"internal/spelling", "internal/units"}, "settings are values; cmd copies them to where they belong, so that no other package reads the environment"},
	"internal/durable":             {nil, "it writes files, independent of their content"},
	"internal/setfile":             {[]string{"blocklist", "internal/durable"}, "it opens the set from files, independent of who wrote them"},
	"internal/local":               {nil, "it carries the answers of a server about itself, independent of their content"},
	"internal/dnstap":              {[]string{"internal/wire"}, "it sees answered queries, and wraps any Handler"},
	"internal/spelling":            {nil, "it only compares words"},
	"internal/filewatch":           {nil, "it watches any file for any reader"},
	"internal/hosts":               {nil, "it only compares names"},
	"internal/redirect":            {nil, "it follows any URL, independent of the content"},
	"internal/handover":            {nil, "it passes descriptors on, independent of what they are"},
	"internal/mmsg":                {nil, "it only calls the kernel"},
	"resolver/listen":              {[]string{"internal/fair", "internal/mmsg", "internal/wire", "resolver/limits", "resolver/listen/proxyproto", "resolver/listen/stream"}, "sockets and framing call a Handler they define: any resolver can implement it"},
	"resolver/listen/stream":       {[]string{"internal/fair", "internal/wire", "resolver/limits", "resolver/listen/proxyproto"}, "connections know neither UDP nor who answers"},
	"resolver/listen/proxyproto":   {nil, "it only reads headers"},
	"resolver/listen/fake":         {[]string{"internal/dnstest", "internal/wire"}, "tests of listeners use it"},
	"resolver":                     {[]string{"blocklist", "internal/fair", "internal/grant", "internal/probe", "internal/wire", "resolver/cache", "resolver/cookie", "resolver/grants", "resolver/upstream"}, "the path of a query knows no feed, page, push or file"},
	"resolver/cookie":              {[]string{"internal/secret", "internal/wire"}, "a cookie depends on the client and the time only"},
	"resolver/grants":              {[]string{"internal/fair"}, "it holds grants, independent of the way in which a client gets one"},
	"resolver/limits":              {[]string{"internal/wire"}, "it judges answers, independent of how they are sent"},
	"resolver/cache":               {[]string{"internal/wire"}, "it holds packed answers, independent of the verdicts on their names"},
	"resolver/upstream":            {[]string{"internal/mmsg", "internal/pause", "internal/wire", "resolver/upstream/transport"}, "exchanging does not depend on what is asked"},
	"blocklist":                    {[]string{"internal/wire"}, "the set does no I/O: it is the same on an edge, in control, in a test"},
	"blocklist/guard":              {[]string{"blocklist"}, "guards are pure checks: feeds and pushes pass the same ones"},
	"blocklist/feed":               {[]string{"blocklist", "blocklist/feed/bounded", "blocklist/feed/fetch", "blocklist/feed/format", "blocklist/feed/guardfile", "blocklist/feed/store", "blocklist/guard", "internal/durable", "internal/filewatch", "internal/setfile", "internal/units"}, "lists arrive through fetch and format, and leave as a set"},
	"blocklist/feed/bounded":       {nil, "it limits any input, independent of its content"},
	"blocklist/feed/fetch":         {[]string{"blocklist/feed/bounded", "blocklist/feed/format", "internal/durable", "internal/redirect", "internal/tsig"}, "it fetches a body to a file through a dialer that it receives: it knows no set, guard or schedule"},
	"blocklist/feed/format":        {[]string{"blocklist", "blocklist/feed/bounded"}, "it reads bytes: the same on an edge, in a command, in a test"},
	"blocklist/feed/guardfile":     {[]string{"blocklist", "blocklist/feed/bounded", "blocklist/feed/format", "blocklist/guard", "internal/durable", "internal/filewatch"}, "it owns the files of the guards, for lists and pushes alike"},
	"blocklist/feed/store":         {[]string{"blocklist", "blocklist/feed/bounded", "blocklist/feed/fetch", "internal/durable"}, "it keeps files of lists: which of them are used is decided by feed"},
	"internal/journal/stream":      {[]string{"internal/durable"}, "it stores bytes: the meaning of records, keys and signatures belongs to the journal"},
	"internal/signing":             {[]string{"internal/durable"}, "signatures do not depend on the meaning of the signed bytes"},
	"internal/journal":             {[]string{"blocklist", "internal/durable", "internal/journal/stream", "internal/setfile", "internal/signing"}, "it verifies and applies records: a server needs no more, and cannot write to the journal"},
	"internal/journal/publish":     {[]string{"blocklist", "internal/durable", "internal/journal", "internal/journal/stream", "internal/setfile", "internal/signing"}, "it writes to the journal, and knows neither HTTP nor who may ask for what"},
	"internal/journal/journaltest": {[]string{"blocklist", "internal/dnstest", "internal/journal", "internal/journal/mirror", "internal/journal/publish", "internal/journal/stream", "internal/signing"}, "tests of the journal use it"},
	"internal/changeset":           {[]string{"blocklist", "blocklist/guard", "internal/journal", "internal/journal/publish", "internal/journal/stream", "internal/pause", "internal/signing"}, "the life of a change set is the same for every interface: it knows neither HTTP nor roles"},
	"internal/appeal/ownership":    {[]string{"internal/redirect"}, "it looks for a text of any appeal"},
	"internal/appeal":              {[]string{"blocklist", "internal/changeset", "internal/journal", "internal/journal/stream", "internal/signing", "internal/tomlfile", "internal/units"}, "the life of an appeal is the same for every interface: it knows neither HTTP nor roles"},
	"internal/pushapi":             {[]string{"blocklist", "blocklist/guard", "internal/appeal", "internal/changeset", "internal/journal", "internal/journal/publish", "internal/journal/stream", "internal/pause", "internal/signing"}, "it decides who may call and decodes requests; changeset decides what a call does to a change set"},
	"internal/journal/mirror":      {[]string{"internal/durable", "internal/journal", "internal/pause", "internal/redirect"}, "it carries signed bytes, which it does not interpret"},
	"internal/statistics":          {[]string{"internal/durable"}, "it writes numbers, independent of where they are counted"},
	"internal/probe":               {[]string{"internal/wire"}, "the resolver answers its names, and the pages use them"},
	"internal/web/probezone":       {[]string{"blocklist", "internal/probe", "internal/web/layout", "internal/web/lookup", "internal/web/onward", "internal/web/texts"}, "it renders what onward and probe decide"},
	"internal/web/texts":           {[]string{"blocklist", "internal/tomlfile"}, "texts do not depend on the pages that show them"},
	"internal/web/layout":          {[]string{"internal/web/texts"}, "the frame of the pages does not depend on their content"},
	"internal/web/lookup":          {[]string{"blocklist"}, "it describes a verdict, independent of the page that shows it"},
	"internal/web/authority":       {[]string{"blocklist", "internal/tomlfile"}, "it reads what authorities prescribe, independent of who applies it"},
	"internal/web/explain":         {[]string{"blocklist", "internal/web/authority", "internal/web/layout", "internal/web/lookup", "internal/web/texts"}, "it says the same on every page"},
	"internal/web/warning":         {[]string{"blocklist", "internal/web/authority", "internal/web/explain", "internal/web/layout", "internal/web/lookup", "internal/web/onward", "internal/web/texts"}, "the page asks about names only through a function"},
	"internal/web/portal":          {[]string{"blocklist", "internal/fair", "internal/probe", "internal/statistics", "internal/web/authority", "internal/web/explain", "internal/web/layout", "internal/web/lookup", "internal/web/statement", "internal/web/texts"}, "the portal asks about names and their history only through functions"},
	"internal/web/statement":       {nil, "it describes settings, independent of the page that shows them"},
	"internal/web/webtest":         {nil, "tests of pages use it"},
	"internal/web/onward":          {[]string{"blocklist", "internal/grant"}, "it makes and reads URLs: who may continue is decided by the resolver, and the page renders"},
	"internal/web/refuse":          {[]string{"blocklist", "internal/fair", "internal/pause"}, "it refuses connections, independent of the page on another port"},
	"internal/rpz":                 {[]string{"blocklist", "internal/fair", "internal/pause", "internal/tsig"}, "a policy zone depends on the content of the set only, not on how it is changed"},
	"internal/admin":               {[]string{"blocklist"}, "other data arrives through functions"},
	"internal/dnstest":             {nil, "tests of any package use it"},

	"resolver/upstream/transport": {[]string{"internal/pause", "internal/wire"}, "it asks one upstream: which one is asked, when and how often is decided by upstream"},

	"internal/dnstest/hostile":  {[]string{"internal/dnstest"}, "its behaviours are handlers of a dnstest.Upstream"},
	"internal/dnstest/scenario": {nil, "it plays against any server that a test passes in"},
	"blocklist/guard/generate":  {nil, "it makes the lists that guard ships, and is no part of the program"},
}

// cmdRules lists, for each package below cmd, the packages below cmd that it may import. Packages elsewhere in the module may be imported by all of them.
var cmdRules = map[string]struct {
	may []string
	why string
}{
	"cmd/rempart":          {[]string{"cmd/rempart/canary", "cmd/rempart/cli", "cmd/rempart/clientsetup", "cmd/rempart/doctor", "cmd/rempart/firstrun", "cmd/rempart/inspect", "cmd/rempart/operate", "cmd/rempart/report", "cmd/rempart/running", "cmd/rempart/setup", "cmd/rempart/setup/certificates", "cmd/rempart/setup/descriptors", "cmd/rempart/setup/public", "cmd/rempart/setup/reload", "cmd/rempart/setup/secrets", "cmd/rempart/top"}, "main wires everything together"},
	"cmd/rempart/operate":  {[]string{"cmd/rempart/cli", "cmd/rempart/report", "cmd/rempart/setup", "cmd/rempart/setup/certificates", "cmd/rempart/setup/secrets"}, "commands of operators know no lists of this machine"},
	"cmd/rempart/doctor":   {[]string{"cmd/rempart/cli", "cmd/rempart/machine", "cmd/rempart/report", "cmd/rempart/running"}, "it examines a server from outside"},
	"cmd/rempart/firstrun": {[]string{"cmd/rempart/cli", "cmd/rempart/machine", "cmd/rempart/running"}, "it runs before there is a server"},
	"cmd/rempart/canary":   {[]string{"cmd/rempart/cli", "cmd/rempart/setup", "cmd/rempart/setup/certificates"}, "it asks servers from outside, and follows control as a server does"},
	"cmd/rempart/top":      {[]string{"cmd/rempart/cli", "cmd/rempart/report", "cmd/rempart/running"}, "it shows what a server says"},
	"cmd/rempart/machine":  {nil, "it reads what the kernel says"},
	"cmd/rempart/running":  {[]string{"cmd/rempart/setup"}, "it finds a server for any command"},
	"cmd/rempart/inspect":  {[]string{"cmd/rempart/cli", "cmd/rempart/clientsetup", "cmd/rempart/machine", "cmd/rempart/report", "cmd/rempart/running", "cmd/rempart/setup", "cmd/rempart/setup/certificates", "cmd/rempart/setup/public"}, "commands that examine lists call no control"},
	"cmd/rempart/setup":    {[]string{"cmd/rempart/report", "cmd/rempart/setup/certificates", "cmd/rempart/setup/descriptors", "cmd/rempart/setup/reload", "cmd/rempart/setup/secrets"}, "parts are made from settings, independent of the command"},
	"cmd/rempart/cli":      {[]string{"cmd/rempart/report"}, "it does not depend on what a command does"},
	"cmd/rempart/report":   {nil, "it only describes"},

	"cmd/rempart/setup/certificates":      {[]string{"cmd/rempart/report", "cmd/rempart/setup/certificates/acme", "cmd/rempart/setup/reload"}, "certificates do not depend on the listeners and commands that use them"},
	"cmd/rempart/setup/reload":            {nil, "it loads any value from any file"},
	"cmd/rempart/setup/secrets":           {[]string{"cmd/rempart/setup/reload"}, "a secret does not depend on what it is for"},
	"cmd/rempart/setup/descriptors":       {nil, "the shares depend on the system's limit only"},
	"cmd/rempart/setup/public":            {[]string{"cmd/rempart/clientsetup", "cmd/rempart/report", "cmd/rempart/setup/reload"}, "the pages do not depend on the listeners that serve them"},
	"cmd/rempart/setup/certificates/acme": {nil, "it gets certificates, independent of the settings and of who uses them"},
	"cmd/rempart/clientsetup":             {nil, "it only writes settings of clients, independent of where a server's own settings are"},
}

// TestCommandImports checks the imports between the packages below cmd.
func TestCommandImports(t *testing.T) {
	eachFile(t, func(file string, f *ast.File, fset *token.FileSet) {
		pkg := path.Dir(file)
		if !strings.HasPrefix(pkg, "cmd/") {
			return
		}
		rule, known := cmdRules[pkg]
		if !known {
			t.Errorf("%s: no import rule for package %s: add one with its reason", file, pkg)
		}
		for _, spec := range f.Imports {
			of, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module+"/")
			if ours && strings.HasPrefix(of, "cmd/") && !slices.Contains(rule.may, of) {
				t.Errorf("%s imports %s: %s", fset.Position(spec.Pos()), of, rule.why)
			}
		}
	})
}

// outside lists packages of the standard library and of other modules that only some of our files may import.
var outside = map[string]struct {
	may []string
	why string
}{
	"github.com/miekg/dns": {[]string{"resolver/uncommon.go", "cmd/rempart/canary/", "cmd/rempart/doctor/", "cmd/rempart/firstrun/", "blocklist/feed/fetch/axfr.go", "blocklist/feed/fetch/ixfr.go", "blocklist/feed/fetch/tsig.go", "internal/rpz/", "internal/dnstest/", "resolver/listen/fake/", "bench/"},
		"decoded messages allocate: only the complete decoder on the slow path, zone transfers, which no query waits for, commands that ask as clients do, and tests use them"},
	"github.com/prometheus/client_golang": {[]string{"resolver/metrics.go", "resolver/listen/metrics.go", "resolver/upstream/metrics.go",
		"blocklist/feed/metrics.go", "internal/journal/metrics.go", "internal/pushapi/metrics.go", "internal/rpz/metrics.go", "internal/web/refuse/metrics.go", "internal/admin/", "cmd/"}, "metrics are collected in one file per package; blocklist and cache only have Stats"},
	"github.com/dnstap":            {[]string{"internal/dnstap/"}, "one package knows the format"},
	"github.com/spf13/cobra":       {[]string{"cmd/"}, "commands are wiring"},
	"github.com/caarlos0/env":      {[]string{"internal/config/"}, "the environment is read in one place"},
	"github.com/nats-io":           {[]string{"internal/journal/stream/"}, "one package knows the storage of the journal: all others know records, objects and buckets"},
	"log/slog":                     {[]string{"resolver/listen/", "resolver/upstream/", "blocklist/feed/", "internal/appeal/", "internal/changeset/", "internal/dnstap/", "internal/handover/", "internal/journal/", "internal/pushapi/", "internal/rpz/", "internal/statistics/", "cmd/"}, "code on the path of a query logs nothing: it has metrics"},
	"net/http":                     {[]string{"blocklist/feed/fetch/", "internal/appeal/ownership/", "internal/journal/journaltest/", "internal/journal/mirror/", "internal/pushapi/", "internal/web/", "internal/admin/", "internal/local/", "internal/redirect/", "internal/hosts/", "internal/dnstest/", "resolver/listen/stream/backend.go", "resolver/upstream/transport/https.go", "resolver/upstream/encrypted_test.go", "bench/", "cmd/"}, "the resolver knows no HTTP, except to ask an upstream over HTTPS and to serve reverse proxies"},
	"github.com/smallstep/pkcs7":   {[]string{"cmd/rempart/clientsetup/"}, "only profiles of devices are signed with CMS"},
	"github.com/boombuler/barcode": {[]string{"cmd/rempart/clientsetup/"}, "only the settings of clients have a QR code"},
	"github.com/quic-go/quic-go":   {[]string{"resolver/upstream/transport/quic.go", "resolver/listen/stream/", "internal/dnstest/", "bench/secure/"}, "only DNS over QUIC and HTTP/3 need it"},
	"os":                           {[]string{"blocklist/feed/", "blocklist/guard/generate/", "internal/changeset/", "internal/config/", "internal/durable/", "internal/filewatch/", "internal/handover/", "internal/local/", "internal/dnstest/", "internal/journal/", "internal/pushapi/", "internal/setfile/", "internal/signing/", "internal/statistics/", "resolver/listen/", "resolver/upstream/", "bench/", "cmd/", "deploy/release/"}, "the set and the resolver do no I/O"},
	"github.com/dchest/siphash":    {[]string{"resolver/cookie/", "resolver/grants/"}, "only server cookies and grants need it"},

	"github.com/caddyserver/certmagic": {[]string{"cmd/rempart/setup/certificates/acme/"}, "one package knows how certificates are requested: all others know certificates"},
	"github.com/mholt/acmez":           {[]string{"cmd/rempart/setup/certificates/acme/"}, "ACME is spoken in one package"},
	"go.uber.org/zap":                  {[]string{"cmd/rempart/setup/certificates/acme/"}, "certmagic logs with it; we log with slog"},
}

// pure lists packages that do no I/O although they are in a folder for which outside allows it.
var pure = []string{"blocklist/feed/bounded", "blocklist/feed/format"}

// TestPurePackagesDoNoIO checks that the packages in pure use neither files nor the network nor a log.
func TestPurePackagesDoNoIO(t *testing.T) {
	eachFile(t, func(file string, f *ast.File, fset *token.FileSet) {
		if !slices.Contains(pure, path.Dir(file)) {
			return
		}
		for _, spec := range f.Imports {
			switch imported := strings.Trim(spec.Path.Value, `"`); imported {
			case "os", "net", "net/http", "log/slog":
				t.Errorf("%s imports %s: its input arrives as an io.Reader", fset.Position(spec.Pos()), imported)
			}
		}
	})
}

func TestImportRules(t *testing.T) {
	eachFile(t, func(file string, f *ast.File, fset *token.FileSet) {
		pkg := path.Dir(file)
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if of, ours := strings.CutPrefix(imported, module+"/"); ours {
				rule, known := packageRules[pkg]
				switch {
				case strings.HasPrefix(pkg, "cmd/") || strings.HasPrefix(file, "bench/"):
				case !known:
					t.Errorf("%s: no import rule for package %s: add one with its reason", file, pkg)
				case !slices.Contains(rule.may, of):
					t.Errorf("%s imports %s: %s", fset.Position(spec.Pos()), of, rule.why)
				}
				continue
			}
			for restricted, rule := range outside {
				if imported != restricted && !strings.HasPrefix(imported, restricted+"/") {
					continue
				}
				if !slices.ContainsFunc(rule.may, func(p string) bool { return strings.HasPrefix(file, p) }) {
					t.Errorf("%s imports %s: %s", fset.Position(spec.Pos()), imported, rule.why)
				}
			}
		}
	})
}

// TestNoInit keeps registration visible: nothing happens because a package was imported.
func TestNoInit(t *testing.T) {
	eachFile(t, func(file string, f *ast.File, fset *token.FileSet) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init", fset.Position(fn.Pos()))
			}
		}
	})
}

// TestTopLevel keeps the top level to what a newcomer expects there.
func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "resolver", "blocklist", "internal", "bench", "deploy", "go.mod", "go.sum", "README.md", "LICENSE", "CHANGELOG.md"}
	entries, err := filepath.Glob(filepath.Join("..", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if name := filepath.Base(e); !strings.HasPrefix(name, ".") && !slices.Contains(allowed, name) {
			t.Errorf("%s does not belong at the top level", name)
		}
	}
}

// eachFile parses every Go file that is no test; file is its path from the module's root.
func eachFile(t *testing.T, visit func(file string, f *ast.File, fset *token.FileSet)) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel("..", p)
		if err != nil {
			return err
		}
		seen++
		visit(filepath.ToSlash(rel), f, fset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Fatalf("only %d files were read", seen)
	}
}
