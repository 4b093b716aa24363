package feed

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"

	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/fetch"
	"rempart/internal/durable"
)

// progressReader reads a file and reports its progress. Reading fails when ctx ends.
type progressReader struct {
	ctx    context.Context
	file   *os.File
	report func(Progress)
	list   string
	done   int64
	last   time.Time
}

// Progress is the progress of reading a list.
type Progress struct {
	List        string
	Done, Total int64 // bytes of the file
}

func (c *progressReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.file.Read(p)
	c.done += int64(n)
	if c.report == nil {
		return n, err
	}
	if now := time.Now(); now.Sub(c.last) > 100*time.Millisecond || errors.Is(err, io.EOF) {
		c.last = now
		if info, statErr := c.file.Stat(); statErr == nil {
			c.report(Progress{c.list, min(c.done, info.Size()), info.Size()})
		}
	}
	return n, err
}

func (c *progressReader) ReadAt(p []byte, off int64) (int, error)   { return c.file.ReadAt(p, off) }
func (c *progressReader) Seek(off int64, whence int) (int64, error) { return c.file.Seek(off, whence) }

// hashFile returns the hash of the content of a list.
func hashFile(path string) (uint64, error) {
	f, err := durable.OpenRegular(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	hash := xxhash.New()
	if _, err := io.Copy(hash, bounded.NewReader(f, fetch.MaxBody)); err != nil {
		return 0, err
	}
	return hash.Sum64(), nil
}
