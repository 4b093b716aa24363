package durable

import (
	"fmt"
	"os"
	"sync"
)

// Mapping is the content of a file, read-only, shared with the page cache if the system can map files. It does not change when the file is replaced or removed.
type Mapping struct {
	data []byte

	mu     sync.Mutex // guards Evict and Close, which may be called at the same time
	closed bool
}

// Map maps the regular file at path. The caller closes the Mapping when nothing reads its Data any more.
func Map(path string) (*Mapping, error) {
	info, err := os.Stat(path) // before opening: opening a pipe would wait for its other end
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, err
	}
	size := info.Size()
	if size == 0 { // no system maps an empty range
		return &Mapping{}, nil
	}
	if int64(int(size)) != size {
		return nil, fmt.Errorf("%s: %d bytes do not fit this machine's addresses", path, size)
	}
	data, err := mapFile(f, int(size))
	if err != nil {
		return nil, fmt.Errorf("map %s into memory: %w", path, err)
	}
	return &Mapping{data: data}, nil
}

// Data returns the content. It must not be written, or read after Close: either is a fault that ends the process.
func (m *Mapping) Data() []byte { return m.data }

// Evict removes the mapping's pages from the process's memory; a page that is read again is read from the file. It may be called while
// Data is being read; after Close it does nothing.
func (m *Mapping) Evict() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && len(m.data) > 0 {
		evict(m.data)
	}
}

// Close releases the memory. It may be called from any goroutine, and more than once.
func (m *Mapping) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed && m.data != nil {
		unmapFile(m.data)
		m.data = nil
	}
	m.closed = true
}
