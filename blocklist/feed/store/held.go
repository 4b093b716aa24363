package store

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"

	"rempart/internal/durable"
)

// Held is a listing that a guard refuses or holds, or a line that was not understood.
type Held struct {
	List    string `json:"list,omitempty"`
	Line    int    `json:"line"` // the number of the line, or of the entry of a JSON list
	Name    string `json:"name,omitempty"`
	Outcome string `json:"outcome"` // "refuse" or "hold"
	Guard   string `json:"guard"`   // the name of the guard, or the format.Reason of a line
	Why     string `json:"why,omitempty"`
	Rank    int    `json:"rank,omitempty"` // in the popularity list
}

// SaveHeld writes the held and refused entries of a list.
func (s Store) SaveHeld(key string, entries []Held) error {
	return durable.WriteFile(s.path(key, heldSuffix), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		for _, e := range entries {
			if err := enc.Encode(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReadHeld calls each with the stored entries of a list until it returns an error, which it returns.
func (s Store) ReadHeld(key string, each func(Held) error) error {
	f, err := os.Open(s.path(key, heldSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		var e Held
		if err := dec.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := each(e); err != nil {
			return err
		}
	}
}
