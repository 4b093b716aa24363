package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Debian's packages of programs that are not named like their package.
const (
	loadGenerator = "dnsperf"
	pinning       = "taskset" // of util-linux
)

// find looks for the programs, also in root's PATH. Its error names all that are missing, and how to install them.
func find(wanted []peer) (map[string]string, error) {
	paths := map[string]string{}
	var programs, packages []string
	look := func(program, pack string) {
		if path := lookPath(program); path != "" {
			paths[program] = path
			return
		}
		if programs = append(programs, program); !slices.Contains(packages, pack) {
			packages = append(packages, pack)
		}
	}
	look(loadGenerator, loadGenerator)
	look(pinning, "util-linux")
	for _, p := range wanted {
		if p.key == rempart || p.key == echo {
			continue // built here
		}
		look(p.program, p.key)
		if p.forget != nil {
			look(p.forget[0], p.key)
		}
	}
	if len(programs) > 0 {
		return nil, fmt.Errorf("not installed: %s; on Debian:\n  apt-get install --no-install-recommends %s\nor leave servers out with -servers",
			strings.Join(programs, ", "), strings.Join(packages, " "))
	}
	return paths, nil
}

func lookPath(program string) string {
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	return ""
}

// build builds this project's own programs into dir.
func build(ctx context.Context, dir string, paths map[string]string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto", "-o", dir+string(filepath.Separator), "rempart/cmd/rempart", "rempart/bench/echo", "rempart/bench/forward")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building Rempart: %w: %s", err, out)
	}
	for _, program := range []string{rempart, echo, forward} {
		paths[program] = filepath.Join(dir, program)
	}
	return nil
}

// versionText returns the first number that looks like a version; after the word if there are others before it.
var versionText = regexp.MustCompile(`(?:(?s:^.*)\bVersion )?(\d+\.\d+[\w.+~:-]*)`)

// versionOf returns the version that a program reports.
func versionOf(ctx context.Context, p peer, paths map[string]string) string {
	if p.ask == nil {
		return ""
	}
	out, err := exec.CommandContext(ctx, paths[p.program], p.ask...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return "unknown"
	}
	if p.key == rempart {
		return strings.TrimPrefix(strings.TrimSpace(string(out)), rempart+" ")
	}
	if v := versionText.FindSubmatch(out); v != nil {
		return string(v[1])
	}
	return "unknown"
}

// machine describes the machine, as far as /proc shows it.
type machine struct {
	CPU    string
	Cores  int
	Kernel string
	Go     string
}

func thisMachine() machine {
	m := machine{CPU: "unknown", Cores: runtime.NumCPU(), Kernel: "unknown", Go: runtime.Version()}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	return m
}
