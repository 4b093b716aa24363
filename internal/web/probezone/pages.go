// Package probezone serves the pages of the zone REMPART_PROBE, whose names have the addresses of the warning page's server. One page asks for a confirmation
// before a reader continues to a blocked site, and another one shows whether a device uses this server. The package stores nothing.
package probezone

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"rempart/blocklist"
	"rempart/internal/probe"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/onward"
	"rempart/internal/web/texts"
)

//go:embed *.html
var files embed.FS

// Config configures Pages.
type Config struct {
	Site     *layout.Site
	Zone     string        // REMPART_PROBE, in text form
	Links    *onward.Links // by which readers continue; nil if nobody may
	Duration time.Duration // for which a reader may continue
	Wait     time.Duration // for which a device remembers a block
}

// Pages are the pages of the zone. They are safe for concurrent use.
type Pages struct {
	config    Config
	apex      []byte // the zone, canonical
	templates map[string]*template.Template
}

// New returns the pages.
func New(c Config) (*Pages, error) {
	if c.Site == nil {
		return nil, errors.New("the pages of the probe zone need a site")
	}
	apex, err := blocklist.AppendName(nil, c.Zone)
	if err != nil {
		return nil, fmt.Errorf("the probe zone: %w", err)
	}
	templates, err := c.Site.ParseAll(files, "", "confirm", "open", "refused", "connection")
	if err != nil {
		return nil, err
	}
	return &Pages{config: c, apex: apex, templates: templates}, nil
}

// Handles reports whether the Host field of a request is a name in the zone.
func (p *Pages) Handles(host string) bool {
	name, _ := splitHost(host)
	return name == p.config.Zone || strings.HasSuffix(name, "."+p.config.Zone)
}

// splitHost returns the name in a Host field in lower case, and its port with the colon; "" without a port.
func splitHost(host string) (name, port string) {
	if h, number, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(number, 10, 16); err == nil {
			port = fmt.Sprintf(":%d", n)
		}
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, ".")), port
}

// ServeHTTP answers a request for a name in the zone.
func (p *Pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if layout.Robots(w, r) {
		return
	}
	if request, ok := p.config.Links.Parse(r.Host); ok {
		if request.Kind == onward.Ask {
			p.confirm(w, r, request)
		} else {
			p.open(w, r, request)
		}
		return
	}
	if r.URL.Path == signPath {
		p.sign(w, r)
		return
	}
	p.connection(w, r)
}

// confirmation is the data of the page that asks for a confirmation.
type confirmation struct {
	Name   string // as readers write it
	Time   string // for which the reader may continue
	Action string // URL of the form
}

// confirm asks whether the reader really wants to continue. The form is no link, because browsers look up the names of links before anybody clicks on them, and that
// query would set the grant.
func (p *Pages) confirm(w http.ResponseWriter, r *http.Request, request onward.Request) {
	lang := p.config.Site.Language(r)
	action, ok := p.config.Links.Confirm(request.Name, lookup.Client(r))
	if !ok {
		p.refuse(w, r, lang)
		return
	}
	_, port := splitHost(r.Host)
	p.config.Site.Write(w, r, lang, layout.Page{
		Template: p.templates["confirm"], Status: http.StatusForbidden, Title: lang.Onward.Title, FormTo: "http://*." + p.config.Zone + port,
		Data: confirmation{layout.DisplayName(request.Name), p.duration(lang), withPort(action, port)},
	})
}

// withPort returns a URL whose host gets a port.
func withPort(address, port string) string {
	u, err := url.Parse(address)
	if err != nil || port == "" {
		return address
	}
	u.Host += port
	return u.String()
}

// duration returns the time for which a reader may continue, in words.
func (p *Pages) duration(lang *texts.Language) string {
	text, count := lang.Onward.Minutes, p.config.Duration/time.Minute
	if p.config.Duration%time.Hour == 0 {
		text, count = lang.Onward.Hours, p.config.Duration/time.Hour
	}
	return strings.ReplaceAll(text, "{count}", fmt.Sprint(int64(count)))
}

