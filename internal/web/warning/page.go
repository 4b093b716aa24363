// Package warning serves the warning page, to which blocked names redirect.
package warning

import (
	"context"
	_ "embed"
	"errors"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"rempart/blocklist"
	"rempart/internal/web/authority"
	"rempart/internal/web/explain"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
)

//go:embed page.html
var pageHTML string

// Config configures a Page.
type Config struct {
	Site *layout.Site
	// Lookup returns what queries for a canonical name get. client is the reader; a reader who may not ask the resolver causes no query to an upstream.
	Lookup      func(ctx context.Context, name []byte, client netip.Addr) lookup.Result
	Authorities func() *authority.Table                 // returns those whose decisions have a page of their own; nil for none
	Help        func() *texts.Help                      // returns what deceived people should do; nil: the help for France
	Contact     string                                  // URI where people report a wrong block; empty for none
	Portal      string                                  // URL of the portal; empty for none
	Offer       func(name string) (url string, ok bool) // returns the URL at which the reader can continue to a blocked name; nil if nobody may
	IsHome      bool                                    // the lists are chosen on this machine: whoever installed it can allow a name
}

// Page is the warning page, for any host, path and method: it says which name was blocked, by whom and why, what to do, and how to object.
type Page struct {
	config   Config
	template *template.Template
}

// New returns the page.
func New(c Config) (*Page, error) {
	if c.Site == nil || c.Lookup == nil {
		return nil, errors.New("the warning page needs a site and a function that looks up names")
	}
	if c.Authorities == nil {
		c.Authorities = func() *authority.Table { return nil }
	}
	if c.Help == nil {
		c.Help = func() *texts.Help { return nil }
	}
	t, err := c.Site.Parse("warning", pageHTML+explain.Template)
	if err != nil {
		return nil, err
	}
	return &Page{config: c, template: t}, nil
}

// content is the data of the template.
type content struct {
	Block    *explain.Block // nil: the host of the request is not blocked
	HelpLang string         // of Help
	Help     []texts.Step
	Appeal   string       // URL of the portal's form with the name
	Contact  template.URL // of the operator
	Address  string       // Contact in readable form
	Allow    string       // the name that a household can allow; "" if the lists are chosen elsewhere
	Portal   string
	Onward   string // URL at which the reader can continue; "" if the reader may not
}

// ServeHTTP answers every request with the page. The status is 403, so that no program mistakes the page for the site, or 451 for a block that an authority ordered
// (RFC 7725).
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if layout.Robots(w, r) {
		return
	}
	lang := p.config.Site.Language(r)
	c := content{Portal: p.config.Portal}
	status, title := http.StatusForbidden, lang.Page.FreeTitle
	if name, ok := hostName(r.Host); ok {
		found := p.config.Lookup(r.Context(), name, lookup.Client(r))
		if found.IsBlocked() {
			title = lang.Page.Title
			p.describe(&c, &found, lang)
			if found.Mark == blocklist.Censored {
				status = http.StatusUnavailableForLegalReasons
			}
		}
	}
	if p.config.Contact != "" {
		c.Contact = template.URL(p.config.Contact) // package config accepts only mailto:, tel: and https:
		c.Address = strings.TrimPrefix(strings.TrimPrefix(p.config.Contact, "mailto:"), "tel:")
	}
	p.config.Site.Write(w, r, lang, layout.Page{Template: p.template, Status: status, Title: title, Data: c})
}

// describe sets what is known of a block, what to do, and how to object or continue.
func (p *Page) describe(c *content, found *lookup.Result, lang *texts.Language) {
	c.Block = explain.Of(found, lang, p.config.Site.Organisation(), p.config.Authorities().Of(found.Decision))
	c.HelpLang, c.Help = p.config.Help().In(lang)
	if p.config.Offer != nil {
		c.Onward, _ = p.config.Offer(found.Name)
	}
	if p.config.Portal != "" {
		c.Appeal = p.config.Portal + "/appeal?" + url.Values{"lang": {lang.Tag}, "name": {found.Name}}.Encode()
	}
	if p.config.IsHome && lookup.IsHostName(found.Name) { // the name becomes a part of a shell command
		c.Allow = found.Name
	}
}

// hostName returns the canonical name in the Host field of a request; false if it is an address or no name.
func hostName(host string) ([]byte, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(host, ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || host == "" {
		return nil, false
	}
	name, err := blocklist.AppendName(nil, host)
	return name, err == nil
}
