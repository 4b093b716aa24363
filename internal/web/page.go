// Package web serves the warning page, to which blocked names redirect.
package web

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/text/language"

	"rempart/blocklist"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// Config configures a Page.
type Config struct {
	View         func() *blocklist.View // returns the current view
	Enforced     blocklist.Categories   // the categories that are blocked; 0: all
	Contact      string                 // URI where people report a wrong block; empty for none
	Organisation string                 // name of the organisation that runs this filter
}

// Page is the warning page, for any host and path: it shows which name was blocked and why, in the reader's language. It sets no cookie, loads nothing from
// elsewhere, and stores nothing about the reader.
type Page struct {
	config   Config
	template *template.Template
	matcher  language.Matcher
	policy   string
}

// New returns the page.
func New(c Config) (*Page, error) {
	if c.View == nil {
		return nil, errors.New("the warning page needs a function that returns the view")
	}
	if c.Enforced == 0 {
		c.Enforced = blocklist.AllCategories
	}
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("parsing the template of the warning page: %w", err)
	}
	style := sha256.Sum256([]byte(pageCSS))
	return &Page{
		config: c, template: t,
		matcher: language.NewMatcher([]language.Tag{language.French, language.English}),
		policy: "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" +
			base64.StdEncoding.EncodeToString(style[:]) + "'",
	}, nil
}

// content is the data of the template.
type content struct {
	texts
	Style   template.CSS
	Name    string // the blocked name; empty if the requested name is not blocked
	Kind    kind
	Contact template.URL
	Address string // Contact in readable form
	By      string // Config.Organisation
}

// maxAcceptLanguage is the maximum length of an Accept-Language header, in bytes; browsers send a tenth. A longer header is ignored.
const maxAcceptLanguage = 500

// ServeHTTP answers every request with the page and status 403, so that no program mistakes the page for the site.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	lang := p.language(r.Header.Get("Accept-Language"))
	c := content{texts: translations[lang], Style: template.CSS(pageCSS), By: p.config.Organisation}
	if p.config.Contact != "" {
		c.Contact = template.URL(p.config.Contact) // package config accepts only mailto:, tel: and https:
		c.Address = strings.TrimPrefix(strings.TrimPrefix(p.config.Contact, "mailto:"), "tel:")
	}
	if name, category, ok := p.blocked(r.Host); ok {
		c.Name = name
		c.Kind = c.kinds[category]
		if c.Kind == (kind{}) {
			c.Kind = c.kinds[blocklist.Malicious]
		}
	}
	var body bytes.Buffer
	if err := p.template.Execute(&body, c); err != nil {
		http.Error(w, "Rempart", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", c.Lang)
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(http.StatusForbidden)
	_, _ = w.Write(body.Bytes())
}

// language returns "fr" or "en", the better one for an Accept-Language header. It returns "fr" if the header is empty or invalid.
func (p *Page) language(accept string) string {
	if len(accept) > maxAcceptLanguage {
		accept = ""
	}
	wanted, _, err := language.ParseAcceptLanguage(accept)
	if err != nil || len(wanted) == 0 {
		return "fr"
	}
	_, i, confidence := p.matcher.Match(wanted...)
	if i == 0 && confidence > language.No {
		return "fr"
	}
	return "en" // also for other languages: their readers more likely read English than French
}

// blocked reports whether a query for the host of a request would be blocked now, and returns its name and category.
func (p *Page) blocked(host string) (name string, category blocklist.Category, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	wire, err := blocklist.AppendName(nil, strings.TrimSuffix(host, "."))
	if err != nil || strings.HasPrefix(host, "[") {
		return "", 0, false
	}
	v := p.config.View().Match(wire, p.config.Enforced, time.Now().Unix())
	if v.Action != blocklist.BlockedBy {
		return "", 0, false
	}
	return blocklist.NameText(wire), v.Category, true
}
