// Package webtest checks the markup of the public pages. Only tests import it.
package webtest

import (
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// tags and attributes are all that the templates contain.
var (
	tags = strings.Fields("html head meta title style body header p svg path bdi nav details summary ul li a main h1 h2 h3 ol dl div dt dd code form input label " +
		"button footer time section span textarea select option table thead tbody tr th td caption fieldset legend pre strong object br")
	attributes = strings.Fields("lang dir charset name content http-equiv class href hreflang rel id type value for method action role required maxlength " +
		"autocomplete autocapitalize spellcheck inputmode datetime scope checked selected rows cols data colspan open viewbox minlength tabindex d")
	schemes = []string{"https://", "http://", "mailto:", "tel:", "sms:", "about:blank", "/", "?", "#"}
)

// CheckMarkup fails the test if a page contains an element, an attribute or a kind of link that no template contains: then a text was read as markup.
func CheckMarkup(t testing.TB, page string) {
	t.Helper()
	z := html.NewTokenizer(strings.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				t.Fatalf("the page cannot be read: %v", z.Err())
			}
			return
		case html.CommentToken:
			t.Fatalf("the page contains a comment: %s", z.Token())
		case html.StartTagToken, html.SelfClosingTagToken:
			checkElement(t, z.Token())
		}
	}
}

func checkElement(t testing.TB, e html.Token) {
	t.Helper()
	if !slices.Contains(tags, e.Data) {
		t.Fatalf("the page contains the element %s", e)
	}
	for _, a := range e.Attr {
		switch {
		case !slices.Contains(attributes, a.Key) && !strings.HasPrefix(a.Key, "aria-"):
			t.Fatalf("the page contains the attribute %s in %s", a.Key, e)
		case a.Key == "href" && !slices.ContainsFunc(schemes, func(s string) bool { return strings.HasPrefix(a.Val, s) }):
			t.Fatalf("the page contains the link %s", e)
		}
	}
}
