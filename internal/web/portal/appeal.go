package portal

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rempart/internal/web/layout"
	"rempart/internal/web/lookup"
	"rempart/internal/web/texts"
)

// Appeals accepts requests for a review of a block. Its methods are safe for concurrent use.
type Appeals interface {
	// NewCode returns a code by which a reader finds a request again. Nobody can guess it.
	NewCode() string
	// File stores a request under a code, and returns it once it is durable. A repeated request with the same code is stored once. The error is a FieldError if a
	// field is wrong.
	File(ctx context.Context, code string, f Filing) (*Appeal, error)
	// Find returns the request with a code. The error is ErrNoAppeal if there is none.
	Find(ctx context.Context, code string) (*Appeal, error)
	// Prove looks for the proof that the appellant controls the name, and returns the request.
	Prove(ctx context.Context, code string) (*Appeal, error)
}

// ErrNoAppeal is returned if no request has a code.
var ErrNoAppeal = errors.New("no request has this code")

// FieldError is the error of a wrong field: "name", "reason" or "email".
type FieldError string

func (f FieldError) Error() string { return "the field " + string(f) + " is wrong" }

// Filing holds what a reader wrote, and the block of the name at that time.
type Filing struct {
	Owner    bool
	Reason   string
	Email    string
	Language string
	Block    lookup.Result
}

// Appeal is a request for a review.
type Appeal struct {
	Number, Name     string
	Owner            bool // the appellant says to be responsible for the site
	State            AppealState
	Suspended        bool // the name passes until the decision
	Filed, Due       time.Time
	Decided          time.Time // zero before the decision
	Why              AppealReason
	Note             string
	Service, Contact string
	Silence, Routes  map[string]string // by language tag
	Proof            string            // text that proves the control of the name; "" if nobody has to prove it
	ProofName        string            // name of the TXT record with that text
	ProofFile        string            // URL of the file with that text
	Proved           bool
}

// AppealState is the state of a request.
type AppealState uint8

const (
	AppealOpen AppealState = iota
	AppealSecond
	AppealUpheld
	AppealRejected
)

// AppealReason is the reason for a decision.
type AppealReason uint8

const (
	NoReason AppealReason = iota
	SiteSafe
	SiteRepaired
	SiteDangerous
	AuthorityDecides
	Unclear
)

// form is the data of the form.
type form struct {
	Code, Name, Reason, Email string
	Owner                     bool
	Wrong                     string // the wrong field
	Notice                    string
	NotBlocked                string // the name that is not blocked
}

// maxForm is the largest size of a sent form, in bytes.
const maxForm = 64 << 10

// serveForm serves the form of a request.
func (p *Portal) serveForm(w http.ResponseWriter, r *http.Request) {
	f := form{Code: p.config.Appeals.NewCode(), Name: repeatable(r.URL.Query().Get("name"))}
	p.writeForm(w, r, p.config.Site.Language(r), http.StatusOK, f)
}

func (p *Portal) writeForm(w http.ResponseWriter, r *http.Request, lang *texts.Language, status int, f form) {
	keep := url.Values{}
	if f.Name != "" {
		keep.Set("name", f.Name)
	}
	p.write(w, r, lang, "appeal", layout.Page{Status: status, Title: lang.Appeal.Title, Keep: keep, Kept: true, Data: f})
}

// fileAppeal stores a request. The reader is then redirected to the address of the request, so that reloading the page sends nothing again.
func (p *Portal) fileAppeal(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		p.writeForm(w, r, lang, http.StatusBadRequest, form{Code: p.config.Appeals.NewCode(), Wrong: "reason"})
		return
	}
	value := func(field string) string {
		return strings.ToValidUTF8(strings.TrimSpace(r.PostForm.Get(field)), "\uFFFD")
	}
	f := form{
		Code: value("code"), Name: value("name"), Reason: strings.ReplaceAll(value("reason"), "\r\n", "\n"), Email: value("email"), Owner: value("role") == "owner",
	}
	client := lookup.Client(r)
	if !p.searches.allow(client, p.config.Now()) {
		f.Notice = lang.Appeal.Busy
		p.writeForm(w, r, lang, http.StatusTooManyRequests, f)
		return
	}
	name, ok := p.parse(f.Name)
	if !ok {
		f.Wrong = "name"
		p.writeForm(w, r, lang, http.StatusBadRequest, f)
		return
	}
	found := p.config.Lookup(r.Context(), name, client)
	if !found.IsBlocked() {
		if _, err := p.config.Appeals.Find(r.Context(), f.Code); err != nil { // a repeated request may be about a name that passes by now
			f.NotBlocked = layout.DisplayName(found.Name)
			p.writeForm(w, r, lang, http.StatusConflict, f)
			return
		}
	}
	if !p.appeals.allow(client, p.config.Now()) {
		f.Notice = lang.Appeal.Busy
		p.writeForm(w, r, lang, http.StatusTooManyRequests, f)
		return
	}
	_, err := p.config.Appeals.File(r.Context(), f.Code, Filing{Owner: f.Owner, Reason: f.Reason, Email: f.Email, Language: lang.Tag, Block: found})
	wrong := FieldError("")
	switch {
	case errors.As(err, &wrong):
		f.Wrong = string(wrong)
		p.writeForm(w, r, lang, http.StatusBadRequest, f)
	case err != nil:
		f.Notice = lang.Appeal.Failed
		p.writeForm(w, r, lang, http.StatusServiceUnavailable, f)
	default:
		http.Redirect(w, r, "/appeal/"+url.PathEscape(f.Code)+"?lang="+lang.Tag, http.StatusSeeOther)
	}
}

