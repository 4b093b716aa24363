package pushapi

import (
	"bufio"
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"slices"
	"strings"

	"rempart/blocklist"
	"rempart/blocklist/guard"
	"rempart/internal/journal"
)

// Refusal is why an entry of a change set does not count.
type Refusal struct {
	Line  int    `json:"line" doc:"Of the upload, or the place in the list of changes, from 1."`
	Name  string `json:"name,omitempty"`
	Guard string `json:"guard" doc:"The guard that refuses it, or the field that is wrong."`
	Why   string `json:"why"`
}

// upload is a change set on its way in: what an author signs is in a file, so that its size does not matter.
type upload struct {
	set        *journal.Set
	file       *os.File // the octets that are signed: the set's line, a line each change
	out        *bufio.Writer
	line       bytes.Buffer // the one being written
	enc        *json.Encoder
	digest     hash.Hash // of them
	signatures []journal.Signature

	lines    int   // changes in the file
	accepted int   // those that count
	skip     []int // those that do not, by their place in the file
	refused  []Refusal
	refusals int
	held     []Refusal // what a person must look at first
	holds    int
	added    int  // names that were not blocked
	removed  int  // names that will not be blocked any more
	scoped   bool // something counts for some nodes only
	audience audience
}

// errSpool wraps why an upload cannot be kept while it is read.
var errSpool = errors.New("the upload cannot be kept while it is read")

func newUpload(dir string, set *journal.Set) (*upload, error) {
	f, err := os.CreateTemp(dir, ".upload-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	_ = os.Remove(f.Name()) // where files that are open can go, a crash leaves none; close removes others
	u := &upload{set: set, file: f, digest: sha512.New()}
	u.out = bufio.NewWriterSize(io.MultiWriter(f, u.digest), 256<<10)
	u.enc = json.NewEncoder(&u.line)
	u.enc.SetEscapeHTML(false)
	return u, nil
}

// errLine says that a line is longer than anybody would read.
var errLine = fmt.Errorf("all in all more than %d octets, as it is signed", journal.MaxLine)

// encode writes a line of what is signed.
func (u *upload) encode(v any) error {
	u.line.Reset()
	if err := u.enc.Encode(v); err != nil {
		return err
	}
	if u.line.Len()-1 > journal.MaxLine {
		return errLine
	}
	return u.write(u.line.Bytes())
}

func (u *upload) write(line []byte) error {
	if _, err := u.out.Write(line); err != nil {
		return fmt.Errorf("%w: %w", errSpool, err)
	}
	return nil
}

func (u *upload) close() {
	if u != nil && u.file != nil {
		name := u.file.Name()
		u.file.Close()
		os.Remove(name)
	}
}

// sum is the digest of what was written.
func (u *upload) sum() ([]byte, error) {
	if err := u.out.Flush(); err != nil {
		return nil, fmt.Errorf("%w: %w", errSpool, err)
	}
	return u.digest.Sum(nil), nil
}

// changes are those that count, read again.
func (u *upload) changes() iter.Seq2[journal.Change, error] {
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
		journal.Counting(journal.ReadChanges(r), u.skip)(yield)
	}
}

// payload is what is signed, of one that fits a record.
func (u *upload) payload() ([]byte, error) {
	if _, err := u.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(u.file, journal.MaxSet+1))
}

// small reports whether it fits a record.
func (u *upload) small() bool {
	info, err := u.file.Stat()
	return err == nil && u.lines <= journal.MaxChanges && info.Size() <= journal.MaxSet
}

// judging is how the entries of an upload are judged: by the guards, and by the state they are to change.
type judging struct {
	view   *blocklist.View
	guards *guard.Guards
	now    int64
	most   int
	acts   acts
	split  bool    // changes that a guard holds are set apart
	apart  *upload // where to; nil: they hold up the whole upload
}

// errTooMany ends the reading of an upload.
var errTooMany = errors.New("too many changes")

// take judges a change. One that is refused still stands in what an author signed: signed says that.
func (j *judging) take(u *upload, line int, c journal.Change, bad error, signed bool) error {
	if lines := u.lines + u.refusals; lines >= j.most || j.apart != nil && lines+j.apart.lines >= j.most {
		return fmt.Errorf("%w: %d at most in one change set", errTooMany, j.most)
	}
	before, to := tally{u.holds, u.added, u.removed}, u
	refusal := j.judge(u, line, c, bad)
	if j.apart != nil && refusal == nil && u.holds > before.holds {
		u.moveTo(j.apart, before)
		to = j.apart
	}
	if refusal == nil && !signed {
		err := to.encode(&c)
		if errors.Is(err, errLine) {
			refusal = &Refusal{line, cut(c.Name), "line", err.Error()}
		} else if err != nil {
			return err
		}
	}
	j.acts.count(c.Do, refusal == nil)
	switch {
	case refusal == nil:
		to.lines++
		to.accepted++
		to.audience.add(&c)
		to.scoped = to.scoped || !c.Everywhere()
		return nil
	case signed:
		if len(u.skip) == journal.MaxRefused {
			return fmt.Errorf("%w: more than %d of them are refused, the last because of this: %s: %s", errTooMany, journal.MaxRefused, refusal.Guard, refusal.Why)
		}
		u.skip = append(u.skip, u.lines)
		u.lines++
	}
	if u.refusals++; len(u.refused) < maxRefusals {
		u.refused = append(u.refused, *refusal)
	}
	return nil
}

// hold notes why a person must look at it first.
func (u *upload) hold(why Refusal) {
	if u.holds++; len(u.held) < maxRefusals {
		u.held = append(u.held, why)
	}
}

