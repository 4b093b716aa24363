package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"rempart/cmd/rempart/setup"
	"rempart/internal/dnstest"
)

// guides lists the public documents except the README.
var guides = []string{"browsers.md", "discovery.md", "encrypted.md", "engine.md", "failures.md", "feeds.md", "forwarders.md", "household.md", "install.md", "isp.md", "kubernetes.md", "monitoring.md", "operator.md", "public.md", "resolvers.md", "runbooks.md", "settings.md", "upstreams.md"}

// document returns the text of the README or of a guide in deploy.
func document(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "deploy", name)
	if name == "README.md" {
		path = filepath.Join("..", "..", name)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocumentedCommands checks that the commands in the README and in each guide, run in their order, print the output in the document. Each document has its
// own session.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	for _, name := range append(guides, "README.md") {
		text := document(t, name)
		if len(transcripts(text)) == 0 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runTranscripts(t, text)
		})
	}
}

// TestGuidesAreTestedAndLinksExist checks that this test lists all guides of deploy, and that each of their links to a file names an existing file.
func TestGuidesAreTestedAndLinksExist(t *testing.T) {
	found, err := filepath.Glob(filepath.Join("..", "..", "deploy", "*.md"))
	if err != nil || len(found) != len(guides) {
		t.Errorf("deploy has the guides %q, this test has %q: %v", found, guides, err)
	}
	links := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	for _, name := range append(guides, "README.md") {
		dir := "deploy"
		if name == "README.md" {
			dir = ""
		}
		for _, m := range links.FindAllStringSubmatch(document(t, name), -1) {
			if _, err := os.Stat(filepath.Join("..", "..", dir, m[1])); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
		}
	}
}

// TestTranscripts checks a text that contains every form of a transcript.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("testdata", "transcripts.md"))
	if err != nil {
		t.Fatal(err)
	}
	runTranscripts(t, string(b))
}

// step is a command and its expected output.
type step struct {
	line    int // in the document
	command string
	want    string
}

// whole returns the command on one line.
func (s step) whole() string { return strings.ReplaceAll(s.command, "\\\n", "") }