// receipt is the data of the page of a request.
type receipt struct {
	Code, Number, Name, Address    string
	State, Date, AnswerBy          string
	Service, Contact               string
	Decided, Why, Note             string
	Suspended, Proved, ProofFailed bool
	Proof, Record, File            string
	Silence, Routes                *foreignText
}

// foreignText is a text of this deployment. Lang is its language if that is not the language of the page.
type foreignText struct{ Lang, Text string }

// serveReceipt serves the page of a request.
func (p *Portal) serveReceipt(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	if !p.searches.allow(lookup.Client(r), p.config.Now()) {
		p.writeMessage(w, r, lang, http.StatusTooManyRequests, lang.Appeal.Title, lang.Portal.Busy)
		return
	}
	a, err := p.config.Appeals.Find(r.Context(), r.PathValue("code"))
	p.writeReceipt(w, r, lang, a, err, false)
}

// checkProof looks for the proof that the appellant controls the name.
func (p *Portal) checkProof(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	if !p.searches.allow(lookup.Client(r), p.config.Now()) {
		p.writeMessage(w, r, lang, http.StatusTooManyRequests, lang.Appeal.Title, lang.Appeal.Busy)
		return
	}
	a, err := p.config.Appeals.Prove(r.Context(), r.PathValue("code"))
	if err == nil && a.Proved {
		http.Redirect(w, r, "/appeal/"+url.PathEscape(r.PathValue("code"))+"?lang="+lang.Tag, http.StatusSeeOther)
		return
	}
	p.writeReceipt(w, r, lang, a, err, true)
}

func (p *Portal) writeReceipt(w http.ResponseWriter, r *http.Request, lang *texts.Language, a *Appeal, err error, tried bool) {
	switch {
	case errors.Is(err, ErrNoAppeal):
		p.writeMessage(w, r, lang, http.StatusNotFound, lang.Appeal.Title, lang.Appeal.Unknown)
	case err != nil:
		p.writeMessage(w, r, lang, http.StatusServiceUnavailable, lang.Appeal.Title, lang.Portal.Unsure)
	default:
		p.write(w, r, lang, "receipt", layout.Page{Status: http.StatusOK, Title: lang.Appeal.Received, Kept: true, Data: p.receiptOf(r, lang, a, tried)})
	}
}

// receiptOf puts a request into the language of the reader.
func (p *Portal) receiptOf(r *http.Request, lang *texts.Language, a *Appeal, tried bool) receipt {
	t := &lang.Appeal
	code := r.PathValue("code")
	c := receipt{
		Code: code, Number: a.Number, Name: layout.DisplayName(a.Name), Address: p.origin(r) + "/appeal/" + url.PathEscape(code),
		State: []string{t.Open, t.Second, t.Upheld, t.Rejected}[a.State], Date: lang.FormatDate(a.Filed), AnswerBy: lang.FormatDate(a.Due),
		Service: a.Service, Contact: a.Contact, Note: a.Note, Proof: a.Proof, Record: a.ProofName, File: a.ProofFile, Proved: a.Proved,
		Silence: textIn(a.Silence, lang), Routes: textIn(a.Routes, lang),
		Why: []string{"", t.Safe, t.Repaired, t.Dangerous, t.Authority, t.Unclear}[a.Why],
	}
	if a.Decided.IsZero() {
		c.Suspended, c.ProofFailed = a.Suspended, tried
		if !a.Owner {
			c.Proof = ""
		}
	} else {
		c.Decided, c.Proof = lang.FormatDate(a.Decided), ""
	}
	return c
}

// maxHost is the longest Host field that is repeated in a page, in bytes.
const maxHost = 260

// origin returns the scheme and host of the URLs of this site, like https://filter.isp.example: the configured ones, or else those of the request.
func (p *Portal) origin(r *http.Request) string {
	if p.config.Address != "" {
		return p.config.Address
	}
	return reached(r)
}

// reached returns the scheme and host of a request; "" if the Host field is too long.
func reached(r *http.Request) string {
	switch {
	case len(r.Host) > maxHost:
		return ""
	case r.TLS == nil:
		return "http://" + r.Host
	}
	return "https://" + r.Host
}

// textIn returns a text of this deployment for readers of a language; nil if there is none.
func textIn(all map[string]string, lang *texts.Language) *foreignText {
	tag, text, found := texts.Closest(all, lang.Tag)
	if !found {
		return nil
	}
	if tag == lang.Tag {
		tag = ""
	}
	return &foreignText{tag, text}
}
