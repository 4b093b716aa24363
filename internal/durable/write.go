// Package durable writes files that survive a crash: a new file is written next to the old one, synced, and renamed over it; and it maps files for reading. It
// never truncates a file or writes to it in place, so that every reader keeps the content that it opened.
package durable

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A temporary file is named ".<name>.<random>.rempart-tmp", so that Clean does not remove another program's file.
const tempSuffix = ".rempart-tmp"

// WriteFile replaces the file at path by what write writes: into a temporary file of the
// same folder, synced, renamed over path, and the folder synced. When it returns nil the new
// content outlives a crash; on any error, one of write included, path holds what it held
// before and the temporary file is gone. The one exception is an error of the last step, the
// sync of the folder: the new content is in place, but a crash may still bring the old back.
// The writer given to write is buffered and must not be used after write returns. The file is
// readable by its owner only.
func WriteFile(path string, write func(io.Writer) error) error {
	return writeFile(path, privateMode, write)
}

// WriteMode writes a file as WriteBytes does, but with the permissions mode, whatever the umask is. The file never exists under its name with other permissions.
func WriteMode(path string, data []byte, mode fs.FileMode) error {
	return writeFile(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func writeFile(path string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := CreateTemp(dir, base)
	if err != nil {
		return err
	}
	renamed := false
	defer func() { // also when write panics
		if !renamed {
			err = errors.Join(err, ignoreClosed(f.Close()), os.Remove(f.Name()))
		}
	}()
	buf := bufio.NewWriterSize(f, 256<<10)
	if err := write(buf); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	if mode != privateMode {
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // some file systems report a full disk only here
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	renamed = true
	return syncDir(dir)
}

// privateMode is the mode of the files that os.CreateTemp makes.
const privateMode fs.FileMode = 0o600

// CreateTemp creates a temporary file in dir, named after name and readable by its owner only. The caller closes and removes it; after a crash, Clean does.
func CreateTemp(dir, name string) (*os.File, error) {
	return os.CreateTemp(dir, "."+name+".*"+tempSuffix)
}

// WriteBytes is WriteFile with data.
func WriteBytes(path string, data []byte) error { return WriteMode(path, data, privateMode) }

// Rename renames a file that WriteFile wrote over another of the same folder, and syncs the folder.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	return syncDir(filepath.Dir(to))
}

// Clean removes the temporary files that a crash left in dir. Only the process that holds the folder's Lock may call it: a temporary file of a running
// WriteFile looks the same.
func Clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("clean: %w", err)
	}
	var errs []error
	for _, e := range entries {
		name := e.Name()
		if !e.Type().IsRegular() || !strings.HasPrefix(name, ".") || !strings.HasSuffix(name, tempSuffix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("clean: %w", err))
		}
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}
