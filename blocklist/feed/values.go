package feed

import (
	"encoding/json"
	"io"
)

// values decodes JSON of any length in bounded memory: no value that is decoded at once, nor what stands
// between two, may be longer than most octets, long texts clipped.
type values struct {
	*json.Decoder
	r    io.Reader
	read int64
	most int64
	err  error // of r, for good: More passes over errors
}

func newValues(r io.Reader, most int64) *values {
	v := &values{r: &clip{r: r}, most: most}
	v.Decoder = json.NewDecoder(v)
	return v
}

// Read is the decoder's: it reads ahead of its offset as far as the value it is at.
func (v *values) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	left := v.most - (v.read - v.InputOffset())
	if left <= 0 {
		return 0, ErrTooLarge
	}
	n, err := v.r.Read(p[:min(int64(len(p)), left)])
	v.read += int64(n)
	v.err = err
	return n, err
}

// open takes the bracket or brace a value begins with, and reports whether it is that one.
func (v *values) open(d json.Delim) (bool, error) {
	token, err := v.Token()
	return token == d, err
}

// key takes the next key of an object, whose end is near: More was asked.
func (v *values) key() (string, error) {
	token, err := v.Token()
	name, _ := token.(string)
	return name, err
}
