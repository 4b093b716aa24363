package stream

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// checkWritable returns an error if dir cannot be written. The error of nats-server would be less clear.
func checkWritable(dir string) error {
	path := filepath.Join(dir, ".writable")
	err := os.WriteFile(path, nil, 0o600)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("journal's folder cannot be written: %w", err)
	}
	return nil
}

// recovered returns an error if the folder holds a stream that the server, which has just started, could not read. Otherwise that stream would be
// created again, empty, and its sequence numbers would be used twice.
func checkRecovered(s *server.Server, dir string) error {
	if err := failedStreams(s); err != nil {
		return fmt.Errorf("journal's folder %s is damaged: restore it from a backup: %w", dir, err)
	}
	return nil
}

// removeUnfinishedStreams removes streams whose creation was interrupted: without a complete description, and without a message.
func removeUnfinishedStreams(dir string) error {
	streams := filepath.Join(dir, "jetstream", server.DEFAULT_GLOBAL_ACCOUNT, "streams")
	entries, err := os.ReadDir(streams)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("journal's folder: %w", err)
	}
	for _, entry := range entries {
		stream := filepath.Join(streams, entry.Name())
		keep, err := hasDescription(stream)
		if err == nil && !keep {
			keep, err = hasData(filepath.Join(stream, "msgs"))
		}
		if err != nil {
			return fmt.Errorf("journal's folder: %w", err)
		}
		if keep {
			continue
		}
		if err := os.RemoveAll(stream); err != nil {
			return fmt.Errorf("journal's folder: %w", err)
		}
	}
	return nil
}

// hasDescription reports whether a stream's folder holds its description and the description's checksum.
func hasDescription(stream string) (bool, error) {
	for _, name := range []string{server.JetStreamMetaFile, server.JetStreamMetaFileSum} {
		info, err := os.Stat(filepath.Join(stream, name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// hasData reports whether a folder holds a file that is not empty.
func hasData(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Size() > 0 {
			return true, err
		}
	}
	return false, err
}
