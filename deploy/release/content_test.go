package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// entry is a file in an archive.
type entry struct {
	*tar.Header
	data []byte
}

// readTar returns the entries of an archive by name, without "./".
func readTar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	found := map[string]entry{}
	for a := tar.NewReader(r); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[strings.TrimPrefix(h.Name, "./")] = entry{h, must(io.ReadAll(a))}
	}
}

func unzipped(data []byte) []byte {
	return must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(data)))))
}

// missing reports the names that are not in found.
func missing[T any](t *testing.T, found map[string]T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, ok := found[name]; !ok {
			t.Errorf("there is no %s", name)
		}
	}
}

func testArchives(t *testing.T, o options) {
	for _, target := range o.targets {
		base := "rempart_" + testVersion + "_" + target.name()
		found := map[string]bool{}
		if target.os == "windows" {
			z := must(zip.OpenReader(filepath.Join(o.out, base+".zip")))
			for _, f := range z.File {
				found[f.Name] = true
			}
			z.Close()
		} else {
			data := must(os.ReadFile(filepath.Join(o.out, base+".tar.gz")))
			for name, e := range readTar(t, bytes.NewReader(unzipped(data))) {
				found[name] = true
				if e.Uid != 0 || e.Uname != "" || !e.ModTime.Equal(readTime(t, o)) {
					t.Errorf("%s: user %d %q, time %v", name, e.Uid, e.Uname, e.ModTime)
				}
			}
		}
		for _, name := range []string{target.program(), "LICENSE", "LICENCES.txt", "README.md", "CHANGELOG.md", "deploy/household.md", "deploy/systemd/rempart.service", "deploy/systemd/sysusers.conf", "completions/_rempart", "man/rempart.8", "man/rempart-token-create.8"} {
			missing(t, found, base+"/"+name)
		}
		for name := range found {
			if strings.HasPrefix(name, base+"/deploy/release/") {
				t.Errorf("%s is of no use in a release", name)
			}
		}
	}
	need(t, "mandoc")
	page := filepath.Join(t.TempDir(), "rempart.8")
	data := must(os.ReadFile(one(t, o.out, "*_linux_amd64.tar.gz")))
	found := readTar(t, bytes.NewReader(unzipped(data)))
	for name, e := range found {
		if !strings.HasSuffix(name, ".8") {
			continue
		}
		if err := os.WriteFile(page, e.data, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("mandoc", "-T", "lint", "-W", "warning", page).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	program := filepath.Join(t.TempDir(), "rempart")
	if err := os.WriteFile(program, found["rempart_"+testVersion+"_linux_amd64/rempart"].data, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := command(t, ".", program, "version"); !strings.HasPrefix(got, "rempart v"+testVersion+" (go") {
		t.Errorf("the program says %q", got)
	}
}

// readTime returns the time of the released commit.
func readTime(t *testing.T, o options) time.Time {
	t.Helper()
	return must(time.Parse(time.RFC3339, strings.TrimSpace(command(t, o.repository, "git", "log", "-1", "--format=%cI"))))
}

func testDeb(t *testing.T, out string) {
	need(t, "dpkg-deb", "lintian")
	deb := one(t, out, "*_amd64.deb")
	if got := command(t, out, "dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", deb); got != "rempart 0.2.0~rc.1-1 amd64" {
		t.Errorf("it is %q", got)
	}
	if got := command(t, out, "dpkg-deb", "--field", one(t, out, "*_armhf.deb"), "Architecture"); got != "armhf\n" {
		t.Errorf("ARMv7 is %q", got)
	}
	found := readTar(t, strings.NewReader(command(t, out, "dpkg-deb", "--fsys-tarfile", deb)))
	missing(t, found, "usr/bin/rempart", "usr/lib/systemd/system/rempart.service", "usr/lib/systemd/system/rempart-control.service", "usr/lib/systemd/system/rempart.socket",
		"usr/lib/sysusers.d/rempart.conf", "usr/share/man/man8/rempart.8.gz", "usr/share/man/man8/rempart-healthcheck.8.gz", "usr/share/bash-completion/completions/rempart",
		"usr/share/zsh/vendor-completions/_rempart", "usr/share/fish/vendor_completions.d/rempart.fish", "usr/share/doc/rempart/copyright", "usr/share/doc/rempart/LICENCES.txt.gz",
		"usr/share/doc/rempart/deploy/household.md", "etc/rempart/feeds.toml")
	if e := found["etc/rempart/rempart.env"]; e.Mode != 0o640 || !strings.Contains(string(e.data), "\nREMPART_LISTEN=127.0.0.1:53,[::1]:53\n") {
		t.Errorf("rempart.env: mode %o\n%s", e.Mode, e.data)
	}
	conffiles := command(t, out, "dpkg-deb", "--info", deb, "conffiles")
	if want := "/etc/rempart/allow.txt\n/etc/rempart/feeds.toml\n/etc/rempart/released.txt\n/etc/rempart/rempart.env\n"; conffiles != want {
		t.Errorf("the settings that are kept are %q, want %q", conffiles, want)
	}
	for _, arch := range []string{"amd64", "armhf"} {
		said, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", one(t, out, "*_"+arch+".deb")).CombinedOutput()
		if err != nil {
			t.Errorf("lintian: %v\n%s", err, said)
		}
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		path := filepath.Join(t.TempDir(), script)
		if err := os.WriteFile(path, []byte(command(t, out, "dpkg-deb", "--info", deb, script)), 0o644); err != nil {
			t.Fatal(err)
		}
		command(t, out, "sh", "-n", path)
	}
}

func testRPM(t *testing.T, out string) {
	need(t, "rpm")
	path := one(t, out, "*.x86_64.rpm")
	one(t, out, "*.armv7hl.rpm")
	if got := command(t, out, "rpm", "-qp", "--queryformat", "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{BUILDHOST} %{LICENSE}", path); got != "rempart 0.2.0~rc.1 1 x86_64 localhost Apache-2.0" {
		t.Errorf("it is %q", got)
	}
	flags := map[string]string{}
	for line := range strings.Lines(command(t, out, "rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", path)) {
		name, flag, _ := strings.Cut(strings.TrimSpace(line), " ")
		flags[name] = flag
	}
	missing(t, flags, "/usr/bin/rempart", "/usr/lib/systemd/system/rempart.service", "/usr/share/zsh/site-functions/_rempart", "/usr/share/licenses/rempart/LICENSE", "/etc/rempart", "/usr/share/doc/rempart/deploy")
	for _, name := range []string{"allow.txt", "feeds.toml", "released.txt", "rempart.env"} {
		if got := flags["/etc/rempart/"+name]; got != "cn" { // configuration, not replaced
			t.Errorf("/etc/rempart/%s has the flags %q, want cn", name, got)
		}
	}
	command(t, out, "rpm", "-K", "--nosignature", path)
}

// testImages reads the images as Docker of any version does, and as a registry client reads a layout.
func testImages(t *testing.T, o options) {
	image := must(tarball.ImageFromPath(one(t, o.out, "*_linux_amd64.image.tar"), nil))
	config := must(image.ConfigFile())
	if c := config.Config; c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/rempart"}) || !slices.Equal(c.Healthcheck.Test, []string{"CMD", "/rempart", "healthcheck"}) ||
		c.Labels["org.opencontainers.image.version"] != testVersion || len(c.Volumes) != 1 {
		t.Errorf("the image is run with %+v", c)
	}
	layers := must(image.Layers())
	if len(layers) != 1 {
		t.Fatalf("the image has %d layers", len(layers))
	}
	content := must(layers[0].Uncompressed())
	defer content.Close()
	found := readTar(t, content)
	want := []string{"etc/", "etc/group", "etc/passwd", "etc/rempart/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "licences.txt", "rempart", "tmp/", "var/", "var/lib/", "var/lib/rempart/"}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, want) {
		t.Errorf("the image contains %q, want %q", got, want)
	}
	if e := found["var/lib/rempart/"]; e.Uid != 65532 || e.Gid != 65532 || e.Mode != 0o700 {
		t.Errorf("the folder for data has the owner %d:%d and the mode %o", e.Uid, e.Gid, e.Mode)
	}
	if n := bytes.Count(found["etc/ssl/certs/ca-certificates.crt"].data, []byte("BEGIN CERTIFICATE")); n < 100 {
		t.Errorf("the image has %d root certificates", n)
	}
	size := must(layers[0].Size())
	t.Logf("the image for linux/amd64 has %.1f MB, compressed", float64(size)/1e6)
	if size > 30e6 {
		t.Errorf("the image has %d bytes, want at most 30 MB", size)
	}

	dir := t.TempDir()
	for name, e := range readTar(t, must(os.Open(filepath.Join(o.out, "rempart_"+testVersion+".image.tar")))) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), e.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	top := must(must(layout.ImageIndexFromPath(dir)).IndexManifest())
	all := must(must(must(layout.ImageIndexFromPath(dir)).ImageIndex(top.Manifests[0].Digest)).IndexManifest())
	var platforms []string
	for _, m := range all.Manifests {
		platforms = append(platforms, m.Platform.String())
	}
	var expected []string
	for _, target := range o.targets {
		if target.isLinux() {
			p := target.platform()
			expected = append(expected, (&v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}).String())
		}
	}
	if !slices.Equal(platforms, expected) {
		t.Errorf("the index has images for %q, want %q", platforms, expected)
	}
}

// testInventory compares the inventory with the output of go version -m, which knows what is in a program.
func testInventory(t *testing.T, out string) {
	var bom cdx.BOM
	if err := json.Unmarshal(must(os.ReadFile(one(t, out, "*_linux_amd64.cdx.json"))), &bom); err != nil {
		t.Fatal(err)
	}
	data := must(os.ReadFile(one(t, out, "*_linux_amd64.tar.gz")))
	program := readTar(t, bytes.NewReader(unzipped(data)))["rempart_"+testVersion+"_linux_amd64/rempart"].data
	sum := sha256.Sum256(program)
	if got := (*bom.Metadata.Component.Hashes)[0].Value; got != hex.EncodeToString(sum[:]) {
		t.Errorf("the inventory is of another program: %s", got)
	}
	path := filepath.Join(t.TempDir(), "rempart")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, c := range *bom.Components {
		listed[c.Name+" "+c.Version] = true
	}
	modules := 0
	for line := range strings.Lines(command(t, out, "go", "version", "-m", path)) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "dep" {
			modules++
			missing(t, listed, f[1]+" "+f[2])
		}
	}
	if modules < 30 || len(listed) != modules+1 { // and the standard library
		t.Errorf("%d components for %d modules", len(listed), modules)
	}
}

