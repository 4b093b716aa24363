package changeset

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"regexp"
	"strings"

	"rempart/internal/journal"
	"rempart/internal/signing"
)

// maxRefusals is the number of refused changes, and of reasons to hold, that a receipt lists one by one.
const maxRefusals = 1000

// Upload is a change set that is being received. The signed bytes are stored in a file, so that memory does not grow with their
// size. The caller must call Close.
type Upload struct {
	set        *journal.ChangeSet
	file       *os.File // the signed bytes: the line of the change set, then one line per change
	out        *bufio.Writer
	line       bytes.Buffer // the line that is being written
	enc        *json.Encoder
	digest     hash.Hash // of the signed bytes
	signatures []signing.Signature

	lines    int       // changes in the file
	accepted int       // changes that are applied
	skip     []int     // positions in the file of changes that are not applied
	refused  []Refusal // the first maxRefusals refused changes
	refusals int       // refused changes
	held     []Refusal // the first maxRefusals reasons to hold the change set
	holds    int       // reasons to hold the change set
	added    int       // changes that block a name which is not blocked
	removed  int       // changes that unblock a name
	scoped   bool      // a change applies to some nodes only
	audience Audience
}

// newUpload returns an empty upload, with its file in the folder dir.
func newUpload(dir string, set *journal.ChangeSet) (*Upload, error) {
	f, err := os.CreateTemp(dir, ".upload-*.tmp")
	if err != nil {
		return nil, SpoolError(err)
	}
	_ = os.Remove(f.Name()) // where open files can be removed, none stays after a crash; elsewhere Close removes the file
	u := &Upload{set: set, file: f, digest: sha512.New()}
	u.out = bufio.NewWriterSize(io.MultiWriter(f, u.digest), 256<<10)
	u.enc = json.NewEncoder(&u.line)
	u.enc.SetEscapeHTML(false)
	return u, nil
}

// createUpload returns an upload that the desk signs. Its file holds the line of the change set.
func createUpload(dir string, set *journal.ChangeSet) (*Upload, error) {
	line, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	if _, err := journal.ParseChangeSet(line); err != nil {
		return nil, err
	}
	u, err := newUpload(dir, set)
	if err != nil {
		return nil, err
	}
	return u, u.encode(set)
}

// ID returns the change set's ID.
func (u *Upload) ID() string { return u.set.ID }

// isEmpty reports whether the upload has neither accepted nor refused changes.
func (u *Upload) isEmpty() bool { return u.lines == 0 && u.refusals == 0 }

// Close removes the file. It may be called on a nil upload.
func (u *Upload) Close() {
	if u != nil && u.file != nil {
		name := u.file.Name()
		u.file.Close()
		os.Remove(name)
	}
}

// errLine is the error of a change that is longer than readers of the journal accept.
var errLine = fmt.Errorf("the signed line of the change is longer than %d bytes", journal.MaxLine)

// encode writes v as a line of the signed bytes.
func (u *Upload) encode(v any) error {
	u.line.Reset()
	if err := u.enc.Encode(v); err != nil {
		return err
	}
	if u.line.Len()-1 > journal.MaxLine {
		return errLine
	}
	return u.write(u.line.Bytes())
}

func (u *Upload) write(line []byte) error {
	if _, err := u.out.Write(line); err != nil {
		return SpoolError(err)
	}
	return nil
}

// sum returns the digest of the bytes written so far.
func (u *Upload) sum() ([]byte, error) {
	if err := u.out.Flush(); err != nil {
		return nil, SpoolError(err)
	}
	return u.digest.Sum(nil), nil
}

// changes reads from the file the changes that are applied.
func (u *Upload) changes() iter.Seq2[journal.Change, error] {
	return func(yield func(journal.Change, error) bool) {
		if _, err := u.file.Seek(0, io.SeekStart); err != nil {
			yield(journal.Change{}, err)
			return
		}
		r := bufio.NewReaderSize(u.file, journal.MaxLine+2)
		if _, err := journal.ReadLine(r, journal.MaxLine); err != nil {
			yield(journal.Change{}, err)
			return
		}
		journal.SkipRefused(journal.ReadChanges(r), u.skip)(yield)
	}
}

// payload returns the signed bytes of an upload that fits into one record.
func (u *Upload) payload() ([]byte, error) {
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(u.file, journal.MaxChangeSet+1))
}

// WriteTo writes the signed bytes to w.
func (u *Upload) WriteTo(w io.Writer) (int64, error) {
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	return io.Copy(w, u.file)
}

// isSmall reports whether the upload fits into one record.
func (u *Upload) isSmall() bool {
	info, err := u.file.Stat()
	return err == nil && u.lines <= journal.MaxChanges && info.Size() <= journal.MaxChangeSet
}

// hold adds a reason to hold the change set.
func (u *Upload) hold(why Refusal) {
	if u.holds++; len(u.held) < maxRefusals {
		u.held = append(u.held, why)
	}
}

// refuse adds a refused change.
func (u *Upload) refuse(why Refusal) {
	if u.refusals++; len(u.refused) < maxRefusals {
		u.refused = append(u.refused, why)
	}
}

// tally holds the counters of an upload to which a change is added before it may move to another upload.
type tally struct{ holds, added, removed int }

// moveTo moves the reasons and the counts that the last change added to u to another upload. before holds the counters of u before that change.
func (u *Upload) moveTo(other *Upload, before tally) {
	holds := u.holds - before.holds
	kept := min(before.holds, len(u.held))
	for _, h := range u.held[kept:] {
		other.hold(h)
	}
	if missing := holds - (len(u.held) - kept); missing > 0 { // reasons that are not listed one by one
		other.holds += missing
	}
	other.added, other.removed = other.added+u.added-before.added, other.removed+u.removed-before.removed
	u.held, u.holds, u.added, u.removed = u.held[:kept], before.holds, before.added, before.removed
}

// Digest returns the digest of a change set's signed bytes.
func Digest(r io.Reader) ([]byte, error) {
	h := sha512.New()
	_, err := io.Copy(h, bufio.NewReader(r))
	return h.Sum(nil), err
}

// idPattern is the syntax of an ID.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@+=~-]{0,99}$`)

// undoPrefix begins the IDs of change sets that undo others.
const undoPrefix = "undo-"

// heldSuffix ends the ID of a change set of changes that are held separately.
const heldSuffix = "~held"

// newID returns an ID for a change set that was pushed without one.
func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	return "cs-" + hex.EncodeToString(b[:])
}

// checkID checks an ID that a client chose. It reserves the IDs of change sets that undo others.
func checkID(id string) error {
	switch {
	case !idPattern.MatchString(id):
		return fmt.Errorf("%w: use 1 to 100 letters, digits and characters of . _ : @ + = ~ -, and begin with a letter or digit", errID)
	case strings.HasPrefix(id, undoPrefix):
		return fmt.Errorf("%w: %s is reserved for change sets that undo others", errID, undoPrefix)
	}
	return nil
}

// undoID returns the ID of the nth undo of a change set, from 0. Each undo needs an ID of its own, because an earlier one may have been rejected.
func undoID(id string, n int) string {
	undo := undoPrefix + id
	if n > 0 {
		undo = fmt.Sprintf("%s%s~%d", undoPrefix, id, n+1)
	}
	if len(undo) > 100 {
		undo = undoPrefix + journal.HashOf([]byte(undo))[:32]
	}
	return undo
}

// heldID returns the ID of the change set for the changes of another change set that are held separately.
func heldID(id string) string {
	if held := id + heldSuffix; len(held) <= 100 {
		return held
	}
	return journal.HashOf([]byte(id))[:32] + heldSuffix
}
