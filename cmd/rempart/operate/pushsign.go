package operate

import (
	"bufio"
	"crypto/sha512"
	"io"

	"rempart/blocklist/feed/format"
	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// sign has the author's key sign the set here, over octets in a file, so that its length does not matter. What is no change cannot be
// signed; it is told as refused.
func (u *upload) sign(key *journal.SecretKey) error {
	signed, err := newScratchFile()
	if err != nil {
		return err
	}
	digest := sha512.New()
	w := bufio.NewWriterSize(io.MultiWriter(signed.file, digest), 256<<10)
	var unread error
	err = journal.EncodeTo(w, u.set, func(yield func(journal.Change) bool) { unread = u.eachChange(yield) })
	if err == nil {
		err = unread
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		signed.close()
		return err
	}
	u.signed = signed
	u.head = journal.SealHead(journal.KindChanges, []journal.Signature{key.Sign(journal.KindChanges, digest.Sum(nil))})
	return nil
}

// eachChange hands over the changes that make sense, as an author signs them, and notes where they stand.
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
			return io.ErrShortWrite // EncodeTo says why
		}
		return nil
	})
}
