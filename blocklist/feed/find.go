package feed

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"rempart/blocklist"
)

// ErrNotFound is returned by Find when no line of the list lists the name.
var ErrNotFound = errors.New("no line lists it")

// maxShown is how much of a line Find returns, in octets.
const maxShown = 512

// Find reads a list again, as it was last kept, for the line that lists name, a canonical wire name:
// of those that reach it, the one with the longest name, the first if there are several. source
// is the list's name as in Status. text is the line as it stands, cut if long, fit to print. It
// takes as long as reading the whole list.
func (l *Lists) Find(ctx context.Context, source string, name []byte) (line int, text string, err error) {
	for _, li := range l.lists {
		if li.name != source {
			continue
		}
		path := li.source
		if li.kind == KindURL {
			path = l.store.path(li.key, bodySuffix)
		}
		f, err := os.Open(path)
		if err != nil {
			return 0, "", fmt.Errorf("find in %s: %w", source, err)
		}
		defer f.Close()
		opt, err := l.options(li)
		if err != nil {
			return 0, "", err
		}
		line, text, err = find(ctx, f, name, li, opt)
		if err != nil {
			return 0, "", fmt.Errorf("find in %s: %w", source, err)
		}
		return line, text, nil
	}
	return 0, "", fmt.Errorf("find in %s: %w", source, ErrNotFound)
}

func find(ctx context.Context, f io.ReadSeeker, name []byte, li *list, opt Options) (int, string, error) {
	s := &finding{name: name}
	stats, err := Parse(&cancellable{ctx, f}, opt, s.as(li.kind == KindAllow))
	if err != nil {
		return 0, "", err
	}
	if s.line == 0 {
		return 0, "", ErrNotFound
	}
	if !stats.Format.ByLine() {
		return s.line, fmt.Sprintf("entry %d", s.line), nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, "", err
	}
	r, err := plainText(&cancellable{ctx, f}, maxPlain)
	if err != nil {
		return 0, "", err
	}
	text, err := lineOf(r, s.line)
	return s.line, text, err
}

// lineOf returns line n as text fit to print.
func lineOf(r *bufio.Reader, n int) (string, error) {
	for i := 1; ; i++ {
		line, err := r.ReadSlice('\n')
		for i < n && errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if i < n && err == nil {
			continue
		}
		if i < n {
			return "", fmt.Errorf("line %d is gone: %w", n, err)
		}
		line = bytes.TrimSpace(line)
		text := strings.ToValidUTF8(string(line[:min(len(line), maxShown)]), "�")
		return strings.Map(func(c rune) rune {
			if !unicode.IsPrint(c) {
				return ' '
			}
			return c
		}, text), nil
	}
}

// finding is a Sink that looks for the listing of one name.
type finding struct {
	name    []byte
	allow   bool
	line    int // of the best so far; 0 for none
	longest int
}

func (s *finding) as(allow bool) Sink {
	if s.allow = allow; allow {
		return Allowing(s)
	}
	return s
}

func (s *finding) Add(line int, l blocklist.Listing) {
	if !s.allow && l.Decision != blocklist.Block || len(l.Name) <= s.longest || !reaches(l, s.name) {
		return
	}
	s.line, s.longest = line, len(l.Name)
}
func (s *finding) Cancel(int, []byte, blocklist.Scope) {}
func (s *finding) Refuse(int, Reason)                  {}

// reaches reports whether l is of name or, if its scope says so, of a name above it.
func reaches(l blocklist.Listing, name []byte) bool {
	if len(l.Name) > len(name) {
		return false
	}
	if len(l.Name) == len(name) {
		return l.Scope&blocklist.Exact != 0 && bytes.Equal(l.Name, name)
	}
	for i := 0; i < len(name); i += 1 + int(name[i]) {
		if len(name)-i == len(l.Name) {
			return l.Scope&blocklist.Below != 0 && bytes.Equal(l.Name, name[i:])
		}
	}
	return false
}

// cancellable ends a read with its context.
type cancellable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancellable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
