package main

import (
	"fmt"
	"strings"
)

// target is a system for which programs are built.
type target struct {
	os, arch string
	variant  string // GOARM; empty elsewhere
	deb, rpm string // the names that packages have for arch; empty: no packages
}

func (t target) isLinux() bool { return t.os == "linux" }

// name returns the target as it is written in the names of files.
func (t target) name() string {
	if t.variant != "" {
		return t.os + "_" + t.arch + "v" + t.variant
	}
	return t.os + "_" + t.arch
}

// program returns the name of the program's file.
func (t target) program() string {
	if t.os == "windows" {
		return "rempart.exe"
	}
	return "rempart"
}

// environment returns the variables by which Go builds for t. Every variable that changes the program is set, so that the settings of a machine have no effect.
func (t target) environment() []string {
	return []string{
		"GOOS=" + t.os, "GOARCH=" + t.arch, "GOARM=" + t.variant, "GOAMD64=v1", "GOARM64=v8.0", "GORISCV64=rva20u64", "CGO_ENABLED=0", "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off",
		"GODEBUG=", "GOWORK=off",
	}
}

// allTargets returns the targets of a release, in the order in which they are built.
func allTargets() []target {
	return []target{
		{os: "linux", arch: "amd64", deb: "amd64", rpm: "x86_64"},
		{os: "linux", arch: "arm64", deb: "arm64", rpm: "aarch64"},
		{os: "linux", arch: "arm", variant: "7", deb: "armhf", rpm: "armv7hl"},
		{os: "linux", arch: "riscv64", deb: "riscv64", rpm: "riscv64"},
		{os: "darwin", arch: "amd64"},
		{os: "darwin", arch: "arm64"},
		{os: "freebsd", arch: "amd64"},
		{os: "windows", arch: "amd64"},
		{os: "windows", arch: "arm64"},
	}
}

func targetNames(targets []target) string {
	var names []string
	for _, t := range targets {
		names = append(names, t.name())
	}
	return strings.Join(names, ", ")
}

// findTargets returns the named targets in the order of allTargets, whatever their order in names.
func findTargets(names string) ([]target, error) {
	all := allTargets()
	if names == "all" {
		return all, nil
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(names, ",") {
		wanted[strings.TrimSpace(name)] = true
	}
	var found []target
	for _, t := range all {
		if wanted[t.name()] {
			found = append(found, t)
			delete(wanted, t.name())
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("there is no target %q: the targets are %s", name, targetNames(all))
	}
	return found, nil
}
