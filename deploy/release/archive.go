package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// writeArchive writes the archive of a target: the program and everything that is needed to install it by hand.
func writeArchive(out *output, s *source, t target, program string, d *documents) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("rempart_%s_%s", s.version, t.name())
	entries := []file{
		{name: t.program(), data: content, executable: true}, {name: "LICENCES.txt", data: d.licences},
		{name: "completions/rempart.bash", data: d.completions.bash}, {name: "completions/_rempart", data: d.completions.zsh}, {name: "completions/rempart.fish", data: d.completions.fish},
	}
	entries = append(entries, d.tree...)
	for _, page := range d.manual {
		entries = append(entries, file{name: "man/" + page.name, data: page.data})
	}
	slices.SortFunc(entries, func(a, b file) int { return strings.Compare(a.name, b.name) })
	for i := range entries {
		entries[i].name = name + "/" + entries[i].name
	}
	if t.os == "windows" {
		return out.create(name+".zip", func(w io.Writer) error { return writeZip(w, entries, s.time) })
	}
	return out.create(name+".tar.gz", func(w io.Writer) error {
		z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		if err := writeTar(z, entries, s.time); err != nil {
			return err
		}
		return z.Close()
	})
}

// mode returns the permissions of f in an archive.
func (f file) mode() fs.FileMode {
	if f.executable {
		return 0o755
	}
	return 0o644
}

func writeTar(w io.Writer, entries []file, at time.Time) error {
	t := tar.NewWriter(w)
	for _, e := range entries {
		if err := t.WriteHeader(&tar.Header{Name: e.name, Mode: int64(e.mode()), Size: int64(len(e.data)), ModTime: at, Format: tar.FormatPAX}); err != nil {
			return err
		}
		if _, err := t.Write(e.data); err != nil {
			return err
		}
	}
	return t.Close()
}

func writeZip(w io.Writer, entries []file, at time.Time) error {
	z := zip.NewWriter(w)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at}
		h.SetMode(e.mode())
		f, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		if _, err := f.Write(e.data); err != nil {
			return err
		}
	}
	return z.Close()
}
