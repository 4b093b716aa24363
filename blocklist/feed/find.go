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

// Find reads a list again, as it was last kept, for the line that lists name, a canonical wire name:
// of those that reach it, the one with the longest name, the first if there are several. source
// is the list's name as in Status. text is the line as it stands, cut if long, fit to print. It
// takes as long as reading the whole list.
func (l *Lists) Find(ctx context.Context, source string, name []byte) (line int, text string, err error) {
	s := &finding{name: name}
	k, err := l.readAgain(ctx, source, s)
	if err == nil {
		defer k.file.Close()
		if s.line == 0 {
			err = ErrNotFound
		} else {
			text, err = k.text(s.line)
		}
	}
	if err != nil {
		return 0, "", fmt.Errorf("find in %s: %w", source, err)
	}
	return s.line, text, nil
}

// kept is the content of a list, as it was last kept, read again.
type kept struct {
	ctx   context.Context
	file  *os.File
	stats format.Stats
}

// readAgain parses the stored content of a list into sink. The caller closes the file.
func (l *Lists) readAgain(ctx context.Context, source string, sink format.Sink) (*kept, error) {
	i := slices.IndexFunc(l.lists, func(li *list) bool { return li.name == source })
	if i < 0 {
		return nil, ErrNotFound
	}
	li := l.lists[i]
	opt, err := l.options(li)
	if err != nil {
		return nil, err
	}
	path := li.source
	if li.kind == KindURL {
		path = l.store.path(li.key, bodySuffix)
	}
	f, err := durable.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	stats, err := format.Parse(&cancellable{ctx, f}, opt, li.sink(sink))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &kept{ctx, f, stats}, nil
}

// text is line n as it stands, unpacked, or which entry it is.
func (k *kept) text(n int) (string, error) {
	if !k.stats.Format.ByLine() {
		return fmt.Sprintf("entry %d", n), nil
	}
	if _, err := k.file.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return format.LineAt(&cancellable{k.ctx, k.file}, n)
}

// finding is a Sink that looks for the listing of one name.
type finding struct {
	name    []byte
	line    int // of the best so far; 0 for none
	longest int
}

func (s *finding) Add(line int, l blocklist.Listing) {
	if l.Decision == blocklist.Except || len(l.Name) <= s.longest || !reaches(l, s.name) {
		return
	}
	s.line, s.longest = line, len(l.Name)
}
func (s *finding) Cancel(int, []byte, blocklist.Scope) {}
func (s *finding) Refuse(int, format.Reason)           {}

// reaches reports whether l is of name or, if its scope says so, of a name above it.
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
