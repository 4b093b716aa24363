package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
	"rempart/internal/durable"
)

// ErrNotFound is returned by Find when no line of the list lists the name.
var ErrNotFound = errors.New("no line lists it")

// Find searches the stored content of a list for the line that lists name, a canonical wire name. If several lines apply to it, it returns the
// first one with the longest name. source is the list's name as in Status. text is the line in printable form, cut if it is long. Find takes as
// long as reading the whole list.
func (l *Lists) Find(ctx context.Context, source string, name []byte) (line int, text string, err error) {
	s := &nameFinder{name: name}
	k, err := l.reparse(ctx, source, s)
	if err == nil {
		defer k.file.Close()
		if s.line == 0 {
			err = ErrNotFound
		} else {
			text, err = k.lineText(s.line)
		}
	}
	if err != nil {
		return 0, "", fmt.Errorf("find in %s: %w", source, err)
	}
	return s.line, text, nil
}

// storedContent is the stored content of a list, parsed again.
type storedContent struct {
	ctx   context.Context
	file  *os.File
	stats format.Stats
}

// reparse parses the stored content of a list into sink. The caller closes the file.
func (l *Lists) reparse(ctx context.Context, source string, sink format.Sink) (*storedContent, error) {
	i := slices.IndexFunc(l.lists, func(li *list) bool { return li.name == source })
	if i < 0 {
		return nil, ErrNotFound
	}
	li := l.lists[i]
	opt, err := l.copies.options(li)
	if err != nil {
		return nil, err
	}
	path := li.source
	if li.kind == KindURL {
		path = l.store.Body(li.key)
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	stats, err := format.Parse(&contextReader{ctx, f}, opt, li.sink(sink))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &storedContent{ctx, f, stats}, nil
}

// lineText returns the decompressed text of line n, or the number of the entry.
func (k *storedContent) lineText(n int) (string, error) {
	if !k.stats.Format.ByLine() {
		return fmt.Sprintf("entry %d", n), nil
	}
	if _, err := k.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return format.LineAt(&contextReader{k.ctx, k.file}, n)
}

// nameFinder is a Sink that searches the listing of one name.
type nameFinder struct {
	name    []byte
	line    int // of the best listing so far; 0 for none
	longest int
}

func (s *nameFinder) Add(line int, l blocklist.Listing) {
	if l.Decision == blocklist.Except || len(l.Name) <= s.longest || !reaches(l, s.name) {
		return
	}
	s.line, s.longest = line, len(l.Name)
}
func (s *nameFinder) Cancel(int, []byte, blocklist.Scope) {}
func (s *nameFinder) Refuse(int, format.Reason)           {}

// reaches reports whether l applies to name.
func reaches(l blocklist.Listing, name []byte) bool {
	need := blocklist.Below
	if len(l.Name) == len(name) {
		need = blocklist.Exact
	}
	return l.Scope&need != 0 && covers(l.Name, name)
}

// covers reports whether name above is name below, or a name above it; both are wire names.
func covers(above, below []byte) bool {
	at := len(below) - len(above)
	if at < 0 || !bytes.HasSuffix(below, above) {
		return false
	}
	i := 0
	for i < at {
		i += 1 + int(below[i])
	}
	return i == at
}

// contextReader is a reader that fails when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Line is a line of a list that lists a name or a name above it.
type Line struct {
	Name   string // the listed name: the requested one, or one above it
	Number int    // the number of the line, or of the entry of a JSON list
	Text   string // in printable form, cut if it is long
}

// Lines searches the stored content of a list for the lines that list a canonical wire name or a name above it, with any decision. It returns the
// first line of each such name, the longest name first. source is the list's name as in Status. Lines takes twice as long as reading the whole
// list.
func (l *Lists) Lines(ctx context.Context, source string, name []byte) ([]Line, error) {
	s := &suffixLines{name: name, lines: map[int]int{}}
	k, err := l.reparse(ctx, source, s)
	if err != nil {
		return nil, fmt.Errorf("find in %s: %w", source, err)
	}
	defer k.file.Close()
	var lines []Line
	for i := 0; i < len(name)-1; i += 1 + int(name[i]) {
		n, ok := s.lines[i]
		if !ok {
			continue
		}
		text, err := k.lineText(n)
		if err != nil {
			return nil, fmt.Errorf("find in %s: %w", source, err)
		}
		lines = append(lines, Line{blocklist.NameText(name[i:]), n, text})
	}
	return lines, nil
}

// suffixLines is a Sink that records the lines that list a name or a name above it.
type suffixLines struct {
	name  []byte
	lines map[int]int // by where the listed name begins in name
}

func (s *suffixLines) Add(line int, l blocklist.Listing) {
	if at := len(s.name) - len(l.Name); len(l.Name) > 0 && covers(l.Name, s.name) {
		if _, noted := s.lines[at]; !noted {
			s.lines[at] = line
		}
	}
}

func (s *suffixLines) Cancel(int, []byte, blocklist.Scope) {}
func (s *suffixLines) Refuse(int, format.Reason)           {}