// opening is the data of the page that waits until the site opens.
type opening struct {
	Name    string
	Address string
	Seconds int
}

// open says when the site opens. The DNS query for the name of this page has set the grant, in the server that answers the reader's queries; the reader's device
// still remembers the block for a while.
func (p *Pages) open(w http.ResponseWriter, r *http.Request, request onward.Request) {
	lang := p.config.Site.Language(r)
	if !p.config.Links.IsValid(request, lookup.Client(r)) {
		p.refuse(w, r, lang)
		return
	}
	_, port := splitHost(r.Host)
	c := opening{layout.DisplayName(request.Name), "http://" + request.Name + port + "/", int(p.config.Wait/time.Second) + 1}
	p.config.Site.Write(w, r, lang, layout.Page{
		Template: p.templates["open"], Status: http.StatusOK, Title: lang.Onward.OpenTitle, Data: c,
		Refresh: fmt.Sprintf("%d; url=%s", c.Seconds, c.Address),
	})
}

func (p *Pages) refuse(w http.ResponseWriter, r *http.Request, lang *texts.Language) {
	p.config.Site.Write(w, r, lang, layout.Page{Template: p.templates["refused"], Status: http.StatusForbidden, Title: lang.Onward.RefusedTitle})
}

// checks are the data of the page about the connection.
type checks struct {
	Lines    []line
	HasOther bool // the last line is about other resolvers
}

// line is a line of the page about the connection: a question, and the picture that the browser finds only if the answer is yes.
type line struct{ Text, Sign string }

// connection serves the page that says whether the reader's device uses this server. Each line has a picture at a name that has an address for some clients only. It
// works without JavaScript.
func (p *Pages) connection(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	_, port := splitHost(r.Host)
	t := &lang.Connection
	names := map[probe.Check]string{
		probe.Protected: t.Protected, probe.Plain: t.Plain, probe.TLS: t.TLS, probe.HTTPS: t.HTTPS, probe.QUIC: t.QUIC, probe.IPv4: t.IPv4, probe.IPv6: t.IPv6, probe.Other: t.Other,
	}
	c := checks{HasOther: probe.IsPublic(p.config.Zone)} // nothing but this server answers names in a private zone
	for check := range probe.Checks {
		if check != probe.Other || c.HasOther {
			c.Lines = append(c.Lines, line{names[check], "http://" + check.Host(probe.NewNonce(), p.config.Zone) + port + signPath + "?lang=" + lang.Tag})
		}
	}
	p.config.Site.Write(w, r, lang, layout.Page{
		Template: p.templates["connection"], Status: http.StatusOK, Title: t.Title, Objects: "http://*." + p.config.Zone + port,
		Data: c,
	})
}

// signPath is the path of the picture that says yes.
const signPath = "/yes.svg"

// sign serves the picture that says yes in the reader's language.
func (p *Pages) sign(w http.ResponseWriter, r *http.Request) {
	yes := p.config.Site.Language(r).Connection.Yes
	_, port := splitHost(r.Host)
	h := w.Header()
	h.Set("Content-Type", "image/svg+xml; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors http://*."+p.config.Zone+port)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	text := template.HTMLEscapeString(yes)
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 60 24" role="img" aria-label="%s"><title>%s</title>`+
		`<style>text{font:700 18px system-ui,sans-serif;fill:#0a5a4b}@media(prefers-color-scheme:dark){text{fill:#86dcc3}}</style><text x="30" y="18" text-anchor="middle">%s</text></svg>`, text, text, text)
}

// Start returns the URL at which the check of the connection begins: only a device that uses this server reaches it.
func Start(zone, lang string) string {
	return "http://" + probe.Protected.Host(probe.NewNonce(), zone) + "/?lang=" + lang
}
