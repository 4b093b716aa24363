package operate

import (
	"bufio"
	"crypto/sha512"
	"io"

	"rempart/blocklist/feed/format"
	"rempart/internal/changeset"
	"rempart/internal/journal"
)

// sign signs the change set with the author's key, over bytes in a file, so that any length fits. A line that is not a valid change cannot be signed, and is
// listed as refused.
func (u *upload) sign(key *journal.SecretKey) error {
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
	u.head = journal.SealHead(journal.KindChanges, []journal.Signature{key.Sign(journal.KindChanges, digest.Sum(nil))})
	return nil
}

// encode writes the bytes of the change set that are signed.
func (u *upload) encode(to io.Writer) error {
	w := bufio.NewWriterSize(to, 256<<10)
	var unread error
	if err := journal.EncodeTo(w, u.set, func(yield func(journal.Change) bool) { unread = u.eachChange(yield) }); err != nil {
		return err
	}
	if unread != nil {
		return unread
	}
	return w.Flush()
}

// eachChange yields the valid changes, as the author signs them, and stores their lines.
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
