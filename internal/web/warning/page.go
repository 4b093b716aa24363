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
	"strings"

	"rempart/blocklist"
	"rempart/internal/web/authority"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
)

//go:embed page.html
var pageHTML string

// Config configures a Page.
type Config struct {
	Site *layout.Site
	// Lookup returns what queries for a canonical name get. client is the reader, who may ask for no more than a client of the resolver.
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
	t, err := c.Site.Parse("warning", pageHTML)
	if err != nil {
		return nil, err
	}
	return &Page{config: c, template: t}, nil
}

// content is the data of the template.
type content struct {
	Name     string // the blocked name as readers write it
	Blocked  bool
	Reason   template.HTML // one sentence: who blocked it, and why
	Target   string
	Category string
	Order    *order
	HelpLang string // of Help
	Help     []texts.Step
	Known    lookup.Result
	Since    string
	Until    string
	Appeal   string       // URL of the portal with the name
	Contact  template.URL // of the operator
	Address  string       // Contact in readable form
	IsHome   bool
	Portal   string
	Onward   string // URL at which the reader can continue; "" if the reader may not
}

// order is the information of an authority about its decisions.
type order struct {
	Name string
	Lang string // of Text
	Text string
	Link string
}

// ServeHTTP answers every request with the page. The status is 403, so that no program mistakes the page for the site, or 451 for a block that an authority ordered
// (RFC 7725).
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if layout.Robots(w, r) {
		return
	}
	lang := p.config.Site.Language(r)
	c := content{IsHome: p.config.IsHome, Portal: p.config.Portal}
	status, title := http.StatusForbidden, lang.Page.FreeTitle
	if name, ok := hostName(r.Host); ok {
		found := p.config.Lookup(r.Context(), name, lookup.Client(r))
		if found.IsBlocked() {
			title = lang.Page.Title
			p.describe(&c, found, lang)
			if found.Mark == blocklist.Censored {
				status = http.StatusUnavailableForLegalReasons
			}
		}
	}
	p.offerHelp(&c, lang)
	p.config.Site.Write(w, r, lang, layout.Page{Template: p.template, Status: status, Title: title, Data: c})
}

// describe sets what is known of a block.
func (p *Page) describe(c *content, found lookup.Result, lang *texts.Language) {
	c.HelpLang, c.Help = p.config.Help().In(lang)
	c.Blocked, c.Known = true, found
	c.Name, c.Target = layout.DisplayName(found.Name), layout.DisplayName(found.Target)
	category := lang.CategoryOf(found.Category)
	c.Category = category.Noun
	reason := category.Why
	switch found.Mark {
	case blocklist.Censored:
		reason = lang.Page.Ordered
	case blocklist.Filtered:
		reason = lang.Page.Requested
	}
	c.Reason, _ = layout.Fill(reason, "organisation", p.config.Site.Organisation()) // the texts were checked when they were loaded
	if !found.Since.IsZero() {
		c.Since = lang.FormatDate(found.Since)
	}
	if !found.Until.IsZero() {
		c.Until = lang.FormatDate(found.Until)
	}
	if p.config.Offer != nil {
		c.Onward, _ = p.config.Offer(found.Name)
	}
	if a := p.config.Authorities().Of(found.Decision); a != nil {
		c.Order = &order{Name: a.Name, Link: a.Link}
		c.Order.Lang, c.Order.Text = a.TextIn(lang.Tag)
	}
}

// offerHelp sets where the reader can object.
func (p *Page) offerHelp(c *content, lang *texts.Language) {
	if p.config.Contact != "" {
		c.Contact = template.URL(p.config.Contact) // package config accepts only mailto:, tel: and https:
		c.Address = strings.TrimPrefix(strings.TrimPrefix(p.config.Contact, "mailto:"), "tel:")
	}
	if p.config.Portal != "" && c.Blocked {
		c.Appeal = p.config.Portal + "/?" + "lang=" + lang.Tag + "&name=" + c.Known.Name
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
