package operate

import (
	"bufio"
	"crypto/sha512"
	"io"

	"rempart/blocklist/feed/format"
	"rempart/internal/changeset"
	"rempart/internal/journal"
	"rempart/internal/signing"
)

// sign signs the change set with the author's key. The signed bytes are kept in a scratch file, because a change set can be large. A line that is
// not a valid change is not signed; sign adds it to u.invalid, and the receipt lists it as refused.
func (u *upload) sign(key *signing.SecretKey) error {
	signed, err := newScratchFile()
	if err != nil {
		return err
	}
	digest := sha512.New()
	if err := u.encode(io.MultiWriter(signed.file, digest)); err != nil {
		signed.close()
		return err
	}
	u.signed = signed
	u.head = signing.SealHead(signing.KindChanges, []signing.Signature{key.Sign(signing.KindChanges, digest.Sum(nil))})
	return nil
}

// encode writes the encoded change set, over which the signature is made.
func (u *upload) encode(to io.Writer) error {
	w := bufio.NewWriterSize(to, 256<<10)
	var readErr error
	if err := journal.EncodeTo(w, u.set, func(yield func(journal.Change) bool) { readErr = u.eachChange(yield) }); err != nil {
		return err
	}
	if readErr != nil {
		return readErr
	}
	return w.Flush()
}

// eachChange yields the valid changes in the order of the file. It stores their line numbers in u.lines, and refusals of the other lines in u.invalid.
func (u *upload) eachChange(yield func(journal.Change) bool) error {
	if _, err := u.changes.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return changeset.ReadLines(u.changes.file, format.Grammar{}, func(line int, c journal.Change, bad error) error {
		if bad != nil {
			u.invalid = append(u.invalid, refusalOf(line, c.Name, bad))
			return nil
		}
		u.lines = append(u.lines, int32(line))
		if !yield(c) {
			return io.ErrShortWrite // EncodeTo returns the cause
		}
		return nil
	})
}
