package feed

import (
	"context"
	"fmt"

	"rempart/blocklist"
	"rempart/blocklist/feed/format"
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
	s := &suffixLines{name: name, lines: map[int]int{}}
	k, err := l.readAgain(ctx, source, s)
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
		text, err := k.text(n)
		if err != nil {
			return nil, fmt.Errorf("find in %s: %w", source, err)
		}
		lines = append(lines, Line{blocklist.NameText(name[i:]), n, text})
	}
	return lines, nil
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
func (s *suffixLines) Refuse(int, format.Reason)           {}
