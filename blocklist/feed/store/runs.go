package store

import (
	"bufio"
	"errors"
	"io"
	"os"
	"runtime"

	"rempart/blocklist"
)

// Runs are parts of a list that is too long to be collected in memory. Their files have no name: they are removed with the process.
type Runs struct {
	dir    string
	inputs []*blocklist.Input
}

// NewRuns returns runs without a part.
func (s Store) NewRuns() *Runs { return &Runs{dir: s.Dir} }

// Inputs returns the parts. It may be called on nil, which has none.
func (r *Runs) Inputs() []*blocklist.Input {
	if r == nil {
		return nil
	}
	return r.inputs
}

// Add writes a part.
func (r *Runs) Add(input *blocklist.Input) error {
	f, err := os.CreateTemp(r.dir, ".run.*"+NewBodySuffix)
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	w := bufio.NewWriterSize(f, 256<<10)
	err = blocklist.Copy{Inputs: []*blocklist.Input{input}}.Write(w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	size, err := f.Seek(0, io.SeekCurrent)
	if err == nil {
		input, err = blocklist.OpenInput(f, size)
	}
	if err == nil {
		runtime.AddCleanup(input, func(f *os.File) { f.Close() }, f)
		r.inputs = append(r.inputs, input)
	}
	return err
}
