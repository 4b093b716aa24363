package feed

import (
	"context"
	"fmt"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
)

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
