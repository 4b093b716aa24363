package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Counter hands out numbers that only rise, across restarts and crashes. It is safe for
// concurrent use within one process; the folder's Lock keeps other processes out.
type Counter struct {
	path string

	mu   sync.Mutex
	last uint64 // highest number handed out
}

// OpenCounter reads the counter at path; a file that does not exist is a counter that has
// handed out nothing. A file that holds anything but one decimal number is an error: to guess
// would be to hand out a number twice.
func OpenCounter(path string) (*Counter, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Counter{path: path}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("counter: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 64))
	if err != nil {
		return nil, fmt.Errorf("counter: %w", err)
	}
	last, err := strconv.ParseUint(strings.TrimSuffix(string(text), "\n"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("counter %s holds %.30q, not a number: write in it, as decimal digits, "+
			"a number no lower than the highest version ever in force", path, text)
	}
	return &Counter{path: path, last: last}, nil
}

// Next is a number higher than every number handed out before and higher than above. It is on
// disk before Next returns; when it could not be written there, it is not handed out.
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
