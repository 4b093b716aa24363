// Package texts holds the texts of the public pages in all their languages, one file per language, and chooses the language of a reader.
package texts

import (
	"embed"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/tomlfile"
)

//go:embed languages/*.toml
var files embed.FS

// tags are the languages in the order in which pages offer them, as BCP 47 tags. The first one is that of readers who name no language.
var tags = [...]string{"fr", "fr-simple", "en", "de", "es", "it", "pt", "ro", "pl", "tr", "uk", "ru", "ar", "zh"}

// Language holds all texts in one language. It is immutable. Words in braces are replaced when a text is shown.
type Language struct {
	Tag        string `toml:"-"`         // BCP 47
	Name       string `toml:"name"`      // of the language, in the language
	Direction  string `toml:"direction"` // "ltr" or "rtl"
	Date       string `toml:"date"`
	Months     []string
	Categories map[string]Category
	Page       Page
	Onward     Onward
	Portal     Portal
	Links      Links
	Appeal     Appeal
	Connection Connection
	Devices    Devices
	Help       []Step
}

// Catalogue holds the texts in all languages. It is immutable.
type Catalogue struct {
	languages []*Language // in the order of tags
	chooser   chooser
}

// Load reads the languages that are part of the program. The error names each key that a language lacks, so that no page has a gap.
func Load() (*Catalogue, error) {
	c := &Catalogue{}
	var errs []error
	for _, tag := range tags {
		data, err := files.ReadFile("languages/" + tag + ".toml")
		if err != nil {
			return nil, err
		}
		l := &Language{Tag: tag}
		if err := tomlfile.Decode(data, l); err != nil {
			errs = append(errs, fmt.Errorf("language %s: %w", tag, err))
			continue
		}
		c.languages = append(c.languages, l)
		if err := l.check(c.languages[0]); err != nil {
			errs = append(errs, fmt.Errorf("language %s: %w", tag, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c.chooser = newChooser(c.languages)
	return c, nil
}

// Languages returns all languages in the order in which pages offer them. The caller must not change the slice.
func (c *Catalogue) Languages() []*Language { return c.languages }

// FormatDate returns a date in the language.
func (l *Language) FormatDate(t time.Time) string {
	t = t.UTC()
	return strings.NewReplacer("{day}", fmt.Sprint(t.Day()), "{month}", l.Months[t.Month()-1], "{year}", fmt.Sprint(t.Year())).Replace(l.Date)
}

// CategoryOf returns the texts of a category. A category without texts has those of malicious.
func (l *Language) CategoryOf(c blocklist.Category) Category {
	if texts, ok := l.Categories[c.String()]; ok {
		return texts
	}
	return l.Categories[blocklist.Malicious.String()]
}

// check compares the language with the first one: every text must be there, with the same words in braces.
func (l *Language) check(first *Language) error {
	var errs []error
	if l.Direction != "ltr" && l.Direction != "rtl" {
		errs = append(errs, fmt.Errorf(`direction is %q, not "ltr" or "rtl"`, l.Direction))
	}
	if len(l.Months) != 12 {
		errs = append(errs, fmt.Errorf("months has %d names, not 12", len(l.Months)))
	}
	have, want := map[string]string{}, map[string]string{}
	collect("", reflect.ValueOf(*l), have)
	collect("", reflect.ValueOf(*first), want)
	for key, text := range want {
		mine, ok := have[key]
		isLink := strings.HasPrefix(key, "Help.") && (strings.HasSuffix(key, ".Link") || strings.HasSuffix(key, ".Label"))
		switch {
		case !ok, mine == "" && text != "":
			errs = append(errs, fmt.Errorf("%s is missing", key))
		case isLink && mine != text:
			errs = append(errs, fmt.Errorf("%s is %q, not %q as in %s", key, mine, text, first.Tag))
		case !slices.Equal(placeholders(mine), placeholders(text)):
			errs = append(errs, fmt.Errorf("%s has %q in braces, not %q as in %s", key, placeholders(mine), placeholders(text), first.Tag))
		}
	}
	return errors.Join(errs...)
}

// collect adds every text in v to all, by its path.
func collect(path string, v reflect.Value, all map[string]string) {
	switch v.Kind() {
	case reflect.String:
		all[path] = v.String()
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Tag" {
				collect(strings.TrimPrefix(path+"."+name, "."), v.Field(i), all)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			collect(fmt.Sprintf("%s.%d", path, i+1), v.Index(i), all)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			collect(path+"."+key.String(), reflect.ValueOf(v.MapIndex(key).Interface()), all)
		}
	}
}

// InBraces matches the words of a text that are replaced.
var InBraces = regexp.MustCompile(`\{[a-z]+\}`)

// placeholders returns the words in braces of a text, in the order of the alphabet.
func placeholders(text string) []string {
	all := InBraces.FindAllString(text, -1)
	slices.Sort(all)
	return all
}
