package feed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"rempart/blocklist"
	"rempart/blocklist/feed/bounded"
	"rempart/blocklist/feed/format"
	"rempart/blocklist/guard"
	"rempart/internal/durable"
)

const (
	maxEssential   = 16 << 20 // bytes of the file of essential names
	maxReleased    = 16 << 20 // bytes of the file of what a person released
	maxSkippedTold = 10       // lines of a file that are skipped and named one by one
)

// SkippedLines is the error of a file of essential or released names of which some lines cannot be read. What accompanies the error is of use: it is made of the
// other lines.
type SkippedLines struct {
	Of    error    // ErrReleased or guard.ErrEssential
	Path  string   // of the file
	Lines []string // number and mistake of the first of them
	Count int      // how many they are
	taken int      // lines that could be read
}

func (s *SkippedLines) Error() string {
	text := s.first()
	if s.Count > 1 {
		text += fmt.Sprintf(" (and %d lines more)", s.Count-1)
	}
	return text
}

func (s *SkippedLines) first() string {
	if errors.Is(s.Of, guard.ErrEssential) { // as the guards write it
		return fmt.Sprintf("%v: %s", s.Of, s.Lines[0])
	}
	return fmt.Sprintf("%v: %s, %s", s.Of, s.Path, s.Lines[0])
}

func (s *SkippedLines) Unwrap() error { return s.Of }

// skip notes a line that cannot be read.
func (s *SkippedLines) skip(number int, why string) {
	if s.Count++; len(s.Lines) < maxSkippedTold {
		s.Lines = append(s.Lines, fmt.Sprintf("line %d: %s", number, why))
	}
}

// result returns s, or nil if no line was skipped; usable is false if every line was.
func (s *SkippedLines) result() (skipped error, usable bool) {
	if s.Count == 0 {
		return nil, true
	}
	return s, s.taken > 0
}

// isSkipped reports whether an error is of skipped lines only, and returns it.
func isSkipped(err error) (*SkippedLines, bool) {
	var s *SkippedLines
	return s, errors.As(err, &s) && s.taken > 0
}

// eachGuardLine calls each with the lines of a text, without their comments; a line that is longer than maxLine is skipped.
func eachGuardLine(text io.Reader, s *SkippedLines, each func(number int, line string)) error {
	r := bufio.NewReaderSize(text, format.MaxLine)
	for number := 1; ; number++ {
		line, long, err := r.ReadLine()
		if long {
			s.skip(number, fmt.Sprintf("longer than %d bytes", format.MaxLine))
		}
		for long && err == nil {
			_, long, err = r.ReadLine()
			line = nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if line = format.CutComment(bytes.Clone(line)); len(line) > 0 {
			each(number, string(line))
		}
	}
}

// essentialNames reads a file of essential names, with each host in any form that Indicator reads, and returns its names in the form of the guards. Lines that do not
// name what can be protected are noted in s.
func essentialNames(text io.Reader, s *SkippedLines) (io.Reader, error) {
	var out bytes.Buffer
	err := eachGuardLine(bounded.NewReader(text, maxEssential), s, func(number int, line string) {
		host, only := strings.CutPrefix(line, "=")
		host = strings.TrimSpace(host)
		name, _, err := format.Indicator(host)
		if err == nil {
			host = blocklist.NameText(name)
		}
		if err := guard.CheckEssential(host); err != nil {
			s.skip(number, err.Error())
			return
		}
		s.taken++
		if only {
			out.WriteByte('=')
		}
		out.WriteString(host + "\n")
	})
	return &out, err
}

// readReleased reads the file of released names; "" is none. What is returned with a *SkippedLines is of use unless it is nil.
func readReleased(path string) (names, lists map[string]bool, err error) {
	names, lists = map[string]bool{}, map[string]bool{}
	if path == "" {
		return names, lists, nil
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrReleased, err)
	}
	defer f.Close()
	text, err := format.Text(bounded.NewReader(f, maxReleased))
	s := &SkippedLines{Of: ErrReleased, Path: path}
	if err == nil {
		err = eachGuardLine(text, s, func(number int, line string) {
			if list, ok := strings.CutPrefix(line, "list:"); ok {
				lists[strings.TrimSpace(list)] = true
				s.taken++
				return
			}
			name, _, err := format.Indicator(line)
			if err != nil {
				s.skip(number, fmt.Sprintf("%.80q cannot be released: %v", line, format.Explain(err)))
				return
			}
			names[string(name)] = true
			s.taken++
		})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", ErrReleased, path, err)
	}
	skipped, usable := s.result()
	if !usable {
		return nil, nil, skipped
	}
	return names, lists, skipped
}
