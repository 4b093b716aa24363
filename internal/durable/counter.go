package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"sync"
)

// Counter returns increasing numbers, across restarts and crashes. It is safe for concurrent use within one process; the folder's Lock excludes other
// processes.
type Counter struct {
	path string

	mu   sync.Mutex
	last uint64 // highest number returned
}

// counterSlack is how far above the derived number a counter starts if its file is lost: numbers that were returned and left no other trace must not be
// returned again.
const counterSlack = 1000

// OpenCounter reads the counter at path; a file that does not exist is a counter that has handed out nothing. The counter is of use in any case: where the file
// cannot be read, or holds anything but one decimal number, it begins well above what derive returns, the highest number that is known from elsewhere, and the
// error, which accompanies it, says so.
func OpenCounter(path string, derive func() uint64) (*Counter, error) {
	last, err := readCounter(path)
	if err == nil {
		return &Counter{path: path, last: last}, nil
	}
	derived := derive()
	last = derived + min(counterSlack, math.MaxUint64-derived)
	return &Counter{path: path, last: last}, fmt.Errorf("counter %s: %w; versions continue above %d, which was derived from what is in force", path, err, last)
}

func readCounter(path string) (uint64, error) {
	f, err := OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return 0, err
	}
	last, err := strconv.ParseUint(strings.TrimSuffix(string(text), "\n"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("it holds %.30q, not a number", text)
	}
	return last, nil
}

// Next returns a number higher than every number returned before and higher than above. It is on disk before Next returns; if it could not be written, Next
// returns an error.
func (c *Counter) Next(above uint64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := max(c.last, above)
	if n == math.MaxUint64 {
		return 0, fmt.Errorf("counter %s: no number is left", c.path)
	}
	n++
	err := WriteBytes(c.path, fmt.Appendf(nil, "%d\n", n))
	if err != nil {
		return 0, fmt.Errorf("counter: %w", err)
	}
	c.last = n
	return n, nil
}
