package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

const (
	summary     = "DNS protective filter"
	description = `Rempart forwards DNS queries to the resolvers of your choice, checks every
name against lists of phishing, malware and scam names, and answers a blocked
name with the address of a page that explains the block. It keeps no query log.`
)

// packager writes packages of one format.
type packager struct {
	nfpm.Packager
	format   string // "deb" or "rpm"
	arch     string
	scripts  nfpm.Scripts
	zsh      string // the folder of completions of zsh
	requires []string
}

// writePackages writes the .deb and the .rpm of a target.
func writePackages(out *output, s *source, t target, program string, d *documents, work string) error {
	for _, p := range []packager{
		{deb.Default, "deb", t.deb, nfpm.Scripts{PostInstall: "deb-postinst", PreRemove: "deb-prerm", PostRemove: "deb-postrm"}, "/usr/share/zsh/vendor-completions", []string{"systemd | systemd-standalone-sysusers | systemd-sysusers"}},
		{rpm.DefaultRPM, "rpm", t.rpm, nfpm.Scripts{PostInstall: "rpm-post", PreRemove: "rpm-preun", PostRemove: "rpm-postun"}, "/usr/share/zsh/site-functions", []string{"systemd"}},
	} {
		stage := &staging{source: s, dir: filepath.Join(work, t.name(), p.format)}
		if err := p.write(out, s, program, d, stage); err != nil {
			return fmt.Errorf("the .%s for %s: %w", p.format, t.name(), err)
		}
	}
	return nil
}

func (p packager) write(out *output, s *source, program string, d *documents, stage *staging) error {
	p.stageFiles(stage, program, d, s)
	for script, name := range map[*string]string{&p.scripts.PostInstall: p.scripts.PostInstall, &p.scripts.PreRemove: p.scripts.PreRemove, &p.scripts.PostRemove: p.scripts.PostRemove} {
		*script = stage.store(name, d.packaging.scripts[name])
	}
	if stage.err != nil {
		return stage.err
	}
	text := description
	if p.format == "deb" { // its first line is the summary, for which an .rpm has a field
		text = summary + "\n" + text
	}
	info := nfpm.WithDefaults(&nfpm.Info{
		Name: "rempart", Arch: p.arch, Platform: "linux", Version: packageVersion(s.version), VersionSchema: "none", Release: "1",
		Section: "net", Priority: "optional", Maintainer: s.maintainer, Vendor: "Rempart", Description: text, Homepage: s.url, License: "Apache-2.0", MTime: s.time,
		DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Contents: stage.contents, Scripts: p.scripts, Depends: p.requires, Umask: 0o022,
			RPM: nfpm.RPM{Arch: p.arch, Summary: summary, BuildHost: "localhost", Packager: s.maintainer},
			Deb: nfpm.Deb{Arch: p.arch},
		},
	})
	if err := nfpm.PrepareForPackager(info, p.format); err != nil {
		return err
	}
	return out.create(p.ConventionalFileName(info), func(w io.Writer) error { return p.Package(info, w) })
}

// packageVersion returns a version as packages order it: 1.2.0~rc.1 is older than 1.2.0.
func packageVersion(version string) string {
	base, pre, found := strings.Cut(version, "-")
	if !found {
		return version
	}
	return base + "~" + strings.ReplaceAll(pre, "-", ".")
}

