package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// file is a file of the release whose content is the same for all targets.
type file struct {
	name       string // with slashes, below the folder that it is shown in
	data       []byte
	executable bool
}

// documents are the files that accompany the program.
type documents struct {
	tree        []file // LICENSE, README.md, CHANGELOG.md and deploy, as in the repository
	completions completions
	manual      []file // of section 8, such as rempart-check.8
	licences    []byte // of all modules in the programs
	packaging   packaging
}

// completions are the scripts by which shells complete commands and flags.
type completions struct{ bash, zsh, fish []byte }

// packaging holds the files of the repository that packages install or run.
type packaging struct {
	units     []file // deploy/systemd: NAME.service and NAME.socket
	sysusers  []byte
	settings  []byte // /etc/rempart/rempart.env
	household []file // the other files of /etc/rempart
	scripts   map[string][]byte
}

// collectDocuments reads the documents of the commit, and asks a program built for this machine about its commands.
func collectDocuments(ctx context.Context, s *source, work string) (*documents, error) {
	d := &documents{}
	listed, err := run(ctx, s.dir, nil, "git", "ls-files", "--format=%(objectmode) %(path)", "--", "LICENSE", "README.md", "CHANGELOG.md", "deploy")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(listed)) {
		mode, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if strings.HasPrefix(name, "deploy/release/") || strings.HasPrefix(path.Base(name), ".") { // .gitignore is of use in the repository only
			continue
		}
		data, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		d.tree = append(d.tree, file{name, data, mode == "100755"})
	}
	if d.licences, err = collectLicences(ctx, s); err != nil {
		return nil, err
	}
	if d.packaging, err = collectPackaging(s.dir, d); err != nil {
		return nil, err
	}
	host := filepath.Join(work, "host", "rempart")
	if err := s.goBuild(ctx, []string{"CGO_ENABLED=0", "GOFLAGS="}, host); err != nil {
		return nil, fmt.Errorf("building the program that prints its manual: %w", err)
	}
	for shell, script := range map[string]*[]byte{"bash": &d.completions.bash, "zsh": &d.completions.zsh, "fish": &d.completions.fish} {
		if *script, err = run(ctx, work, nil, host, "completion", shell); err != nil {
			return nil, err
		}
	}
	d.manual, err = writeManual(ctx, s, host)
	return d, err
}

// data returns the content of a file of the tree; nil if the commit has no such file.
func (d *documents) data(name string) []byte {
	for _, f := range d.tree {
		if f.name == name {
			return f.data
		}
	}
	return nil
}
