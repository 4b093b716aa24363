package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"rempart/internal/durable"
	"rempart/internal/journal"
	"rempart/internal/pause"
)

const (
	keepRecords = 10_000        // number of records before the newest one
	keepObjects = 2 * time.Hour // after the next snapshot was published
	folderRetry = 10 * time.Second
)

// Folder writes a journal as files for a web server or CDN. The files that head refers to are written before head.
type Folder struct {
	dir         string
	epoch       uint64
	lastVersion uint64 // version of the newest record in the folder
}

// NewFolder creates the folder's subfolders.
func NewFolder(dir string) (*Folder, error) {
	for _, d := range []string{"records", "objects"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
	return &Folder{dir: dir}, nil
}

// Run keeps the folder up to date until ctx ends. It calls report with each error, and tries again.
func (f *Folder) Run(ctx context.Context, j Journal, report func(error)) error {
	version := uint64(0)
	for ctx.Err() == nil {
		waiting, cancel := context.WithTimeout(ctx, journal.HeartbeatEvery)
		head := j.Beat(waiting, version)
		cancel()
		if head == nil || ctx.Err() != nil {
			continue
		}
		h, err := journal.PeekHeartbeat(head)
		switch {
		case err == nil && h.Version == version:
			err = f.write("head", head) // shows readers that control is running
		case err == nil:
			err = f.update(ctx, j, h.Version, head)
		}
		if err != nil && ctx.Err() == nil {
			report(err)
			pause.For(ctx, folderRetry)
			continue
		}
		version = h.Version
	}
	return nil
}

// update writes new files, head last.
func (f *Folder) update(ctx context.Context, j Journal, version uint64, head []byte) error {
	newest, err := j.Newest(ctx)
	if err != nil {
		return err
	}
	r, _, err := journal.ReadRecord(newest.Data)
	if err != nil {
		return err
	}
	if version < r.Version {
		return nil // the next heartbeat includes the snapshot's version, and perhaps its epoch
	}
	for _, name := range r.Snapshot.Names() {
		if err := f.copyObject(ctx, j, name); err != nil {
			return err
		}
	}
	if err := f.write("snapshot", newest.Data); err != nil {
		return err
	}
	from := f.lastVersion + 1
	if f.lastVersion == 0 || r.Epoch != f.epoch || version > f.lastVersion+keepRecords {
		from = r.Version // older records are not needed, and an epoch does not continue the versions of the last one
	}
	for v := from; v <= version; v++ {
		if err := f.copyRecord(ctx, j, v, r.Version); err != nil {
			return err
		}
	}
	f.epoch, f.lastVersion = r.Epoch, version
	if err := f.write("head", head); err != nil {
		return err
	}
	return f.removeOld(r.Snapshot.Names(), version)
}

// copyRecord writes the record of a version, and the objects that it announces. newest is the version of the newest snapshot.
func (f *Folder) copyRecord(ctx context.Context, j Journal, version, newest uint64) error {
	data, err := j.Record(ctx, version)
	if errors.Is(err, journal.ErrLost) && version < newest {
		return nil // the newest snapshot replaces it
	}
	if err != nil {
		return fmt.Errorf("record %d: %w", version, err)
	}
	if r, _, err := journal.ReadRecord(data); err == nil && r.Snapshot != nil { // a follower that replays the record needs its objects, even if there is a newer snapshot
		for _, name := range r.Snapshot.Names() {
			_ = f.copyObject(ctx, j, name) // an object of an older snapshot may be deleted already; those of the newest were copied before
		}
	}
	return f.write("records/"+strconv.FormatUint(version, 10), data)
}

func (f *Folder) copyObject(ctx context.Context, j Journal, name string) error {
	path := filepath.Join(f.dir, "objects", name)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	o, err := j.Object(ctx, name)
	if err != nil {
		return err
	}
	defer o.Close()
	return writePublic(path, func(w io.Writer) error {
		_, err := io.Copy(w, o)
		return err
	})
}

func (f *Folder) write(name string, data []byte) error {
	return writePublic(filepath.Join(f.dir, filepath.FromSlash(name)), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// writePublic writes a file that all users may read, because the web server runs as another user.
func writePublic(path string, write func(io.Writer) error) error {
	if err := durable.WriteFile(path, write); err != nil {
		return err
	}
	return os.Chmod(path, 0o644)
}

// removeOld removes old records and objects. current holds the names of the objects to keep.
func (f *Folder) removeOld(current []string, version uint64) error {
	objects, err := os.ReadDir(filepath.Join(f.dir, "objects"))
	keep := map[string]bool{}
	for _, name := range current {
		keep[name] = true
	}
	var errs []error
	for _, e := range objects {
		info, err := e.Info()
		if err == nil && !keep[e.Name()] && time.Since(info.ModTime()) > keepObjects {
			errs = append(errs, os.Remove(filepath.Join(f.dir, "objects", e.Name())))
		}
	}
	records, listing := os.ReadDir(filepath.Join(f.dir, "records"))
	for _, e := range records {
		if v, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && v+keepRecords < version {
			errs = append(errs, os.Remove(filepath.Join(f.dir, "records", e.Name())))
		}
	}
	err = errors.Join(err, listing)
	return errors.Join(append(errs, err)...)
}
