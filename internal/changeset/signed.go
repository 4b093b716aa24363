package changeset

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"rempart/blocklist"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// maxSeal is the maximum size of the signatures before a signed change set, in bytes.
const maxSeal = 16 << 10

// ReadSigned reads a change set that an author signed, and judges each change. Submit checks the signatures. The caller must close
// the upload, also after an error.
func (j *Judge) ReadSigned(r io.Reader) (*Upload, error) {
	end := &lastByteReader{r: r}
	br := bufio.NewReaderSize(end, journal.MaxLine+2)
	signatures, err := readSignatures(br)
	if err != nil {
		return nil, err
	}
	line, err := journal.ReadLine(br, journal.MaxLine)
	if err != nil {
		return nil, fmt.Errorf("the first line of the change set: %w", err)
	}
	first := bytes.Clone(line)
	set, err := journal.ParseChangeSet(first)
	if err == nil {
		err = checkID(set.ID)
	}
	if err != nil {
		return nil, err
	}
	if len(set.Sources) > 0 {
		return nil, fmt.Errorf("%w: sources: a pushed change set cannot change the listings of lists", journal.ErrChanges)
	}
	u, err := newUpload(j.dir, set)
	if err != nil {
		return nil, err
	}
	u.signatures = signatures
	if err = u.write(append(first, '\n')); err != nil {
		return u, err
	}
	for n := 1; ; n++ {
		line, err := journal.ReadLine(br, journal.MaxLine)
		if err == io.EOF && end.last != '\n' {
			err = errors.New("the last line has no line end")
		} else if err == io.EOF {
			return u, nil
		}
		if err != nil {
			return u, fmt.Errorf("change %d: %w", n, err)
		}
		if err := j.takeSigned(u, n, line); err != nil {
			return u, err
		}
	}
}

// readSignatures reads the signatures before a signed change set, and the empty line after them.
func readSignatures(br *bufio.Reader) ([]signing.Signature, error) {
	var head []byte
	for {
		line, err := journal.ReadLine(br, 1000)
		if err != nil {
			return nil, fmt.Errorf("the upload ends before the end of its signatures: %w", err)
		}
		if head = append(append(head, line...), '\n'); len(line) == 0 {
			break
		}
		if len(head) > maxSeal {
			return nil, errors.New("no empty line follows the signatures")
		}
	}
	s, err := signing.Unseal(signing.KindChanges, head)
	if err != nil {
		return nil, err
	}
	if len(s.Signatures) == 0 {
		return nil, fmt.Errorf("%w: the change set has no signature", signing.ErrSeal)
	}
	return s.Signatures, nil
}

// takeSigned adds the nth change of a signed change set. A line that no edge would accept is an error.
func (j *Judge) takeSigned(u *Upload, n int, line []byte) error {
	if err := u.write(append(bytes.Clone(line), '\n')); err != nil {
		return err
	}
	c, err := journal.ParseChange(line)
	if err != nil {
		return fmt.Errorf("change %d: %w", n, err)
	}
	if c.Source != "" {
		return fmt.Errorf("change %d: source: a pushed change set cannot change the listings of lists", n)
	}
	return j.take(u, n, c, checkCanonical(&c), true)
}

// checkCanonical returns an error if the name of a signed change is not canonical: a search for the name would not find the change.
func checkCanonical(c *journal.Change) error {
	l, err := c.Listing()
	if err != nil {
		return err
	}
	if text := blocklist.NameText(l.Name); text != c.Name {
		return &journal.FieldError{Name: "name", Why: "not canonical: sign the change with the name " + text}
	}
	return nil
}
