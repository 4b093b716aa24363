package guardfile

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
	maxEssential    = 16 << 20  // bytes of the file of essential names
	maxReleased     = 16 << 20  // bytes of the file of released names
	maxPopular      = 512 << 20 // bytes of any file of the guards
	maxSkippedShown = 10        // skipped lines of a file that are quoted
)

// ErrReleased is wrapped by the error of a file of released names that cannot be used.
var ErrReleased = errors.New("released names")

// load loads the guards, and returns the skipped lines of each file that has some.
func (c Config) load() (*Guards, []*SkippedLines, error) {
	judges, inEssential, err := c.loadGuards()
	if err != nil {
		return nil, nil, err
	}
	released, inReleased, err := readReleased(c.Released)
	if err != nil {
		return nil, nil, err
	}
	var skipped []*SkippedLines
	for _, s := range []*SkippedLines{inEssential, inReleased} {
		if s != nil {
			skipped = append(skipped, s)
		}
	}
	return &Guards{judges, released}, skipped, nil
}

// loadGuards loads the guards from all files except Released. If lines of Essential cannot be read, they are returned as skipped; if no line
// can be read, they are the error.
func (c Config) loadGuards() (g *guard.Guards, skipped *SkippedLines, err error) {
	cfg := guard.Config{Own: c.Own, OwnAddresses: c.OwnAddresses, Bound: c.Bound}
	lines := &SkippedLines{Of: guard.ErrEssential, Path: c.Essential}
	for _, file := range []struct {
		path string
		to   *io.Reader
	}{{c.Essential, &cfg.Essential}, {c.Popular, &cfg.Popular}} {
		if file.path == "" {
			continue
		}
		f, err := durable.OpenRegular(file.path)
		if err != nil {
			return nil, nil, fmt.Errorf("file of the guards: %w", err)
		}
		defer f.Close()
		text, err := format.Text(bounded.NewReader(f, maxPopular))
		if err == nil && file.to == &cfg.Essential {
			*file.to, err = essentialNames(text, lines)
		} else {
			*file.to = text
		}
		if err != nil {
			return nil, nil, fmt.Errorf("file of the guards: %s: %w", file.path, err)
		}
	}
	skipped, err = lines.result()
	if err != nil {
		return nil, nil, err
	}
	g, err = guard.New(cfg)
	return g, skipped, err
}

// SkippedLines are the lines of a file of essential or released names that cannot be read. It is an error if no line of the file can be read.
type SkippedLines struct {
	Of    error    // ErrReleased or guard.ErrEssential
	Path  string   // the file
	Lines []string // number and mistake of the first skipped lines
	Count int      // the number of skipped lines
	read  int      // the number of lines that could be read
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

// skip adds a line that cannot be read.
func (s *SkippedLines) skip(number int, why string) {
	if s.Count++; len(s.Lines) < maxSkippedShown {
		s.Lines = append(s.Lines, fmt.Sprintf("line %d: %s", number, why))
	}
}

// result returns s, or nil if no line was skipped; s is the error if every line was.
func (s *SkippedLines) result() (skipped *SkippedLines, err error) {
	switch {
	case s.Count == 0:
		return nil, nil
	case s.read == 0:
		return nil, s
	}
	return s, nil
}

// eachLine calls each with the lines of a text, without their comments; a line that is longer than maxLine is skipped.
func eachLine(text io.Reader, s *SkippedLines, each func(number int, line string)) error {
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

// essentialNames reads a file of essential names, with each host in any notation that format.Indicator reads, and returns its names in the
// format of the guards. Lines without a name that can be protected are added to s.
func essentialNames(text io.Reader, s *SkippedLines) (io.Reader, error) {
	var out bytes.Buffer
	err := eachLine(bounded.NewReader(text, maxEssential), s, func(number int, line string) {
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
		s.read++
		if only {
			out.WriteByte('=')
		}
		out.WriteString(host + "\n")
	})
	return &out, err
}

// readReleased reads the file of released names; path is "" for none.
func readReleased(path string) (r released, skipped *SkippedLines, err error) {
	r = released{names: map[string]bool{}, lists: map[string]bool{}}
	if path == "" {
		return r, nil, nil
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return released{}, nil, fmt.Errorf("%w: %w", ErrReleased, err)
	}
	defer f.Close()
	text, err := format.Text(bounded.NewReader(f, maxReleased))
	s := &SkippedLines{Of: ErrReleased, Path: path}
	if err == nil {
		err = eachLine(text, s, func(number int, line string) {
			if list, ok := strings.CutPrefix(line, "list:"); ok {
				r.lists[strings.TrimSpace(list)] = true
				s.read++
				return
			}
			name, _, err := format.Indicator(line)
			if err != nil {
				s.skip(number, fmt.Sprintf("%.80q cannot be released: %v", line, format.Explain(err)))
				return
			}
			r.names[string(name)] = true
			s.read++
		})
	}
	if err != nil {
		return released{}, nil, fmt.Errorf("%w: %s: %w", ErrReleased, path, err)
	}
	if skipped, err = s.result(); err != nil {
		return released{}, nil, err
	}
	return r, skipped, nil
}
