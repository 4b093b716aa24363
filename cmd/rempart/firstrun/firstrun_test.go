package firstrun

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rempart/deploy"
	"rempart/internal/config"
)

// attempt runs setup with the answers of a person, or with --yes if there are none, and returns its output.
func attempt(t *testing.T, o options, root string, answers ...string) (out string, calls []string, err error) {
	t.Helper()
	var buf bytes.Buffer
	o.yes = len(answers) == 0
	given := map[string]bool{"listen": o.listen != "", "page": o.page != "", "upstreams": o.upstreams != "", "lists": o.lists != ""}
	o.given = func(flag string) bool { return given[flag] }
	if o.listen == "" {
		o.listen = ":53"
	}
	if o.lists == "" {
		o.lists = "all"
	}
	s := &session{options: o, dialog: newDialog(strings.NewReader(strings.Join(answers, "\n")+"\n"), &buf, o.yes), system: system{root: root, run: func(_ context.Context, name string, args ...string) error {
		calls = append(calls, strings.Join(append([]string{name}, args...), " "))
		return nil
	}}}
	err = s.run(t.Context())
	return buf.String(), calls, err
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, text string, elem ...string) {
	t.Helper()
	path := filepath.Join(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAnswersAreInTheSettings checks that the answers of a person are in the files, after wrong answers too.
func TestAnswersAreInTheSettings(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "rempart")
	out, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir(), "fd00::1", "192.168.1.2", "two words", "udp://192.0.2.1", "7", "1, 3")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	environ, err := config.ReadEnvFile(strings.NewReader(read(t, dir, "rempart.env")))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"LISTEN": ":53", "PAGE_IPV4": "192.168.1.2", "UPSTREAMS": "udp://192.0.2.1", "FEEDS": dir + "/feeds.toml", "ALLOW": dir + "/allow.txt"} {
		if got := environ["REMPART_"+name]; got != want {
			t.Errorf("REMPART_%s is %q, want %q", name, got, want)
		}
	}
	if feeds := read(t, dir, "feeds.toml"); strings.Count(feeds, "[[feed]]") != 2 || !strings.Contains(feeds, "red.flag.domains") || strings.Contains(feeds, "(aa)") {
		t.Errorf("feeds:\n%s", feeds)
	}
	read(t, dir, "released.txt")
}

// TestFilesStay checks that setup replaces no file without a yes, and keeps the file that it replaces.
func TestFilesStay(t *testing.T) {
	dir := t.TempDir()
	write(t, "REMPART_LISTEN=:5300\n", dir, "rempart.env")
	write(t, "mine.example\n", dir, "allow.txt")
	for _, answers := range [][]string{nil, {"", "", "", "n"}, {"", "", "", ""}} {
		if out, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir(), answers...); err != nil || read(t, dir, "rempart.env") != "REMPART_LISTEN=:5300\n" {
			t.Errorf("answers %q: %v\n%s", answers, err, out)
		}
	}
	if _, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir(), "", "", "", "oui"); err != nil || read(t, dir, "rempart.env.old") != "REMPART_LISTEN=:5300\n" {
		t.Errorf("replaced: %v", err)
	}
	if now := read(t, dir, "rempart.env"); !strings.Contains(now, "REMPART_LISTEN=:5300\n") || !strings.Contains(now, "REMPART_FEEDS=") || read(t, dir, "allow.txt") != "mine.example\n" {
		t.Error("the settings were not replaced, or the allowed names were")
	}
	write(t, "REMPART_LISTEN=:5301\n", dir, "rempart.env")
	if _, _, err := attempt(t, options{dir: dir, noStart: true, yes: true, force: true}, t.TempDir()); err != nil || read(t, dir, "rempart.env.old") != "REMPART_LISTEN=:5300\n" ||
		read(t, dir, "rempart.env.old2") != "REMPART_LISTEN=:5301\n" {
		t.Errorf("replaced again: %v", err)
	}
}

