// Command release builds a release of Rempart from one commit: programs, archives, packages, container images, inventories of their components (SBOM), licences
// and checksums. The same commit gives the same bytes on every machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, err := parseOptions(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err == nil:
		err = release(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// options are the arguments of the program.
type options struct {
	repository string // a folder of the repository
	commit     string
	version    string // without v; empty: the tag of the commit, else a version made of its time and hash
	out        string
	targets    []target
	maintainer string // of the packages; empty: the committer
	url        string // of the project; empty: none is named
	sign       string // file of a minisign key; empty: no signature
	password   string // of the key
}

func parseOptions(args []string, stderr io.Writer) (options, error) {
	var o options
	var names, passwordFile string
	f := flag.NewFlagSet("release", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.repository, "repository", ".", "a `folder` of the repository")
	f.StringVar(&o.commit, "commit", "HEAD", "the `commit` to build; uncommitted changes are never part of a release")
	f.StringVar(&o.version, "version", "", "the `version`, such as 1.2.0 or 1.2.0-rc.1 (default: the tag of the commit, else a version made of its time and hash)")
	f.StringVar(&o.out, "out", "", "the `folder` for the files; it must be empty or not exist")
	f.StringVar(&names, "targets", "all", "`targets`, separated by commas: "+targetNames(allTargets()))
	f.StringVar(&o.maintainer, "maintainer", "", "who publishes the packages, as `\"Name <address>\"` (default: the committer of the commit)")
	f.StringVar(&o.url, "url", "", "the `URL` of the project for packages and images")
	f.StringVar(&o.sign, "sign", "", "sign SHA256SUMS with the minisign key in this `file`")
	f.StringVar(&passwordFile, "password-file", "", "the `file` with the password of the key (default: the key has no password)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: --help lists the flags", f.Arg(0))
	}
	if o.out == "" {
		return o, errors.New("--out is missing: name the folder for the files of the release")
	}
	var err error
	if o.targets, err = findTargets(names); err != nil {
		return o, err
	}
	if passwordFile != "" {
		password, err := os.ReadFile(passwordFile)
		if err != nil {
			return o, fmt.Errorf("reading the password of the key: %w", err)
		}
		o.password = strings.TrimRight(string(password), "\r\n")
	}
	return o, nil
}

// release builds everything into o.out. It writes the name of each finished file to progress.
func release(ctx context.Context, o options, progress io.Writer) error {
	key, err := readKey(o.sign, o.password) // before the work: a wrong password is reported at once
	if err != nil {
		return err
	}
	out, err := createOutput(o.out, progress)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "rempart-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	src, err := checkOut(ctx, o, work)
	if err != nil {
		return err
	}
	docs, err := collectDocuments(ctx, src, work)
	if err != nil {
		return err
	}
	if err := out.write("rempart_"+src.version+"_licences.txt", docs.licences); err != nil {
		return err
	}
	var images []platformImage
	for _, t := range o.targets {
		program, err := src.build(ctx, t, work)
		if err != nil {
			return err
		}
		if err := writeInventory(out, src, t, program); err != nil {
			return err
		}
		if err := writeArchive(out, src, t, program, docs); err != nil {
			return err
		}
		if !t.isLinux() {
			continue
		}
		if err := writePackages(out, src, t, program, docs, work); err != nil {
			return err
		}
		image, err := buildImage(src, t, program, docs)
		if err != nil {
			return err
		}
		images = append(images, platformImage{t, image})
	}
	if err := writeImages(out, src, images, work); err != nil {
		return err
	}
	return out.writeSums(key, "rempart "+src.version+" "+src.commit)
}
