package format

import (
	"errors"
	"strings"
	"testing"

	"rempart/blocklist/feed/fetch/fetchtest"

	"github.com/google/go-cmp/cmp"
)

// TestEncodings checks that a list gives the same listings in UTF-8 and in the encodings that Windows writes.
func TestEncodings(t *testing.T) {
	for name, list := range map[string]string{
		"names":   "# liste noire, mise à jour\r\nevil-site.example\r\ncafé.example\r\n",
		"hosts":   "0.0.0.0 evil-site.example # à bloquer\r\n",
		"adblock": "! règles\r\n||evil-site.example^\r\n@@||bon.evil-site.example^\r\n",
		"table":   "Nom de domaine;Motif;Date\r\nevil-site.example;Hameçonnage;2026-11-20\r\n",
	} {
		want := readFull(t, Options{}, list)
		if len(want) == 0 || strings.Contains(strings.Join(want, " "), "!") {
			t.Fatalf("%s in UTF-8: %q, want listings and no refused line", name, want)
		}
		latin := strings.NewReplacer("à", "\xe0", "é", "\xe9", "è", "\xe8", "ç", "\xe7").Replace(list)
		for encoding, encoded := range map[string]string{
			"UTF-8 with a byte order mark": "\ufeff" + list,
			"UTF-16LE":                     "\xff\xfe" + fetchtest.UTF16(list, false), "UTF-16LE without a byte order mark": fetchtest.UTF16(list, false),
			"UTF-16BE": "\xfe\xff" + fetchtest.UTF16(list, true), "UTF-16BE without a byte order mark": fetchtest.UTF16(list, true),
			"Windows-1252": latin, "compressed UTF-16": fetchtest.Gzip(t, "\xff\xfe"+fetchtest.UTF16(list, false)),
		} {
			if diff := cmp.Diff(want, readFull(t, Options{}, encoded)); diff != "" {
				t.Errorf("%s in %s (-want +got)\n%s", name, encoding, diff)
			}
		}
	}
	json := `{"domains":["evil-site.example","b.example"]}`
	if got := read(t, "\xff\xfe"+fetchtest.UTF16(json, false)); !cmp.Equal(got, []string{"evil-site.example", "b.example"}) {
		t.Errorf("JSON in UTF-16: %q", got)
	}
	if _, err := Parse(strings.NewReader("\xff\xfe\x00\x00a\x00\x00\x00"), Options{}, &transcript{t: t}); !errors.Is(err, ErrNotAList) || !strings.Contains(err.Error(), "UTF-32") {
		t.Errorf("UTF-32: %v", err)
	}
}

// TestInvisibleCharacters checks invisible characters in the places where people paste them by mistake.
func TestInvisibleCharacters(t *testing.T) {
	for _, space := range []string{"\u00a0", "\u2003", "\u202f", "\u3000", "\u1680", " \u00a0\t"} {
		for line, want := range map[string]string{
			"0.0.0.0_evil.example":         "=evil.example",
			"_evil.example_":               "evil.example",
			"evil.example_# comment":       "evil.example",
			"evil.example_CNAME_.":         "=evil.example",
			"_# comment":                   "",
			`local-zone:_"a.example"_deny`: "a.example",
		} {
			line = strings.ReplaceAll(line, "_", space)
			if got := strings.Join(read(t, line), " "); got != want {
				t.Errorf("%q: got %s, want %s", line, got, want)
			}
		}
	}
	for _, nothing := range []string{"\u200b", "\ufeff", "\u2060", "\u00ad", "\u200e", "\u202a", "\u2066"} {
		for line, want := range map[string]string{
			"_evil.example": "evil.example", "evil_.example": "evil.example", "evil.example_": "evil.example", "_": "", "_# comment": "",
			"_||evil.example^_": "evil.example", "0.0.0.0 _evil.example": "=evil.example", "https://_evil.example_/": "=evil.example",
		} {
			line = strings.ReplaceAll(line, "_", nothing)
			if got := strings.Join(read(t, line), " "); got != want {
				t.Errorf("%q: got %s, want %s", line, got, want)
			}
		}
	}
	for _, end := range []string{"\u2028", "\u2029", "\u0085"} {
		if got := read(t, "a.example"+end+"# comment"+end+"b.example"); !cmp.Equal(got, []string{"a.example", "b.example"}) {
			t.Errorf("separated by %q: %q", end, got)
		}
	}
	if got := read(t, "نامه\u200cای.example"); !cmp.Equal(got, []string{"xn--mgba3gch31f060k.example"}) {
		t.Errorf("a joiner that is a part of the name: %q", got)
	}
	for _, text := range []string{"\u00a0evil.example", "evil.example\u200b", "e\u00advil.example"} {
		if name, err := Name(text); err != nil || string(name) != "\x04evil\x07example\x00" {
			t.Errorf("Name(%q): %q, %v", text, name, err)
		}
	}
}

// TestColumnNamesInOtherLanguages checks tables with column names in French, German, Spanish and other languages.
func TestColumnNamesInOtherLanguages(t *testing.T) {
	for _, head := range []string{
		"Nom de domaine;Motif;Date", "Domäne;Grund;Datum", "Domaine\tCatégorie\tDate d’ajout", "Domänenname,Bedrohung,Hinzugefügt",
		"\"Nom de domaine\";\"Motif\";\"Date\"", "Dominio;Motivo;Fecha", "Nom_de_domaine;motif;date_ajout",
	} {
		comma := string(delimiter([]byte(head)))
		list := head + "\n" + strings.Join([]string{"evil.example", "phishing", "2026-11-20"}, comma) + "\n"
		if got := strings.Join(read(t, "sep="+comma+"\r\n"+list), " "); got != "evil.example" {
			t.Errorf("after the line of a spreadsheet that names the separator: %s", got)
		}
		for _, mark := range []string{"", "\ufeff"} {
			if got := strings.Join(readFull(t, Options{}, mark+list), " "); got != "2 evil.example phishing since 2026-11-20" {
				t.Errorf("table %q: %s, want evil.example with category and date", mark+list, got)
			}
		}
	}
}