// stageFiles adds the files of the package.
func (p packager) stageFiles(stage *staging, program string, d *documents, s *source) {
	const doc = "/usr/share/doc/rempart/"
	stage.add("/usr/bin/rempart", files.TypeFile, 0o755, readStaged(stage, program))
	for _, unit := range d.packaging.units {
		stage.add("/usr/lib/systemd/system/"+unit.name, files.TypeFile, 0o644, unit.data)
	}
	stage.add("/usr/lib/sysusers.d/rempart.conf", files.TypeFile, 0o644, d.packaging.sysusers)
	// Settings can hold tokens and passwords: systemd reads them as root.
	stage.add("/etc/rempart/rempart.env", files.TypeConfigNoReplace, 0o640, d.packaging.settings)
	for _, f := range d.packaging.household {
		stage.add("/etc/rempart/"+f.name, files.TypeConfigNoReplace, 0o644, f.data)
	}
	stage.add("/usr/share/bash-completion/completions/rempart", files.TypeFile, 0o644, d.completions.bash)
	stage.add(p.zsh+"/_rempart", files.TypeFile, 0o644, d.completions.zsh)
	stage.add("/usr/share/fish/vendor_completions.d/rempart.fish", files.TypeFile, 0o644, d.completions.fish)
	for _, page := range d.manual {
		stage.add("/usr/share/man/man8/"+page.name+".gz", files.TypeFile, 0o644, zipped(page.data))
	}
	for _, f := range d.tree {
		switch {
		case f.name == "CHANGELOG.md" && p.format == "deb":
			stage.add(doc+"changelog.gz", files.TypeFile, 0o644, zipped(f.data))
		case f.name == "LICENSE" && p.format == "rpm":
			stage.add("/usr/share/licenses/rempart/LICENSE", files.TypeRPMLicence, 0o644, f.data)
		case f.name != "LICENSE": // Debian has the Apache licence in /usr/share/common-licenses
			stage.add(doc+f.name, files.TypeFile, 0o644, f.data)
		}
	}
	if p.format == "rpm" {
		stage.add("/usr/share/licenses/rempart/LICENCES.txt", files.TypeRPMLicence, 0o644, d.licences)
		return
	}
	stage.add(doc+"LICENCES.txt.gz", files.TypeFile, 0o644, zipped(d.licences))
	stage.add(doc+"copyright", files.TypeFile, 0o644, debianCopyright(s))
	stage.add(doc+"changelog.Debian.gz", files.TypeFile, 0o644, zipped(debianChangelog(s)))
	stage.add("/usr/share/lintian/overrides/rempart", files.TypeFile, 0o644, []byte(lintianOverrides))
}

// lintianOverrides says why the package differs from Debian's rules.
const lintianOverrides = `# Go programs are static: there is nothing to link to.
rempart: statically-linked-binary [usr/bin/rempart]
# No bug of Debian asks for this package.
rempart: initial-upload-closes-no-bugs [usr/share/doc/rempart/changelog.Debian.gz:1]
# The settings can hold tokens and passwords.
rempart: non-standard-file-perm 0640 != 0644 [etc/rempart/rempart.env]
`

func debianCopyright(s *source) []byte {
	source := s.url
	if source == "" {
		source = "commit " + s.commit
	}
	return []byte(`Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: rempart
Source: ` + source + `

Files: *
Copyright: ` + s.time.Format("2006") + `, the authors of Rempart
License: Apache-2.0
Comment: The program contains Go modules under their own licences: see
 /usr/share/doc/rempart/LICENCES.txt.gz.

License: Apache-2.0
 On Debian systems, the text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
`)
}

func debianChangelog(s *source) []byte {
	return fmt.Appendf(nil, "rempart (%s-1) stable; urgency=medium\n\n  * The changes of this version are in /usr/share/doc/rempart/changelog.gz.\n\n -- %s  %s\n",
		packageVersion(s.version), s.maintainer, s.time.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
}

// staging writes the files of a package to a folder, because nfpm reads files. After an error it does nothing more.
type staging struct {
	source   *source
	dir      string
	contents files.Contents
	err      error
}

// add adds a file, and the folders above it that belong to this package only: rpm removes only folders that it knows.
func (s *staging) add(destination, kind string, mode fs.FileMode, data []byte) {
	for dir := path.Dir(destination); strings.Contains(dir, "/rempart"); dir = path.Dir(dir) {
		if !s.contents.ContainsDestination(dir) {
			s.contents = append(s.contents, &files.Content{Destination: dir, Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: 0o755, MTime: s.source.time}})
		}
	}
	source := s.store(filepath.FromSlash(destination), data)
	s.contents = append(s.contents, &files.Content{
		Source: source, Destination: destination, Type: kind, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: s.source.time, Size: int64(len(data))},
	})
}

// store writes a file and returns its path.
func (s *staging) store(name string, data []byte) string {
	path := filepath.Join(s.dir, name)
	if s.err == nil {
		s.err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if s.err == nil {
		s.err = os.WriteFile(path, data, 0o644)
	}
	return path
}

func readStaged(s *staging, path string) []byte {
	data, err := os.ReadFile(path)
	if s.err == nil {
		s.err = err
	}
	return data
}

// zipped compresses as gzip -9n does.
func zipped(data []byte) []byte {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		panic(err) // the level is valid
	}
	_, _ = z.Write(data) // a bytes.Buffer accepts everything
	_ = z.Close()
	return slices.Clip(b.Bytes())
}
