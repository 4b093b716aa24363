package statistics

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"
)

// Published holds the public numbers of a folder in their formats. It reads the folder again when a day was added, so that any number of readers costs the memory and the
// work of one. It is safe for concurrent use.
type Published struct {
	dir string

	mu      sync.Mutex
	changed time.Time // of the folder, when it was read
	csv     []byte
	json    []byte
}

// NewPublished returns the public numbers of the days in a folder.
func NewPublished(dir string) *Published { return &Published{dir: dir} }

// CSV returns the numbers as WriteCSV writes them, and when they changed. The caller must not change the bytes.
func (p *Published) CSV() (data []byte, changed time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.read()
	return p.csv, p.changed, err
}

// JSON returns the numbers as WriteJSON writes them, and when they changed. The caller must not change the bytes.
func (p *Published) JSON() (data []byte, changed time.Time, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.read()
	return p.json, p.changed, err
}

// read reads the folder if a day was added. p.mu is held.
func (p *Published) read() error {
	dates, err := days(p.dir)
	if err != nil || len(dates) == 0 {
		return errors.Join(err, p.write([]Row{}, p.changed))
	}
	info, err := os.Stat(fileOf(p.dir, dates[len(dates)-1]))
	if err != nil {
		return err
	}
	if info.ModTime().Equal(p.changed) {
		return nil
	}
	rows, err := Read(p.dir, keepDays)
	if err != nil {
		return err
	}
	return p.write(rows, info.ModTime())
}

// write writes rows in both formats. p.mu is held.
func (p *Published) write(rows []Row, changed time.Time) error {
	var asCSV, asJSON bytes.Buffer
	if err := WriteCSV(&asCSV, rows); err != nil {
		return err
	}
	if err := WriteJSON(&asJSON, rows); err != nil {
		return err
	}
	p.csv, p.json, p.changed = asCSV.Bytes(), asJSON.Bytes(), changed
	return nil
}
