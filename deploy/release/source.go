package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// source is the commit that is released, in a clone of its own: files that are not committed cannot become part of the release.
type source struct {
	dir        string // of the clone
	version    string // without v
	commit     string
	time       time.Time // of the commit: the only time in the files of the release
	maintainer string    // "Name <address>"
	url        string    // "" if none is named
	toolchain  string    // the version of Go that go.mod requires, as in "go1.26.8"
}

// checkOut clones the commit into a folder in work.
func checkOut(ctx context.Context, o options, work string) (*source, error) {
	s := &source{dir: filepath.Join(work, "source"), url: o.url, maintainer: o.maintainer}
	git := func(dir string, args ...string) (string, error) {
		out, err := run(ctx, dir, nil, "git", args...)
		return strings.TrimSpace(string(out)), err
	}
	top, err := git(o.repository, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	described, err := git(top, "log", "-1", "--format=%H%n%ct%n%cn <%ce>", o.commit, "--")
	if err != nil {
		return nil, err
	}
	lines := strings.SplitN(described, "\n", 3)
	s.commit = lines[0]
	seconds, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the time of commit %s: %w", s.commit, err)
	}
	s.time = time.Unix(seconds, 0).UTC()
	if s.maintainer == "" {
		s.maintainer = lines[2]
	}
	if _, err := git(work, "clone", "--quiet", "--shared", "--no-checkout", "--no-tags", top, s.dir); err != nil {
		return nil, err
	}
	if _, err := git(s.dir, "-c", "core.autocrlf=false", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false", "checkout", "--quiet", s.commit); err != nil {
		return nil, err
	}
	tags, err := git(top, "tag", "--points-at", s.commit)
	if err != nil {
		return nil, err
	}
	tag, err := chooseTag(o.version, strings.Fields(tags))
	if err != nil {
		return nil, err
	}
	if tag == "" {
		s.version = module.PseudoVersion("v0", "", s.time, s.commit[:12])[1:]
	} else {
		// Go writes the tag of the commit into the program. The tag exists in the clone only.
		if _, err := git(s.dir, "tag", tag); err != nil {
			return nil, err
		}
		s.version = tag[1:]
	}
	s.toolchain, err = requiredGo(s.dir)
	return s, err
}

// chooseTag returns the tag of a version, or else the highest tag of the commit that is a version; "" if there is none.
func chooseTag(version string, tags []string) (string, error) {
	if version != "" {
		tag := "v" + version
		if semver.Canonical(tag) != tag || semver.Compare(tag, "v2.0.0-0") >= 0 {
			return "", fmt.Errorf("%q is not a version that Go accepts for the module rempart: write 0.1.0, 1.2.0 or 1.2.0-rc.1", version)
		}
		return tag, nil
	}
	highest := ""
	for _, tag := range tags {
		if semver.Canonical(tag) == tag && semver.Compare(tag, "v2.0.0-0") < 0 && semver.Compare(tag, highest) > 0 {
			highest = tag
		}
	}
	return highest, nil
}

// requiredGo returns the version of Go in the go.mod file of the clone. This program must run with it as well, since the compression of Go's library is part of
// the released bytes.
func requiredGo(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	line := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(text)
	if line == nil {
		return "", fmt.Errorf("go.mod of the commit has no line \"go VERSION\"")
	}
	required := "go" + string(line[1])
	if runtime.Version() != required {
		return "", fmt.Errorf("the commit is released with %s, and this program runs with %s: run it with GOTOOLCHAIN=%s", required, runtime.Version(), required)
	}
	return required, nil
}

// build builds the program for t in a folder in work, and returns its path.
func (s *source) build(ctx context.Context, t target, work string) (string, error) {
	path := filepath.Join(work, t.name(), t.program())
	if err := s.goBuild(ctx, t.environment(), path); err != nil {
		return "", fmt.Errorf("building for %s: %w", t.name(), err)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	if got := info.Main.Version; got != "v"+s.version {
		return "", fmt.Errorf("building for %s: the program has the version %s, want v%s: does the clone of the commit have other tags or changes?", t.name(), got, s.version)
	}
	return path, nil
}

// goBuild builds without paths of this machine, and without tables for debuggers, which are a third of the program: a stack trace does not need them.
func (s *source) goBuild(ctx context.Context, environment []string, path string) error {
	_, err := run(ctx, s.dir, s.goEnvironment(environment), "go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", path, "./cmd/rempart")
	return err
}

func (s *source) goEnvironment(more []string) []string {
	return append([]string{"GOTOOLCHAIN=" + s.toolchain}, more...)
}

// run runs a command in dir, with variables in addition to those of this process, and returns its output. The error contains what it wrote to standard error.
func run(ctx context.Context, dir string, environment []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), environment...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}
