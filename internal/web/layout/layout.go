// Package layout renders the pages that the public sees: their common frame, style and security headers, in the language of the reader. A page loads nothing,
// runs no script, sets no cookie, and stores nothing about the reader.
package layout

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"rempart/internal/web/texts"
)

//go:embed layout.html
var frame string

//go:embed style.css
var style string

// Site renders pages. It is safe for concurrent use.
type Site struct {
	catalogue    *texts.Catalogue
	organisation string
	style        template.CSS
	policy       string
}

// New returns the site of an organisation. The error names the texts that a language lacks.
func New(organisation string) (*Site, error) {
	catalogue, err := texts.Load()
	if err != nil {
		return nil, err
	}
	sheet := compact(style)
	hash := sha256.Sum256([]byte(sheet))
	return &Site{
		catalogue: catalogue, organisation: organisation, style: template.CSS(sheet),
		policy: "default-src 'none'; base-uri 'none'; frame-ancestors 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'; form-action ",
	}, nil
}

// compact returns a style sheet without its line ends.
func compact(sheet string) string {
	return strings.ReplaceAll(sheet, "\n", "")
}

// Organisation returns the name of the organisation that runs this filter.
func (s *Site) Organisation() string { return s.organisation }

// Languages returns the languages of the pages. The caller must not change the slice.
func (s *Site) Languages() []*texts.Language { return s.catalogue.Languages() }

// Parse returns the template of a page. text defines the templates "main" and "footer", which get a Content.
func (s *Site) Parse(name, text string) (*template.Template, error) {
	t, err := template.New(name).Funcs(template.FuncMap{"fill": Fill}).Parse(frame)
	if err == nil {
		t, err = t.Parse(text)
	}
	if err != nil {
		return nil, fmt.Errorf("parsing the template of the page %s: %w", name, err)
	}
	return t, nil
}

// ParseAll returns the templates of pages by their names. The file NAME.html defines "main" of a page, and footer.html defines "footer" of all of them. shared defines
// further templates that all of them can use; "" for none.
func (s *Site) ParseAll(files fs.FS, shared string, names ...string) (map[string]*template.Template, error) {
	footer, err := fs.ReadFile(files, "footer.html")
	if err != nil {
		return nil, err
	}
	all := map[string]*template.Template{}
	for _, name := range names {
		text, err := fs.ReadFile(files, name+".html")
		if err != nil {
			return nil, err
		}
		if all[name], err = s.Parse(name, string(text)+string(footer)+shared); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Language returns the language of the page for a request, which the parameter "lang" selects, or else the header field Accept-Language.
func (s *Site) Language(r *http.Request) *texts.Language {
	return s.catalogue.Choose(r.URL.Query().Get("lang"), r.Header.Get("Accept-Language"))
}

// Page describes a page for Write.
type Page struct {
	Template *template.Template // returned by Parse
	Status   int
	Title    string
	Data     any        // for the template "main"
	Keep     url.Values // parameters that the links to other languages keep
	FormTo   string     // CSP source expression of the URL to which the form of the page is sent; "" if the page has no form
	Objects  string     // CSP source expression of the pictures of the page; "" if it has none
	Links    []Link     // to the other pages of the site
	Kept     bool       // the text that the reader writes on the page is stored
	Refresh  string     // content of the refresh directive; "" for none
}

// Link is a link to another page of the site.
type Link struct {
	Address, Text string
	Current       bool // the link is to the page that contains it
}

// Content is the data of the templates: a page, and the fields that the site sets on every page.
type Content struct {
	Page
	Lang         *texts.Language
	Languages    []languageLink
	Organisation string
	Style        template.CSS
}

// languageLink is a link to the page in another language.
type languageLink struct {
	Tag, Name string
	Link      string
	Current   bool
}

// Write answers a request with a page in a language that Language returned. It does not read the body of the request; if there is one, the connection is closed
// after the answer.
func (s *Site) Write(w http.ResponseWriter, r *http.Request, lang *texts.Language, p Page) {
	c := Content{Page: p, Lang: lang, Organisation: s.organisation, Style: s.style}
	for _, l := range s.catalogue.Languages() {
		keep := url.Values{"lang": {l.Tag}}
		for key, values := range p.Keep {
			keep[key] = values
		}
		c.Languages = append(c.Languages, languageLink{l.Tag, l.Name, "?" + keep.Encode(), l == lang})
	}
	var body bytes.Buffer
	if err := p.Template.ExecuteTemplate(&body, "layout", c); err != nil {
		http.Error(w, s.organisation, http.StatusInternalServerError)
		return
	}
	s.headers(w.Header(), p)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang.Tag)
	h.Set("Vary", "Accept-Language")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	if r.ContentLength != 0 {
		h.Set("Connection", "close")
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes()) // the reader closed the connection
	}
}

func (s *Site) headers(h http.Header, p Page) {
	source := func(text string) string {
		if text == "" {
			return "'none'"
		}
		return text
	}
	h.Set("Content-Security-Policy", s.policy+source(p.FormTo)+"; object-src "+source(p.Objects)+"; frame-src "+source(p.Objects))
	h.Set("X-DNS-Prefetch-Control", "off") // a browser that looks up the names of links reveals them, and a query for some names sets a grant
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "interest-cohort=()")
}

// Robots answers a request for /favicon.ico (there is none) or /robots.txt (which forbids search engines to read the site), and reports whether it did.
func Robots(w http.ResponseWriter, r *http.Request) bool {
	switch r.URL.Path {
	case "/favicon.ico":
		w.Header().Set("Cache-Control", "no-store") // the site behind the name may have one, once it is not blocked
		w.WriteHeader(http.StatusNotFound)
	case "/robots.txt":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte("User-agent: *\nDisallow: /\n"))
	default:
		return false
	}
	return true
}

// Fill returns a text with each word in braces replaced by the value that follows the word in pairs. Values are shown apart from the text around them, so that
// a name keeps its order of characters in a text that is written from right to left.
func Fill(text string, pairs ...any) (template.HTML, error) {
	var b strings.Builder
	rest := text
	for {
		at := texts.InBraces.FindStringIndex(rest)
		if at == nil {
			b.WriteString(template.HTMLEscapeString(rest))
			return template.HTML(b.String()), nil // every part is escaped
		}
		b.WriteString(template.HTMLEscapeString(rest[:at[0]]))
		value, err := valueOf(rest[at[0]+1:at[1]-1], pairs)
		if err != nil {
			return "", err
		}
		b.WriteString("<bdi>" + template.HTMLEscapeString(value) + "</bdi>")
		rest = rest[at[1]:]
	}
}

func valueOf(word string, pairs []any) (string, error) {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == word {
			return fmt.Sprint(pairs[i+1]), nil
		}
	}
	return "", fmt.Errorf("no value for {%s}", word)
}

// DisplayName returns a name as people write it: in Unicode, followed by the ASCII form in parentheses, so that a name that imitates another is recognised.
func DisplayName(name string) string {
	if !strings.Contains(name, "xn--") {
		return name
	}
	unicode, err := idna.Display.ToUnicode(name)
	if err != nil || unicode == name {
		return name
	}
	return unicode + " (" + name + ")"
}
