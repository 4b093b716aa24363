package feed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"rempart/blocklist"
)

// Line is where a list says something of a name.
type Line struct {
	Name   string // the listed one: the name that was asked for, or one above it
	Number int    // of the line, or the entry of a JSON list
	Text   string // as it stands, cut if long, fit to print
}

// Lines reads a list again, as it was last kept, for the lines that list a canonical wire name or a name above it: the first
// of each such name, whatever it says, from the longest on. source is the list's name as in Status. It takes as long as reading the whole list, and
// once more.
func (l *Lists) Lines(ctx context.Context, source string, name []byte) ([]Line, error) {
	for _, li := range l.lists {
		if li.name != source {
			continue
		}
		lines, err := l.linesOf(ctx, li, name)
		if err != nil {
			return nil, fmt.Errorf("find in %s: %w", source, err)
		}
		return lines, nil
	}
	return nil, fmt.Errorf("find in %s: %w", source, ErrNotFound)
}

func (l *Lists) linesOf(ctx context.Context, li *list, name []byte) ([]Line, error) {
	path := li.source
	if li.kind == KindURL {
		path = l.store.path(li.key, bodySuffix)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	opt, err := l.options(li)
	if err != nil {
		return nil, err
	}
	s := &suffixLines{name: name, lines: map[int]int{}}
	stats, err := Parse(&cancellable{ctx, f}, opt, s)
	if err != nil {
		return nil, err
	}
	var lines []Line
	for i := 0; i < len(name)-1; i += 1 + int(name[i]) {
		n, ok := s.lines[i]
		if !ok {
			continue
		}
		text := fmt.Sprintf("entry %d", n)
		if stats.Format.ByLine() {
			if text, err = textOf(ctx, f, n); err != nil {
				return nil, err
			}
		}
		lines = append(lines, Line{blocklist.NameText(name[i:]), n, text})
	}
	return lines, nil
}

// textOf is line n of a list, unpacked.
func textOf(ctx context.Context, f io.ReadSeeker, n int) (string, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	r, err := plainText(&cancellable{ctx, f}, maxPlain)
	if err != nil {
		return "", err
	}
	return lineOf(r, n)
}

// suffixLines is a Sink that notes which lines are about a name or one above it.
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
func (s *suffixLines) Refuse(int, Reason)                  {}

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
