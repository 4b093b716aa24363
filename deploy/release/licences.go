package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// licenceName matches the names of files with a licence, or with a notice that a licence requires to be passed on.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// listedPackage is a package in the output of go list.
type listedPackage struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path string }
	}
}

// collectLicences returns the texts of the licences of all modules whose packages are in a program of any target, and of Go: the same text for each target, so that
// the bytes of a package do not depend on the other targets of the build. A module without a licence is an error: its code could not be distributed.
func collectLicences(ctx context.Context, s *source) ([]byte, error) {
	modules := map[string]map[string]bool{} // module@version, and the paths of its licence files
	roots := map[string]string{}            // the folder of each module
	for _, t := range allTargets() {
		packages, err := s.packages(ctx, t)
		if err != nil {
			return nil, fmt.Errorf("listing the packages for %s: %w", t.name(), err)
		}
		for _, p := range packages {
			if p.Standard || p.Module == nil || p.Module.Main {
				continue
			}
			key := p.Module.Path + "@" + p.Module.Version
			if modules[key] == nil {
				modules[key], roots[key] = map[string]bool{}, p.Module.Dir
			}
			if err := findLicences(modules[key], p.Module.Dir, p.Dir); err != nil {
				return nil, fmt.Errorf("the licences of %s: %w", key, err)
			}
		}
	}
	goRoot, err := run(ctx, s.dir, s.goEnvironment(nil), "go", "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	goKey := "Go, its standard library and runtime, " + s.toolchain
	roots[goKey], modules[goKey] = strings.TrimSpace(string(goRoot)), map[string]bool{}
	if err := findLicences(modules[goKey], roots[goKey], roots[goKey]); err != nil {
		return nil, err
	}
	return joinLicences(modules, roots)
}

// packages returns the packages of the program for t.
func (s *source) packages(ctx context.Context, t target) ([]listedPackage, error) {
	out, err := run(ctx, s.dir, s.goEnvironment(t.environment()), "go", "list", "-deps", "-json=ImportPath,Dir,Standard,Module", "./cmd/rempart")
	if err != nil {
		return nil, err
	}
	var packages []listedPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// findLicences adds the licence files in dir and in the folders between it and root: a package may have a licence of its own.
func findLicences(found map[string]bool, root, dir string) error {
	for {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if !e.IsDir() && licenceName.MatchString(e.Name()) && filepath.Ext(e.Name()) != ".go" {
				found[filepath.Join(dir, e.Name())] = true
			}
		}
		if dir == root || len(dir) <= len(root) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}

func joinLicences(modules map[string]map[string]bool, roots map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("Rempart contains these modules. Each one is used under its licence.\n")
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(modules)) {
		if len(modules[key]) == 0 {
			missing = append(missing, key)
		}
		for _, path := range slices.Sorted(maps.Keys(modules[key])) {
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(roots[key], path)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "\n%s\n%s: %s\n\n%s\n", strings.Repeat("=", 80), key, filepath.ToSlash(name), bytes.TrimSpace(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))))
		}
	}
	if missing != nil {
		return nil, fmt.Errorf("no licence file was found for %s: such a module must not be in a release", strings.Join(missing, ", "))
	}
	return b.Bytes(), nil
}
