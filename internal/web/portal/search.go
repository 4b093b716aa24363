package portal

import (
	"context"
	"html/template"
	"net/http"
	"net/url"

	"rempart/internal/web/explain"
	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
)

// searchContent is the data of the template of the search.
type searchContent struct {
	Typed   string // what the reader typed; "" before the first search
	Notice  string // why there is no result
	Name    string // as readers write it
	Heading string // of the result, with {name}
	Text    string
	Result  *lookup.Result
	Block   *explain.Block // nil: the name is not blocked
	Events  []eventLine
	Journal bool   // there is a journal
	Appeal  string // address of the form for a review
	Contact template.URL
	IsHome  bool
}

// eventLine is a past change of the name in the language of the reader.
type eventLine struct{ Date, Text, Name, By string }

// maxTyped is the longest text that is searched for, in bytes: a whole address, which may be long.
const maxTyped = 4096

// serveSearch serves the search box, and the result for the parameter "name".
func (p *Portal) serveSearch(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	typed := r.URL.Query().Get("name")
	page := layout.Page{Status: http.StatusOK, Title: lang.Portal.Title}
	c := searchContent{IsHome: p.config.IsHome, Contact: template.URL(p.config.Contact)}
	if typed != "" {
		page.Status = p.answer(r, lang, typed, &c)
		page.Keep = url.Values{"name": {c.Typed}}
	}
	page.Data = c
	p.write(w, r, lang, "search", page)
}

// searchInstead redirects a reader who follows the warning page's link to the form, on a portal that accepts no requests for a review, to the result for the name.
func searchInstead(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, "/?"+r.URL.Query().Encode(), http.StatusSeeOther)
}

// answer fills in the result for what the reader typed, and returns the status.
func (p *Portal) answer(r *http.Request, lang *texts.Language, typed string, c *searchContent) int {
	client := lookup.Client(r)
	if !p.searches.allow(client, p.config.Now()) {
		c.Notice = lang.Portal.Busy
		return http.StatusTooManyRequests
	}
	c.Typed = repeatable(typed)
	name, ok := p.parse(typed)
	if !ok {
		c.Notice = lang.Portal.Invalid
		return http.StatusBadRequest
	}
	found := p.config.Lookup(r.Context(), name, client)
	c.Typed, c.Name, c.Result = found.Name, layout.DisplayName(found.Name), &found
	p.describe(c, lang)
	p.recall(r.Context(), c, lang)
	return http.StatusOK
}

// parse returns the canonical name in a text that a reader typed. ok is false if the text is too long or contains no name of a site.
func (p *Portal) parse(typed string) (name []byte, ok bool) {
	if len(typed) > maxTyped {
		return nil, false
	}
	name, err := p.config.Parse(typed)
	return name, err == nil && len(name) != 1 // the root is no site
}

// repeatable returns a text that a reader typed, for the page to repeat; "" if it is too long.
func repeatable(typed string) string {
	if len(typed) > maxTyped {
		return ""
	}
	return typed
}

// describe sets the heading, the text and the description of the block, according to c.Result.
func (p *Portal) describe(c *searchContent, lang *texts.Language) {
	t, found := &lang.Portal, c.Result
	switch found.Outcome {
	case lookup.Passes:
		c.Heading, c.Text = t.Passes, t.PassesText
	case lookup.Allowed:
		c.Heading, c.Text = t.Allowed, t.AllowedText
	case lookup.Reserved:
		c.Heading, c.Text = t.Reserved, t.ReservedText
	case lookup.Withheld:
		c.Heading, c.Text = t.Withheld, t.WithheldText
	case lookup.Blocked:
		c.Heading = t.Blocked
	}
	if found.Outcome != lookup.Blocked {
		return
	}
	if p.config.Appeals != nil && found.IsBlocked() {
		c.Appeal = "/appeal?" + url.Values{"lang": {lang.Tag}, "name": {found.Name}}.Encode()
	}
	c.Block = explain.Of(found, lang, p.config.Site.Organisation(), p.config.Authorities().Of(found.Decision))
	c.Block.InDetail = true
}

// maxEvents is the number of past changes of a name that a page shows.
const maxEvents = 20

// recall sets the newest past changes of the name. If there is no journal, or reading it fails, the page has no history.
func (p *Portal) recall(ctx context.Context, c *searchContent, lang *texts.Language) {
	if p.config.History == nil {
		return
	}
	events, err := p.config.History(ctx, c.Result.Name)
	if err != nil {
		return
	}
	c.Journal = true
	acts := map[Act]string{Block: lang.Portal.HistoryBlock, Allow: lang.Portal.HistoryAllow, Withdraw: lang.Portal.HistoryWithdraw}
	for _, e := range events[:min(len(events), maxEvents)] {
		line := eventLine{lang.FormatDate(e.Time), acts[e.Do], e.Name, e.By}
		if line.By == "" {
			line.By = p.config.Site.Organisation()
		}
		c.Events = append(c.Events, line)
	}
}
