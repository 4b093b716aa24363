package portal

import (
	"net/http"
	"strings"

	"rempart/internal/web/layout"
	"rempart/internal/web/statement"
)

// statementContent is the data of the template.
type statementContent struct {
	Lang         string // of the texts
	Title, Intro string
	Sections     []statement.Section
}

// serveStatement serves the privacy statement: in French to readers of French, in English to others.
func (p *Portal) serveStatement(w http.ResponseWriter, r *http.Request) {
	lang := p.config.Site.Language(r)
	tag, _, _ := strings.Cut(lang.Tag, "-")
	texts, ok := p.statements[tag]
	if !ok {
		tag = "en"
		texts = p.statements[tag]
	}
	facts := p.config.Statement()
	p.write(w, r, lang, "statement", layout.Page{Status: http.StatusOK, Title: texts.Title(), Data: statementContent{tag, texts.Title(), texts.Intro(), texts.Write(&facts)}})
}

// serveSecurity serves the contact for reports about the security of this server (RFC 9116).
func (p *Portal) serveSecurity(w http.ResponseWriter, r *http.Request) {
	text := statement.SecurityTxt(p.config.Contact, p.config.Now())
	if text == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(text)) // the reader closed the connection
}
