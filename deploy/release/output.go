package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aead.dev/minisign"
)

// sumsFile is the name of the file of checksums, in the format of sha256sum(1).
const sumsFile = "SHA256SUMS"

// output is the folder of the release's files.
type output struct {
	dir      string
	progress io.Writer
	sums     []string // a line of the file of checksums for each file
}

func createOutput(dir string, progress io.Writer) (*output, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("the folder %s is not empty: files of another release would be mixed with this one", dir)
	}
	return &output{dir: dir, progress: progress}, nil
}

// create creates a file whose content is written by write.
func (o *output) create(name string, write func(io.Writer) error) error {
	f, err := os.Create(filepath.Join(o.dir, name))
	if err != nil {
		return err
	}
	hash := sha256.New()
	size := &counter{}
	err = errors.Join(write(io.MultiWriter(f, hash, size)), f.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	o.sums = append(o.sums, fmt.Sprintf("%x  %s\n", hash.Sum(nil), name))
	_, err = fmt.Fprintf(o.progress, "%9.1f MB  %s\n", float64(size.bytes)/1e6, name)
	return err
}

func (o *output) write(name string, data []byte) error {
	return o.create(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writeSums writes the checksums of all files, and their signature if there is a key. comment is signed with them.
func (o *output) writeSums(key *minisign.PrivateKey, comment string) error {
	slices.SortFunc(o.sums, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	text := []byte(strings.Join(o.sums, ""))
	if err := o.write(sumsFile, text); err != nil {
		return err
	}
	if key == nil {
		return nil
	}
	return o.write(sumsFile+".minisig", minisign.SignWithComments(*key, text, comment, "signature of "+sumsFile))
}

// readKey reads a key of minisign(1); nil if path is empty.
func readKey(path, password string) (*minisign.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the key that signs: %w", err)
	}
	var key minisign.PrivateKey
	if minisign.IsEncrypted(data) {
		key, err = minisign.DecryptKey(password, data)
	} else {
		err = key.UnmarshalText(data)
	}
	if err != nil {
		return nil, fmt.Errorf("the key %s: %w (--password-file names its password)", path, err)
	}
	return &key, nil
}

// counter counts the bytes that are written to it.
type counter struct{ bytes int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}
