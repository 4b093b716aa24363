package texts

import "golang.org/x/text/language"

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
