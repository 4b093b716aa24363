package texts

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// maxAccept is the longest Accept-Language header that is read, in bytes; browsers send a tenth of it. A longer one is ignored.
const maxAccept = 500

// chooser chooses a language by the Accept-Language header.
type chooser struct {
	matcher  language.Matcher
	matching []*Language // by the index of the matcher
	english  *Language
}

func newChooser(languages []*Language) chooser {
	c := chooser{}
	var tags []language.Tag
	for _, l := range languages {
		tag := language.Make(l.Tag)
		if len(tag.Variants()) > 0 {
			continue // a reader chooses the plain variant of a language by its link
		}
		tags, c.matching = append(tags, tag), append(c.matching, l)
		if l.Tag == "en" {
			c.english = l
		}
	}
	c.matcher = language.NewMatcher(tags)
	return c
}

// Choose returns the language with the tag asked, if there is one; else the best one for an Accept-Language header (RFC 9110 section 12.5.4). Without a valid
// header it returns the first language; for a reader of other languages it returns English.
func (c *Catalogue) Choose(asked, accept string) *Language {
	for _, l := range c.languages {
		if l.Tag == asked {
			return l
		}
	}
	if len(accept) > maxAccept {
		return c.languages[0]
	}
	wanted, _, err := language.ParseAcceptLanguage(accept)
	if err != nil || len(wanted) == 0 {
		return c.languages[0]
	}
	_, i, confidence := c.chooser.matcher.Match(wanted...)
	if confidence == language.No {
		return c.chooser.english
	}
	return c.chooser.matching[i]
}

// Closest returns the value for readers of a language among values by language tag, and its tag: that of the language, of its base language, of French, of English, or
// else the first one in the order of the tags. found is false if there is no value.
func Closest[T any](all map[string]T, tag string) (of string, value T, found bool) {
	base, _, _ := strings.Cut(tag, "-")
	for _, t := range append([]string{tag, base, "fr", "en"}, slices.Sorted(maps.Keys(all))...) {
		if value, found = all[t]; found {
			return t, value, true
		}
	}
	return "", value, false
}
