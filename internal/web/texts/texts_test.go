package texts

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"rempart/internal/tomlfile"
)

func load(t *testing.T) *Catalogue {
	t.Helper()
	c, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEveryLanguageIsComplete checks that every language has every text, with the same words in braces.
func TestEveryLanguageIsComplete(t *testing.T) {
	files, err := files.ReadDir("languages")
	if err != nil {
		t.Fatal(err)
	}
	if c := load(t); len(c.Languages()) != len(files) {
		t.Errorf("%d languages are offered, but there are %d files", len(c.Languages()), len(files))
	}
}

func TestMissingAndUnknownKeysAreErrors(t *testing.T) {
	whole, err := files.ReadFile("languages/en.toml")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, replacement, want string }{
		"missing":           {`leave = "Leave this site"`, ``, "Page.Leave is missing"},
		"unknown":           {`leave = `, `leaf = `, "leaf"},
		"other placeholder": {`{organisation} blocked it: this site is reported`, `{name} blocked it: this site is reported`, "Categories.malicious.Why"},
		"other link":        {`link = "tel:+33892705705"`, `link = "tel:+33000000000"`, "Help.2.Link"},
		"missing month":     {`"November", `, ``, "11 names"},
	} {
		l := &Language{Tag: "en"}
		err := tomlfile.Decode([]byte(strings.Replace(string(whole), tt.old, tt.replacement, 1)), l)
		if err == nil {
			err = l.check(load(t).languages[0])
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
	}
}

// maxWords is the largest number of words of a sentence in plain language.
const maxWords = 15

// TestPlainSentencesAreShort checks the length of each sentence of the plain variant of French.
func TestPlainSentencesAreShort(t *testing.T) {
	c := load(t)
	l := c.Choose("fr-simple", "")
	if l.Tag != "fr-simple" {
		t.Fatalf("the language is %s", l.Tag)
	}
	all := map[string]string{}
	collect("", reflect.ValueOf(*l), all)
	for key, text := range all {
		for _, sentence := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(".!?", r) }) {
			words := 0
			for _, word := range strings.Fields(sentence) {
				if strings.ContainsFunc(word, func(r rune) bool { return r > '/' && r != ':' && r != '«' && r != '»' }) {
					words++
				}
			}
			if words > maxWords {
				t.Errorf("%s: %d words in a sentence, more than %d: %s", key, words, maxWords, sentence)
			}
		}
	}
}

func TestLanguageOfReader(t *testing.T) {
	c := load(t)
	for _, tt := range []struct{ asked, accept, want string }{
		{"", "fr-FR,fr;q=0.9,en;q=0.8", "fr"},
		{"", "en-GB", "en"},
		{"", "", "fr"},
		{"", "is", "en"},
		{"", "is,fr;q=0.5", "fr"},
		{"", strings.Repeat("x", 10000), "fr"},
		{"", "not;;a header", "fr"},
		{"en", "fr", "en"},
		{"xx", "en", "en"},
		{"fr-simple", "en", "fr-simple"},
		{"", "ar-MA,fr;q=0.7", "ar"},
		{"", "zh-Hans-CN", "zh"},
		{"", "pt-BR", "pt"},
	} {
		if got := c.Choose(tt.asked, tt.accept); got.Tag != tt.want {
			t.Errorf("asked %q, accepted %.30q: %s, want %s", tt.asked, tt.accept, got.Tag, tt.want)
		}
	}
}

// TestFrenchSpacesDoNotBreak checks that no line can begin with a colon, a question mark or another sign that follows a space in French.
func TestFrenchSpacesDoNotBreak(t *testing.T) {
	for _, l := range load(t).Languages() {
		if !strings.HasPrefix(l.Tag, "fr") {
			continue
		}
		all := map[string]string{}
		collect("", reflect.ValueOf(*l), all)
		for key, text := range all {
			for _, sign := range []string{" :", " ?", " !", " ;", " »", "« "} {
				if strings.Contains(text, sign) {
					t.Errorf("%s: %s: use a no-break space in %q", l.Tag, key, text)
				}
			}
		}
	}
}

func TestDate(t *testing.T) {
	l := load(t).Choose("fr", "")
	if got := l.FormatDate(time.Date(2026, 8, 5, 23, 0, 0, 0, time.UTC)); got != "5 août 2026" {
		t.Errorf("the date is %q", got)
	}
}

func TestHelpForAnotherCountry(t *testing.T) {
	h, err := ParseHelp([]byte("first = 'nl'\n[[help.nl]]\ntitle = 'Bel uw bank'\n[[help.fr]]\ntitle = 'Appelez votre banque'\nlink = 'tel:+3278170170'\nlabel = 'Card Stop'\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := load(t)
	for asked, want := range map[string]string{"fr-simple": "fr", "fr": "fr", "en": "nl"} {
		if tag, steps := h.In(c.Choose(asked, "")); tag != want || len(steps) != 1 {
			t.Errorf("%s: steps in %s: %v", asked, tag, steps)
		}
	}
	for text, want := range map[string]string{
		"":                                   "first",
		"first='nl'\n[[help.nl]]\ntitle=''":  "title",
		"first='nl'\n[[help.nl]]\ntitel='x'": "titel",
		"first='de'\n[[help.nl]]\ntitle='x'": "first",
		"first='nl'\n[[help.nl]]\ntitle='x'\nlink='javascript:alert(1)'\nlabel='x'": "link",
		"first='nl'\n[[help.nl]]\ntitle='x'\nlink='https://x.example'":              "both or neither",
		"not toml": "",
	} {
		if _, err := ParseHelp([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestClosestLanguage(t *testing.T) {
	for _, tt := range []struct {
		all       map[string]string
		tag, want string
	}{
		{map[string]string{"fr": "", "es": ""}, "fr-simple", "fr"},
		{map[string]string{"fr": "", "es": ""}, "es", "es"},
		{map[string]string{"fr": "", "es": ""}, "de", "fr"},
		{map[string]string{"en": "", "es": ""}, "de", "en"},
		{map[string]string{"pl": "", "es": ""}, "de", "es"},
		{nil, "de", ""},
	} {
		if got, _, found := Closest(tt.all, tt.tag); got != tt.want || found != (tt.want != "") {
			t.Errorf("%s among %v: %s", tt.tag, tt.all, got)
		}
	}
}
