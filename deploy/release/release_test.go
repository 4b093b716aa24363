package main

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"
)

// longTests is the variable with which long tests run at full length, as in the module of the program.
const longTests = "REMPART_LONG_TESTS"

// testVersion is a version whose packages are older than those of 0.2.0.
const testVersion = "0.2.0-rc.1"

// TestRelease builds a release of the working tree and examines it.
func TestRelease(t *testing.T) {
	repository := commitWorkingTree(t)
	o := options{repository: repository, commit: "HEAD", version: testVersion, maintainer: "Rempart <rempart@rempart.example>", sign: filepath.Join(t.TempDir(), "key"), password: "secret"}
	if o.targets = must(findTargets("linux_armv7,linux_amd64")); os.Getenv(longTests) != "" {
		o.targets = allTargets()
	}
	public := writeKey(t, o.sign, o.password)
	o.out = build(t, o)
	t.Run("same bytes from another folder", func(t *testing.T) { testReproducible(t, o) })
	t.Run("checksums", func(t *testing.T) { testSums(t, o.out, public) })
	t.Run("archives", func(t *testing.T) { testArchives(t, o) })
	t.Run("deb", func(t *testing.T) { testDeb(t, o.out) })
	t.Run("rpm", func(t *testing.T) { testRPM(t, o.out) })
	t.Run("images", func(t *testing.T) { testImages(t, o) })
	t.Run("running image", func(t *testing.T) { testRunningImage(t, o) })
	t.Run("inventory", func(t *testing.T) { testInventory(t, o.out) })
	t.Run("licences", func(t *testing.T) { testLicences(t, o.out) })
	t.Run("installation", func(t *testing.T) { testInstallation(t, o) })
}

// must returns v. It panics on an error, which a test cannot have by its arguments.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// build builds a release in a new folder, and returns the folder.
func build(t *testing.T, o options) string {
	t.Helper()
	o.out = filepath.Join(t.TempDir(), "out")
	if err := release(t.Context(), o, io.Discard); err != nil {
		t.Fatal(err)
	}
	return o.out
}

// commitWorkingTree returns a repository whose only difference from the one of this test is a commit of the changes that are not committed yet.
func commitWorkingTree(t *testing.T) string {
	t.Helper()
	top := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(top, ".git")); err != nil {
		t.Skipf("a release is built from a repository: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "repository")
	command(t, top, "git", "clone", "--quiet", "--shared", "--no-tags", ".", dir)
	command(t, dir, "git", "rm", "-r", "-q", "--cached", ".")
	for name := range strings.SplitSeq(strings.Trim(command(t, top, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(top, name))
		if os.IsNotExist(err) {
			_ = os.Remove(filepath.Join(dir, name)) // it may be a new file that was removed again
			continue
		}
		info := must(os.Stat(filepath.Join(top, name)))
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	command(t, dir, "git", "add", "--all")
	command(t, dir, "git", "-c", "user.name=Rempart", "-c", "user.email=rempart@rempart.example", "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--allow-empty", "-m", "the working tree")
	return dir
}

// command returns the output of a command that must succeed.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// need skips the test if a program is not installed. If REMPART_INTEROP is "require", the test fails instead.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			unavailable(t, err.Error())
		}
	}
}

// unavailable skips the test, or fails it if REMPART_INTEROP is "require".
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("REMPART_INTEROP") == "require" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// one returns the only file of the release that matches pattern.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	found := must(filepath.Glob(filepath.Join(dir, pattern)))
	if len(found) != 1 {
		t.Fatalf("%s matches %q, want one file", pattern, found)
	}
	return found[0]
}

// testReproducible builds the same commit from a repository at another place. In a long test, it does not use anything that the first build compiled.
func testReproducible(t *testing.T, o options) {
	first := o.out
	again := filepath.Join(t.TempDir(), "another", "place")
	command(t, ".", "git", "clone", "--quiet", "--no-tags", o.repository, again)
	o.repository = again
	if os.Getenv(longTests) != "" {
		t.Setenv("GOCACHE", t.TempDir())
	}
	t.Setenv("TZ", "Pacific/Kiritimati")
	t.Setenv("GOFLAGS", "-buildvcs=false")
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	second := build(t, o)
	names := filesOf(t, first)
	if other := filesOf(t, second); !slices.Equal(names, other) {
		t.Fatalf("one build has the files %q, another %q", names, other)
	}
	for _, name := range names {
		a, b := must(os.ReadFile(filepath.Join(first, name))), must(os.ReadFile(filepath.Join(second, name)))
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs: %x and %x", name, sha256.Sum256(a), sha256.Sum256(b))
		}
	}
}

func filesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, e := range must(os.ReadDir(dir)) {
		names = append(names, e.Name())
	}
	return names
}

// writeKey writes a new key with a password to path, and returns its public key as minisign -P takes it.
func writeKey(t *testing.T, path, password string) (public string) {
	t.Helper()
	p, key, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, must(minisign.EncryptKey(password, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	return p.String()
}

func testSums(t *testing.T, out, public string) {
	lines := strings.Count(string(must(os.ReadFile(filepath.Join(out, sumsFile)))), "\n")
	if files := len(filesOf(t, out)); lines != files-2 { // without itself and its signature
		t.Errorf("%s has %d lines, for %d files", sumsFile, lines, files)
	}
	command(t, out, "sha256sum", "--check", "--strict", "--quiet", sumsFile)
	need(t, "minisign")
	said := command(t, out, "minisign", "-V", "-P", public, "-m", sumsFile)
	if !strings.Contains(said, "Trusted comment: rempart "+testVersion) {
		t.Errorf("minisign does not show the version: %s", said)
	}
	forged := filepath.Join(t.TempDir(), sumsFile)
	if err := os.WriteFile(forged, []byte("0  rempart\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("minisign", "-V", "-P", public, "-m", forged, "-x", filepath.Join(out, sumsFile+".minisig")).Run(); err == nil {
		t.Error("minisign accepts other checksums")
	}
}

// TestOptions checks which arguments are refused, and that the error says what is valid.
func TestOptions(t *testing.T) {
	for args, want := range map[string]string{
		"":                              "--out is missing",
		"--out x y":                     `unexpected argument "y"`,
		"--out x --targets linux_mips":  "the targets are linux_amd64, ",
		"--out x --password-file /none": "reading the password of the key",
	} {
		if _, err := parseOptions(strings.Fields(args), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	o, err := parseOptions([]string{"--out", "x", "--targets", "windows_arm64, linux_armv7"}, io.Discard)
	if err != nil || targetNames(o.targets) != "linux_armv7, windows_arm64" {
		t.Errorf("%v, %v", o, err)
	}
	if err := release(t.Context(), options{out: t.TempDir(), sign: filepath.Join(t.TempDir(), "none")}, io.Discard); err == nil || !strings.Contains(err.Error(), "the key that signs") {
		t.Errorf("a missing key: %v", err)
	}
	if err := release(t.Context(), options{out: "."}, io.Discard); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("a folder with files: %v", err)
	}
}

// TestVersions checks which tag is the version, and how packages order versions.
func TestVersions(t *testing.T) {
	for _, test := range []struct {
		version string
		tags    []string
		want    string // of the tag; "-": an error
	}{
		{"", nil, ""},
		{"", []string{"nightly", "v1.2", "v0.9.0", "v1.2.0", "v1.10.0-rc.1"}, "v1.10.0-rc.1"},
		{"", []string{"v2.0.0"}, ""},
		{"1.2.3", []string{"v0.9.0"}, "v1.2.3"},
		{"1.2", nil, "-"}, {"v1.2.3", nil, "-"}, {"2.0.0", nil, "-"}, {"2.0.0-rc.1", nil, "-"}, {"1.2.3+x", nil, "-"}, {"1.2.3 --force", nil, "-"},
	} {
		got, err := chooseTag(test.version, test.tags)
		if err != nil {
			got = "-"
		}
		if got != test.want {
			t.Errorf("version %q, tags %q: %q %v, want %q", test.version, test.tags, got, err, test.want)
		}
	}
	if got := packageVersion("0.0.0-20261130211500-0123456789ab"); got != "0.0.0~20261130211500.0123456789ab" {
		t.Errorf("a version made of time and hash: %s", got)
	}
}