func testLicences(t *testing.T, out string) {
	text := string(must(os.ReadFile(one(t, out, "*_licences.txt"))))
	for _, want := range []string{"github.com/miekg/dns@v", "github.com/nats-io/nats-server/v2@v", "github.com/klauspost/compress@v", "github.com/inconshreveable/mousetrap@v", "Go, its standard library and runtime, go1."} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("the licence of %s is missing", want)
		}
	}
	home := must(os.UserHomeDir())
	if strings.Contains(text, home+"/") || strings.Contains(text, os.TempDir()) {
		t.Error("the licences contain a path of this machine")
	}
}

// TestModuleWithoutLicence checks that a module without a licence is an error.
func TestModuleWithoutLicence(t *testing.T) {
	dir := t.TempDir()
	found := map[string]bool{}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := findLicences(found, dir, filepath.Join(dir, "a", "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := joinLicences(map[string]map[string]bool{"m.example@v1": found}, map[string]string{"m.example@v1": dir}); err == nil || !strings.Contains(err.Error(), "m.example@v1") {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"LICENSE.md", filepath.Join("a", "COPYING"), filepath.Join("a", "licensed.txt"), filepath.Join("a", "license.go")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("terms of "+name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := findLicences(found, dir, filepath.Join(dir, "a", "b")); err != nil {
		t.Fatal(err)
	}
	text, err := joinLicences(map[string]map[string]bool{"m.example@v1": found}, map[string]string{"m.example@v1": dir})
	if err != nil || len(found) != 2 || !strings.Contains(string(text), "m.example@v1: a/COPYING") {
		t.Errorf("%v: %q\n%s", err, slices.Sorted(maps.Keys(found)), text)
	}
}

// TestArchivesHaveFormats checks the two formats of archives.
func TestArchivesHaveFormats(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	entries := []file{{name: "x/rempart", data: []byte("program"), executable: true}, {name: "x/LICENSE", data: []byte("terms")}}
	var packed bytes.Buffer
	if err := writeZip(&packed, entries, at); err != nil {
		t.Fatal(err)
	}
	z := must(zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len())))
	var got string
	for _, f := range z.File {
		got += fmt.Sprintf("%s %v %v %s\n", f.Name, f.Mode(), f.Modified.Equal(at), must(io.ReadAll(must(f.Open()))))
	}
	if want := "x/rempart -rwxr-xr-x true program\nx/LICENSE -rw-r--r-- true terms\n"; got != want {
		t.Errorf("the zip contains %q, want %q", got, want)
	}
}

// TestPackageSettings checks that a change of the household's file is noticed, since the settings of packages are made of it.
func TestPackageSettings(t *testing.T) {
	if _, err := packageSettings("\nREMPART_LISTEN=:5353\n"); err == nil || !strings.Contains(err.Error(), `"REMPART_LISTEN=:53"`) {
		t.Errorf("%v", err)
	}
}
