// Package portal serves the public site of the filter: why a site does not open, and what to do. It works without JavaScript, sets no cookie, and keeps neither
// the addresses nor the searches of its readers.
package portal

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/netip"
	"time"

	"rempart/internal/statistics"
	"rempart/internal/web/authority"
	"rempart/internal/web/explain"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/statement"
	"rempart/internal/web/texts"
)

//go:embed *.html
var files embed.FS

// Config configures a Portal.
type Config struct {
	Site *layout.Site
	// Parse returns the canonical name in a text as people write it: a name, or a whole address.
	Parse func(text string) ([]byte, error)
	// Lookup returns what queries for a canonical name get. client is the reader; a reader who may not ask the resolver causes no query to an upstream.
	Lookup func(ctx context.Context, name []byte, client netip.Addr) lookup.Result
	// History returns the past changes of a name, the newest first; nil if there is no journal here.
	History func(ctx context.Context, name string) ([]Event, error)
	// QRCode returns a QR code of a text as the data of an SVG path, and the width of its square in units of the path. nil: the page of the devices has no code.
	QRCode      func(text string) (data string, size int, err error)
	Authorities func() *authority.Table  // nil for none
	Appeals     Appeals                  // nil: requests for a review are not accepted here
	Address     string                   // URL of the portal, for links that people keep; "": as the reader reached it
	Devices     func() Devices           // returns how devices use this server; nil if this process answers no DNS
	Statement   func() statement.Facts   // returns what the privacy statement says; nil if this process answers no DNS
	Statistics  string                   // folder of the public statistics; "" for none
	Check       func(lang string) string // returns the address of the check of the connection; nil without one
	Contact     string                   // URI where people report a wrong block; empty for none
	IsHome      bool                     // the lists are chosen on this machine: whoever installed it can allow a name
	Now         func() time.Time         // nil: time.Now
}

// Event is a past change of a name.
type Event struct {
	Time time.Time
	Do   Act
	Name string // of the entry: the name itself, or one above it
	By   string // the list or the authority; "" for the operators of this filter
}

// Act is the effect of a change.
type Act uint8

const (
	Block Act = iota
	Allow
	Withdraw
)

// Portal is the public site. It is safe for concurrent use.
type Portal struct {
	config     Config
	templates  map[string]*template.Template // by the name of their file
	statements map[string]statement.Texts    // by language; nil without Config.Statement
	statistics *statistics.Published         // nil without Config.Statistics
	pages      *rates
	searches   *rates
	appeals    *rates
	handler    http.Handler
}

// New returns the portal.
func New(c Config) (*Portal, error) {
	if c.Site == nil || c.Parse == nil || c.Lookup == nil {
		return nil, errors.New("the portal needs a site, and functions that parse and look up names")
	}
	if c.Authorities == nil {
		c.Authorities = func() *authority.Table { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	templates, err := c.Site.ParseAll(files, explain.Template, "search", "appeal", "receipt", "connection", "devices", "statement", "message")
	if err != nil {
		return nil, err
	}
	p := &Portal{config: c, templates: templates, pages: newRates(pageRate, pageBurst), searches: newRates(searchRate, searchBurst), appeals: newRates(appealRate, appealBurst)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.serveSearch)
	if c.Devices != nil {
		mux.HandleFunc("GET /devices", p.serveDevices)
		mux.HandleFunc("GET /rempart.mobileconfig", p.serveProfile)
	}
	if c.Check != nil {
		mux.HandleFunc("GET /connection", p.serveConnection)
	}
	if c.Statement != nil {
		if p.statements, err = statement.Load(); err != nil {
			return nil, err
		}
		mux.HandleFunc("GET /privacy", p.serveStatement)
	}
	mux.HandleFunc("GET /.well-known/security.txt", p.serveSecurity)
	if c.Statistics != "" {
		p.statistics = statistics.NewPublished(c.Statistics)
		mux.HandleFunc("GET /statistics.csv", p.serveCSV)
		mux.HandleFunc("GET /statistics.json", p.serveJSON)
		mux.HandleFunc("GET /statistics-schema.json", p.serveSchema)
	}
	if c.Appeals == nil {
		mux.HandleFunc("GET /appeal", searchInstead)
	} else {
		mux.HandleFunc("GET /appeal", p.serveForm)
		mux.HandleFunc("POST /appeal", p.fileAppeal)
		mux.HandleFunc("GET /appeal/{code}", p.serveReceipt)
		mux.HandleFunc("POST /appeal/{code}/proof", p.checkProof)
	}
	p.handler = http.NewCrossOriginProtection().Handler(mux)
	return p, nil
}

// ServeHTTP answers the requests of readers.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if layout.Robots(w, r) {
		return
	}
	if !p.pages.allow(lookup.Client(r), p.config.Now()) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests: wait a moment", http.StatusTooManyRequests)
		return
	}
	p.handler.ServeHTTP(w, r)
}

// write answers with a page of the portal. file is the name of its template.
func (p *Portal) write(w http.ResponseWriter, r *http.Request, lang *texts.Language, file string, page layout.Page) {
	page.Template, page.FormTo = p.templates[file], "'self'"
	link := func(path, text string) {
		page.Links = append(page.Links, layout.Link{Address: path + "?lang=" + lang.Tag, Text: text, Current: r.URL.Path == path})
	}
	link("/", lang.Links.Search)
	if p.config.Check != nil {
		link("/connection", lang.Links.Connection)
	}
	if p.config.Devices != nil {
		link("/devices", lang.Links.Devices)
	}
	if p.config.Statement != nil {
		link("/privacy", lang.Links.Statement)
	}
	if p.config.Statistics != "" {
		page.Links = append(page.Links, layout.Link{Address: "/statistics.csv", Text: lang.Links.Statistics})
	}
	p.config.Site.Write(w, r, lang, page)
}

// writeMessage answers with a page that consists of a title and one text.
func (p *Portal) writeMessage(w http.ResponseWriter, r *http.Request, lang *texts.Language, status int, title, text string) {
	p.write(w, r, lang, "message", layout.Page{Status: status, Title: title, Data: text})
}