// TestFreshFilesAreReplaced checks that setup replaces the files of a package without a question, as long as nobody changed them.
func TestFreshFilesAreReplaced(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"rempart.env", "feeds.toml"} {
		shipped, err := deploy.Household.ReadFile(strings.Replace(name, "rempart.env", "household.env", 1))
		if err != nil {
			t.Fatal(err)
		}
		write(t, string(shipped), dir, name)
	}
	for range 2 { // the second time, the files are those of the first
		if out, _, err := attempt(t, options{dir: dir, noStart: true, page: "192.168.1.2", lists: "1"}, t.TempDir()); err != nil || !strings.Contains(read(t, dir, "rempart.env"), "REMPART_PAGE_IPV4=192.168.1.2") ||
			strings.Contains(read(t, dir, "rempart.env"), freshMark) || strings.Count(read(t, dir, "feeds.toml"), "[[feed]]") != 1 {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	write(t, read(t, dir, "rempart.env")+"REMPART_CONTACT=mailto:me@example.net\n", dir, "rempart.env")
	if _, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir()); err != nil || !strings.Contains(read(t, dir, "rempart.env"), "REMPART_CONTACT") {
		t.Errorf("a changed file was replaced: %v", err)
	}
}

// TestSetupAgain checks that setup offers its earlier answers, replaces its own files without a question, and refuses flags that have no effect on a changed file.
func TestSetupAgain(t *testing.T) {
	dir := t.TempDir()
	try := func(o options) (string, error) {
		o.dir, o.noStart = dir, true
		out, _, err := attempt(t, o, t.TempDir())
		return out, err
	}
	if out, err := try(options{page: "192.168.1.2", upstreams: "udp://192.0.2.1", lists: "1,3", listen: "127.0.0.1:53"}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	settings, feeds := read(t, dir, "rempart.env"), read(t, dir, "feeds.toml")
	if out, err := try(options{}); err != nil || read(t, dir, "rempart.env") != settings || read(t, dir, "feeds.toml") != feeds {
		t.Errorf("without flags: %v\n%s", err, out)
	}
	if out, err := try(options{lists: "2", page: "192.168.1.9"}); err != nil || strings.Count(read(t, dir, "feeds.toml"), "[[feed]]") != 1 ||
		!strings.Contains(read(t, dir, "rempart.env"), "REMPART_PAGE_IPV4=192.168.1.9\n") || !strings.Contains(read(t, dir, "rempart.env"), "REMPART_UPSTREAMS=udp://192.0.2.1\n") {
		t.Errorf("with other flags: %v\n%s", err, out)
	}
	write(t, read(t, dir, "feeds.toml")+"\n# mine\n", dir, "feeds.toml")
	if out, err := try(options{lists: "all"}); err == nil || !strings.Contains(err.Error(), "--lists") || !strings.HasSuffix(read(t, dir, "feeds.toml"), "# mine\n") {
		t.Errorf("with a flag for a changed file: %v\n%s", err, out)
	}
	if out, err := try(options{page: "192.168.1.3"}); err != nil || !strings.Contains(out, "changed it") {
		t.Errorf("with a flag for another file: %v\n%s", err, out)
	}
}

// TestInputEnds checks that nothing is written if the input ends before the last question.
func TestInputEnds(t *testing.T) {
	dir := t.TempDir()
	_, _, err := attempt(t, options{dir: dir, noStart: true}, t.TempDir(), "192.168.1.2")
	if !errors.Is(err, errEnded) {
		t.Errorf("error %v", err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("files were written: %v", files)
	}
}

// TestSystemdResolvedLeavesPort checks that setup turns off the stub resolver that uses port 53, and refuses to continue if another program uses it.
func TestSystemdResolvedLeavesPort(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	write(t, "  sl\n  1: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000 101 0 11 2 0000000000000000 0\n", root, "proc/net/udp")
	write(t, "systemd-resolve\n", root, "proc/12/comm")
	write(t, "", root, "proc/12/fd/0")
	write(t, "", root, "run/systemd/system/x")
	for _, link := range [][2]string{{"socket:[11]", "proc/12/fd/3"}, {"../run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf"}} {
		path := filepath.Join(root, link[1])
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(link[0], path)); err != nil {
			t.Fatal(err)
		}
	}
	if _, calls, err := attempt(t, options{dir: dir}, root, "n"); err == nil || len(calls) > 0 {
		t.Errorf("after no: %v, %q", err, calls)
	}
	out, calls, err := attempt(t, options{dir: dir}, root, "y", "192.168.1.2", "", "")
	if err != nil || !slices.Equal(calls, []string{"systemctl restart systemd-resolved"}) { // there is no unit to start
		t.Errorf("after yes: %v, %q\n%s", err, calls, out)
	}
	if target, err := os.Readlink(filepath.Join(root, stubLink)); err != nil || target != realResolvers || !strings.Contains(read(t, root, resolvedDropIn), "DNSStubListener=no") {
		t.Errorf("resolv.conf leads to %q, %v", target, err)
	}
	if out, calls, err := attempt(t, options{dir: t.TempDir(), listen: "192.168.1.2:53"}, root); err != nil || len(calls) > 0 {
		t.Errorf("with an address that the stub resolver does not have: %v, %q\n%s", err, calls, out)
	}
	write(t, "dnsmasq\n", root, "proc/12/comm")
	if _, _, err := attempt(t, options{dir: dir}, root); err == nil || !strings.Contains(err.Error(), "dnsmasq (12)") {
		t.Errorf("another program: %v", err)
	}
}

// TestCollidingAddresses checks which sockets of other programs leave no room for a listener.
func TestCollidingAddresses(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"0.0.0.0", "192.168.122.1", true}, {"192.168.122.1", "0.0.0.0", true}, {"192.168.1.2", "192.168.1.2", true}, {"192.168.1.2", "192.168.122.1", false},
		{"::", "127.0.0.53", true}, {"0.0.0.0", "::1", false}, {"::1", "127.0.0.1", false}, {"127.0.0.1", "::", true},
	} {
		if got := collide(netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)); got != tt.want {
			t.Errorf("%s and %s: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

// TestValuesThatReadersReadDifferently checks that the settings get no value that systemd, a shell and a container read differently, and that nothing is written then.
func TestValuesThatReadersReadDifferently(t *testing.T) {
	for _, o := range []options{{dir: "a b"}, {dir: "$(reboot)"}, {dir: "it's"}, {dir: `back\\slash`}, {listen: ":53\nREMPART_MODE=observe"}, {upstreams: "https://a.example/$HOME@192.0.2.1"}} {
		root := t.TempDir()
		o.dir, o.noStart = filepath.Join(root, o.dir), true
		if out, _, err := attempt(t, o, root); err == nil {
			t.Errorf("%+v: accepted\n%s", o, out)
		}
		if files, _ := os.ReadDir(o.dir); len(files) > 0 {
			t.Errorf("%+v: files were written: %v", o, files)
		}
	}
	dir := t.TempDir()
	if out, _, err := attempt(t, options{dir: dir, noStart: true, upstreams: "udp://192.0.2.1, udp://192.0.2.2"}, dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if text := read(t, dir, settingsFile); !strings.Contains(text, "\nREMPART_UPSTREAMS=udp://192.0.2.1,udp://192.0.2.2\n") {
		t.Errorf("the settings: %s", text)
	}
}

// TestFilesInTheWayOfSettings checks that setup neither waits for a pipe nor reads a huge file, and that the settings are written last.
func TestFilesInTheWayOfSettings(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "feeds.toml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, _, err := attempt(t, options{dir: dir, noStart: true}, dir); err == nil {
		t.Error("a folder in place of a file was accepted")
	}
	if _, err := os.Stat(filepath.Join(dir, settingsFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the settings were written, and name a file that was not: %v", err)
	}
	dir = t.TempDir()
	huge, err := os.Create(filepath.Join(dir, settingsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	if err := huge.Truncate(1 << 40); err != nil {
		t.Skip(err)
	}
	if _, _, err := attempt(t, options{dir: dir, noStart: true, force: true}, dir); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: %v", err)
	}
}