// transcripts returns the steps in a document's fenced blocks of the language console: lines that begin with "$ " are commands, continued on the next line
// after a backslash; the lines between them are output.
func transcripts(text string) (steps []step) {
	const fence = "```"
	inside, more := false, false
	for i, line := range strings.Split(text, "\n") {
		switch {
		case !inside:
			inside, more = strings.TrimSpace(line) == fence+"console", false
			if inside {
				steps = append(steps, step{line: i + 1}) // the lines up to the next command are its output
			}
		case strings.HasPrefix(line, fence):
			inside = false
		case more:
			last := &steps[len(steps)-1]
			last.command += "\n" + line
			more = strings.HasSuffix(line, `\`)
		case strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, command: line[2:]})
			more = strings.HasSuffix(line, `\`)
		default:
			steps[len(steps)-1].want += strings.TrimRight(line, " ") + "\n"
		}
	}
	return steps
}

// outputPattern matches output as it is shown: "…" stands for any text up to the end of the line, and alone on a line for any lines. Empty lines at the end
// are ignored.
func outputPattern(want string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(want, "\n") + "\n") {
		if strings.TrimSpace(line) == "…" {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	return regexp.MustCompile(`\A` + b.String() + `\n*\z`)
}

var (
	variables   = `((?:[A-Z_0-9]+=(?:"[^"]*"|\S)*\s+)*)`
	serveStep   = regexp.MustCompile(`\A` + variables + `(?:\./)?rempart(?:\s+serve)?(?:\s*&)?\s*\z`)
	controlStep = regexp.MustCompile(`\A` + variables + `rempart\s+control(?:\s*&)?\s*\z`)
	exportStep  = regexp.MustCompile(`\Aexport [A-Z_0-9]+=\S*\z`)
	firstWord   = regexp.MustCompile(`\A` + variables + `(\S+)`)
	defaults    = regexp.MustCompile(`\b(5300|8080|9253|9254)\b`)
)

// session is a shell in which a document's commands are run one after the other, while a server runs.
type session struct {
	t        *testing.T
	dir      string
	upstream *dnstest.Upstream
	server   *dnstest.Program
	control  *dnstest.Program
	exports  string // a prefix of all commands, since each has a shell of its own
}

func runTranscripts(t *testing.T, text string) {
	steps := transcripts(text)
	if len(steps) == 0 {
		t.Fatal("it has no transcript: a fenced block of the language console")
	}
	s := &session{t: t, dir: t.TempDir(), upstream: dnstest.NewUpstream(t, nil)}
	path, err := exec.LookPath("rempart")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(s.dir, "rempart")); err != nil { // for ./rempart
		t.Fatal(err)
	}
	for _, st := range steps {
		if st.command == "" {
			if st.want != "" {
				t.Errorf("line %d: output before the first command", st.line)
			}
			continue
		}
		if !s.has(st) {
			continue
		}
		got := s.run(st)
		want := s.local(st.want)
		if !outputPattern(want).MatchString(got) {
			t.Errorf("line %d: $ %s\nthe document shows:\n%s\nthe command printed:\n%s", st.line, st.command, want, got)
		}
	}
}

// has reports whether the command's program is installed.
func (s *session) has(st step) bool {
	program := firstWord.FindStringSubmatch(st.whole())
	if program == nil || strings.HasPrefix(program[2], "./") || program[2] == "export" {
		return true
	}
	_, err := exec.LookPath(program[2])
	if err == nil {
		return true
	}
	if os.Getenv("REMPART_INTEROP") == "require" {
		s.t.Errorf("line %d: %v", st.line, err)
	} else {
		s.t.Logf("line %d was not run: %v", st.line, err)
	}
	return false
}

// run runs one command and returns its output, independent of its exit code: the output shows an error.
func (s *session) run(st step) string {
	whole := st.whole()
	if m := serveStep.FindStringSubmatch(whole); m != nil {
		return s.serve(m[1])
	}
	if m := controlStep.FindStringSubmatch(whole); m != nil {
		s.control = s.program(m[1]+"rempart control", "REMPART_PUSH_LISTEN=127.0.0.1:0")
		return s.control.Stdout()
	}
	if exportStep.MatchString(whole) {
		s.exports += whole + "\n"
		return "\n"
	}
	if s.server == nil {
		s.serve("")
	}
	cmd := exec.CommandContext(s.t.Context(), "sh", "-c", s.exports+s.local(st.command))
	cmd.Dir, cmd.WaitDelay = s.dir, time.Second
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.server.DataDir, "REMPART_DATA_DIR=" + s.server.DataDir, upstreams(s.upstream),
	}
	if s.control != nil {
		cmd.Env = append(cmd.Env, "REMPART_API="+s.control.API)
	}
	end := time.AfterFunc(20*time.Second, func() { _ = cmd.Cancel() })
	defer end.Stop()
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Errorf("line %d: %v", st.line, err)
	}
	var b strings.Builder
	for line := range strings.Lines(string(out)) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// serve starts the server by a shell that sets variables and is replaced by it, and returns its greeting.
func (s *session) serve(variables string) string {
	if s.server != nil {
		if code := s.server.Stop(s.t); code != 0 {
			s.t.Errorf("the server ended with exit code %d", code)
		}
	}
	s.server = s.program(variables+"rempart", upstreams(s.upstream))
	return s.server.Stdout()
}

// program starts a program as a shell that sets variables first.
func (s *session) program(command string, env ...string) *dnstest.Program {
	cmd := exec.Command("sh", "-c", s.exports+"exec env "+s.local(command))
	cmd.Dir = s.dir
	return dnstest.StartProgram(s.t, cmd, env...)
}

// local replaces the default ports by those of the running server.
func (s *session) local(text string) string {
	ports := map[string]string{}
	if s.server != nil {
		ports = map[string]string{"5300": s.server.DNS, "8080": s.server.Page, "9253": s.server.Metrics}
	}
	if s.control != nil {
		ports["9254"] = strings.TrimPrefix(s.control.API, "http://")
	}
	return defaults.ReplaceAllStringFunc(text, func(port string) string {
		if _, mine, err := net.SplitHostPort(ports[port]); err == nil {
			return mine
		}
		return port
	})
}

// TestExampleFeedsFilesAreValid checks that the example of a feeds file in deploy/feeds.md and the household's feeds file are valid.
func TestExampleFeedsFilesAreValid(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(document(t, "feeds.md"), "```toml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("deploy/feeds.md has no example of a feeds file: a fenced block of the language toml")
	}
	file := filepath.Join(t.TempDir(), "feeds.toml")
	write(t, file, example)
	for path, want := range map[string]int{file: 3, filepath.Join("..", "..", "deploy", "feeds.toml"): 6} {
		feeds, err := setup.ReadFeeds(path)
		if err != nil || len(feeds) != want {
			t.Errorf("%d feeds, want %d: %v", len(feeds), want, err)
		}
	}
}

// TestAlertRules runs the unit tests of the alerts with promtool.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	dnstest.Need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "prometheus.rules.yml"}, {"test", "rules", "prometheus.rules.test.yml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = filepath.Join("..", "..", "deploy")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// TestAlertsNameRunbooks checks that each alert names a runbook, and that the runbook exists.
func TestAlertsNameRunbooks(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(document(t, "runbooks.md"), -1) {
		headings[strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	for _, alert := range strings.Split(string(rules), "- alert: ")[1:] {
		name, rest, _ := strings.Cut(alert, "\n")
		m := regexp.MustCompile(`runbook: "deploy/runbooks\.md#([^"]+)"`).FindStringSubmatch(rest)
		if m == nil || !headings[m[1]] {
			t.Errorf("the alert %s names no runbook that exists: %q", name, m)
		}
	}
}

// TestDocumentedMetricsExist checks that /metrics has each metric that a document or an alert names.
func TestDocumentedMetricsExist(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(filepath.Join("..", "..", "deploy", "prometheus.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(rules)
	for _, d := range dashboards(t) {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				text += target.Expr + "\n"
			}
		}
	}
	for _, name := range append(guides, "README.md") {
		text += document(t, name)
	}
	u := dnstest.NewUpstream(t, nil)
	list := filepath.Join(t.TempDir(), "list.txt")
	write(t, list, "bad.example", "not a line of a list ???", "pages.dev")
	p := start(t, upstreams(u), "REMPART_LISTS="+list, "REMPART_DNSTAP=unix:/nonexistent/dnstap.sock", "REMPART_TLS_LISTEN=127.0.0.1:0", "REMPART_ACME=dns.example",
		"REMPART_ACME_CA=https://127.0.0.1:9/unreachable", "REMPART_CONTINUE_ORDERS=7d", "REMPART_PAGE_HTTPS_LISTEN=127.0.0.1:0")
	_, metrics := get(t, p, "/metrics")
	control := startControl(t, "REMPART_METRICS_LISTEN=127.0.0.1:0", "REMPART_APPEALS="+filepath.Join("..", "..", "deploy", "appeals.toml"))
	ca := newAuthority(t)
	ca.issue("control", serverTemplate())
	secure := startControl(t, "REMPART_METRICS_LISTEN=127.0.0.1:0", "REMPART_PUSH_CERT="+ca.path("control.pem"), "REMPART_PUSH_KEY="+ca.path("control.key"))
	for _, p := range []*dnstest.Program{control, secure, startEdge(t, control, "edge", upstreams(u))} {
		_, more := get(t, p, "/metrics")
		metrics += more
	}
	metrics += canaryMetrics(t, p)
	for _, name := range regexp.MustCompile(`\brempart_[a-z][a-z0-9_]+\b`).FindAllString(text, -1) {
		if !regexp.MustCompile(`(?m)^(# TYPE )?` + name + `[{ ]`).MatchString(metrics) { // a histogram's own name is in its TYPE line only
			t.Errorf("a document or an alert names %s, which /metrics does not have", name)
		}
	}
}
