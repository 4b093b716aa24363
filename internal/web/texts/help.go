package texts

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"rempart/internal/tomlfile"
)

// Help is what people who were deceived should do, in one country. It is immutable.
type Help struct {
	first string // the tag of the language for readers of other languages
	steps map[string][]Step
}

// ParseHelp reads a file of help for a country (TOML): the tag of the language for readers of other languages, in "first", and the steps by language tag, in
// "help". The error names the step.
func ParseHelp(data []byte) (*Help, error) {
	var file struct {
		First string            `toml:"first"`
		Help  map[string][]Step `toml:"help"`
	}
	if err := tomlfile.Decode(data, &file); err != nil {
		return nil, err
	}
	if len(file.Help[file.First]) == 0 {
		return nil, fmt.Errorf(`first is %.35q: it must be the tag of a language with steps, like "nl" with [[help.nl]]`, file.First)
	}
	for tag, steps := range file.Help {
		for i, s := range steps {
			if err := s.check(); err != nil {
				return nil, fmt.Errorf("step %d of help.%.35s: %w", i+1, tag, err)
			}
		}
		if len(steps) > 10 {
			return nil, fmt.Errorf("help.%.35s has %d steps, more than 10", tag, len(steps))
		}
	}
	return &Help{file.First, file.Help}, nil
}

func (s Step) check() error {
	u, err := url.Parse(s.Link)
	switch {
	case s.Title == "" || len(s.Title) > 200:
		return errors.New("title: 1 to 200 bytes")
	case len(s.Text) > 500 || len(s.Label) > 100 || len(s.Link) > 300:
		return errors.New("text: at most 500 bytes, label: at most 100, link: at most 300")
	case (s.Link == "") != (s.Label == ""):
		return errors.New("link and label: both or neither")
	case s.Link != "" && (err != nil || !slices.Contains([]string{"https", "tel", "sms", "mailto"}, u.Scheme)):
		return errors.New("link: a URI of the scheme https, tel, sms or mailto")
	}
	return nil
}

// In returns the steps for readers of a language, and the tag of the language in which they are written. A nil Help has those of the language itself.
func (h *Help) In(l *Language) (tag string, steps []Step) {
	if h == nil {
		return l.Tag, l.Help
	}
	base, _, _ := strings.Cut(l.Tag, "-")
	for _, tag := range []string{l.Tag, base} { // not French or English before the language that the file names
		if steps := h.steps[tag]; len(steps) > 0 {
			return tag, steps
		}
	}
	return h.first, h.steps[h.first]
}
