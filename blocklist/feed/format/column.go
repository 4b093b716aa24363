package format

import (
	"rempart/blocklist"
)

// Column is the meaning of a table's column, or of the values of a key in JSON objects. Titles are recognized in any case and in several languages.
type Column struct{ role role }

// ColumnOf returns the column with a title, or the key of an object.
func ColumnOf(title string) Column { return Column{roles[foldKey(cleanText([]byte(title)))]} }

// IsName reports whether the column holds names or URLs to list: "name", "domain", "host", "url", "fqdn" and the like.
func (c Column) IsName() bool { return c.role.isName() }

// IsCategory reports whether the column holds categories, according to its title.
func (c Column) IsCategory() bool { return c.role == categoryRole }

// IsReason reports whether the column holds reasons, in any words.
func (c Column) IsReason() bool { return c.role == reasonRole }

// IsThreat reports whether the texts of the column may name a category although it is neither a column of categories nor of reasons: tags, labels, malware families.
func (c Column) IsThreat() bool {
	return c.role == threatRole || c.role == labelRole || c.role == familyRole || c.role == phishRole
}

// IsNameColumn reports whether a table's column with this title holds names or URLs to list.
func IsNameColumn(title string) bool { return ColumnOf(title).IsName() }

// Threats determines the category of a row from the texts of its columns. Its zero value is ready to use.
type Threats struct{ claim claim }

// Add adds the text of a column.
func (t *Threats) Add(c Column, text string) { t.claim.set(c.role, []byte(text)) }

// Category returns the category that the texts name; ok is false if they name none, or several.
func (t *Threats) Category() (c blocklist.Category, ok bool) {
	c = t.claim.category()
	return c, c != blocklist.Malicious
}

// AreBenign reports whether one of the texts marks the row as not to be blocked: "benign", a label 0.
func (t *Threats) AreBenign() bool { return t.claim.withheld }