// judge says why an entry does not count, and notes what it holds up.
func (j *judging) judge(u *upload, line int, c journal.Change, bad error) *Refusal {
	if field := (*journal.Field)(nil); errors.As(bad, &field) {
		return &Refusal{line, cut(c.Name), field.Name, cut(field.Why)}
	} else if bad != nil {
		return &Refusal{line, cut(c.Name), "line", cut(bad.Error())}
	}
	l, err := c.Listing()
	if err != nil {
		return &Refusal{line, cut(c.Name), "line", err.Error()}
	}
	if at := slices.IndexFunc(c.Countries, func(code string) bool { return !journal.IsCountry(code) }); at >= 0 {
		return &Refusal{line, c.Name, "countries", fmt.Sprintf("%q is not a country code of ISO 3166-1: write two capital letters, like FR", cut(c.Countries[at]))}
	}
	if l.Expiry != 0 && l.Expiry <= j.now {
		return &Refusal{line, c.Name, "expiry", "it is over already"}
	}
	switch c.Do {
	case journal.Withdraw:
		if slices.ContainsFunc(j.view.Claims(l.Name), func(e blocklist.Entry) bool {
			return e.Decision == blocklist.Block && slices.Contains(e.Sources, journal.Operator)
		}) {
			u.removed++
		}
		return nil
	case journal.Allow:
		switch f := j.guards.CheckAllow(l); f.Outcome {
		case guard.Refuse:
			return &Refusal{line, c.Name, f.Guard.String(), "an allow of it would unblock names that have nothing to do with each other"}
		case guard.Hold:
			u.hold(Refusal{line, c.Name, f.Guard.String(), f.Explain(l.Name)})
		}
		if j.view.Match(l.Name, blocklist.AllCategories, j.now).Action == blocklist.BlockedBy {
			u.removed++
		}
		return nil
	}
	switch f := j.guards.Check(l); f.Outcome {
	case guard.Refuse:
		return &Refusal{line, c.Name, f.Guard.String(), f.Explain(l.Name)}
	case guard.Hold:
		u.hold(Refusal{line, c.Name, f.Guard.String(), f.Explain(l.Name)})
	}
	if v := j.view.Match(l.Name, blocklist.AllCategories, j.now); v.Action == blocklist.Pass {
		u.added++
	}
	return nil
}

// mass holds what would make another set of it.
func (j *judging) mass(u *upload) {
	have := j.view.Stats().Names
	for _, after := range []int{have + u.added, max(0, have-u.removed)} {
		if f := guard.MassChange(have, after, guard.Bounds{}); f.Outcome != guard.Pass {
			u.hold(Refusal{Guard: f.Guard.String(), Why: "the set as a whole: " + f.Explain(nil)})
		}
	}
}

// cut is a text short enough to be told.
func cut(text string) string {
	if len(text) > 300 {
		return strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}

// readSigned reads what an author signed, whole, and judges each change; signatures are checked by the caller, over the digest.
func (j *judging) readSigned(r io.Reader, dir string) (*upload, error) {
	end := &ending{r: r}
	br := bufio.NewReaderSize(end, journal.MaxLine+2)
	var head []byte
	for {
		line, err := journal.ReadLine(br, 1000)
		if err != nil {
			return nil, fmt.Errorf("it ends among its signatures: %w", err)
		}
		if head = append(append(head, line...), '\n'); len(line) == 0 {
			break
		}
		if len(head) > 16<<10 {
			return nil, errors.New("it has no end of signatures")
		}
	}
	s, err := journal.Unseal(journal.KindChanges, head)
	if err != nil {
		return nil, err
	}
	if len(s.Signatures) == 0 {
		return nil, fmt.Errorf("%w: nobody signed it", journal.ErrSeal)
	}
	line, err := journal.ReadLine(br, journal.MaxLine)
	if err != nil {
		return nil, fmt.Errorf("its first line: %w", err)
	}
	first := bytes.Clone(line)
	set, err := journal.ParseSet(first)
	if err == nil {
		err = checkID(set.ID)
	}
	if err != nil {
		return nil, err
	}
	if len(set.Sources) > 0 {
		return nil, fmt.Errorf("%w: sources: what lists say is not pushed", journal.ErrChanges)
	}
	u, err := newUpload(dir, set)
	if err != nil {
		return nil, err
	}
	u.signatures = s.Signatures
	if err = u.write(append(first, '\n')); err != nil {
		return u, err
	}
	for n := 1; ; n++ {
		line, err := journal.ReadLine(br, journal.MaxLine)
		if err == io.EOF && end.last != '\n' {
			err = errors.New("its last line does not end")
		} else if err == io.EOF {
			return u, nil
		}
		if err != nil {
			return u, fmt.Errorf("change %d: %w", n, err)
		}
		if err := u.write(append(bytes.Clone(line), '\n')); err != nil {
			return u, err
		}
		c, err := journal.ParseChange(line)
		if err != nil {
			return u, fmt.Errorf("change %d: %w", n, err) // no edge would read on
		}
		if c.Source != "" {
			return u, fmt.Errorf("change %d: source: what lists say is not pushed", n)
		}
		if err := j.take(u, n, c, canonical(&c), true); err != nil {
			return u, err
		}
	}
}

// canonical says why what an author signed would not be found by its name.
func canonical(c *journal.Change) error {
	l, err := c.Listing()
	if err != nil {
		return err
	}
	if text := blocklist.NameText(l.Name); text != c.Name {
		return &journal.Field{Name: "name", Why: "not as it must be signed: " + text}
	}
	return nil
}
