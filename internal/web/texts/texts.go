// Package texts holds the texts of the public pages in all their languages, one file per language, and chooses the language of a reader.
package texts

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"rempart/blocklist"
)

//go:embed languages/*.toml
var files embed.FS

// tags are the languages in the order in which pages offer them, as BCP 47 tags. The first one is that of readers who name no language.
var tags = [...]string{"fr", "en"}

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
	Help       []Step
}

// Category describes a kind of threat.
type Category struct {
	Noun string
	Why  string // one sentence: who blocked it, and why
}

// Page holds the texts of the warning page.
type Page struct {
	Title, Heading, Ordered, Requested, Leads, Leave string
	NothingSent                                      string `toml:"nothing_sent"`
	Language                                         string
	Typed                                            string
	TypedIntro                                       string `toml:"typed_intro"`
	Known, Category, Authority, Lists, Decision      string
	Since, Until                                     string
	NoEnd                                            string `toml:"no_end"`
	Mistake                                          string
	MistakeText                                      string `toml:"mistake_text"`
	MistakeLink                                      string `toml:"mistake_link"`
	ContactText                                      string `toml:"contact_text"`
	HomeText                                         string `toml:"home_text"`
	NobodyText                                       string `toml:"nobody_text"`
	OrderLink                                        string `toml:"order_link"`
	OrderAppeal                                      string `toml:"order_appeal"`
	Onward                                           string
	OnwardText                                       string `toml:"onward_text"`
	OnwardLink                                       string `toml:"onward_link"`
	Privacy                                          string
	PortalLink                                       string `toml:"portal_link"`
	FreeTitle                                        string `toml:"free_title"`
	Free                                             string
	FreeText                                         string `toml:"free_text"`
	FreeRetry                                        string `toml:"free_retry"`
}

// Onward holds the texts of the pages that let a reader continue to a blocked site.
type Onward struct {
	Title, Heading, Text, Back, Go string
	OpenTitle                      string `toml:"open_title"`
	OpenHeading                    string `toml:"open_heading"`
	OpenText                       string `toml:"open_text"`
	OpenLink                       string `toml:"open_link"`
	RefusedTitle                   string `toml:"refused_title"`
	RefusedHeading                 string `toml:"refused_heading"`
	RefusedText                    string `toml:"refused_text"`
	Minutes, Hours                 string
}

// Portal holds the texts of the search for a name.
type Portal struct {
	Title, Intro, Label, Hint, Search, Invalid string
	Blocked, Allowed                           string
	AllowedText                                string `toml:"allowed_text"`
	Passes                                     string
	PassesText                                 string `toml:"passes_text"`
	Reserved                                   string
	ReservedText                               string `toml:"reserved_text"`
	Withheld                                   string
	WithheldText                               string `toml:"withheld_text"`
	Observed, Unsure, Busy, Entry, Ground      string
	GroundBlocked                              string `toml:"ground_blocked"`
	GroundCensored                             string `toml:"ground_censored"`
	GroundFiltered                             string `toml:"ground_filtered"`
	Now                                        string
	NowBlocked                                 string `toml:"now_blocked"`
	History                                    string
	HistoryIntro                               string `toml:"history_intro"`
	HistoryBlock                               string `toml:"history_block"`
	HistoryAllow                               string `toml:"history_allow"`
	HistoryWithdraw                            string `toml:"history_withdraw"`
	HistoryNone                                string `toml:"history_none"`
	Version, Footer                            string
}

// Step is one thing to do for a person who was deceived. Link and Label may be empty.
type Step struct {
	Title, Text string
	Link        string // https:, tel: or sms:
	Label       string // of the link
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
		if err := decode(data, l); err != nil {
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

// decode reads a file of texts. A key that no field has is an error.
func decode(data []byte, into any) error {
	d := toml.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if unknown := (*toml.StrictMissingError)(nil); errors.As(err, &unknown) {
		return errors.New(unknown.String())
	}
	return err
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

var inBraces = regexp.MustCompile(`\{[a-z]+\}`)

// placeholders returns the words in braces of a text, in the order of the alphabet.
func placeholders(text string) []string {
	all := inBraces.FindAllString(text, -1)
	slices.Sort(all)
	return all
}

// SafeLink returns Link for a template. Links are part of the program, or were checked when they were loaded.
func (s Step) SafeLink() template.URL { return template.URL(s.Link) }
