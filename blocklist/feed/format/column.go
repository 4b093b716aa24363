package format

import (
	"rempart/blocklist"
)

// Column is what lists read a table's column with some title as, or the value of some key of a JSON object. Titles are read in any case and in several languages.
type Column struct{ role role }

// ColumnOf returns the column with a title, or the key of an object.
func ColumnOf(title string) Column { return Column{roles[foldKey(cleanText([]byte(title)))]} }

// IsName reports whether the column holds names or URLs to list: "name", "domain", "host", "url", "fqdn" and the like.
func (c Column) IsName() bool { return c.role.isName() }

// IsCategory reports whether the column holds categories, as its title says.
func (c Column) IsCategory() bool { return c.role == categoryRole }

// IsReason reports whether the column holds reasons, in any words.
func (c Column) IsReason() bool { return c.role == reasonRole }

// IsThreat reports whether the column may tell a category although it is neither one of categories nor one of reasons: tags, labels, families of malware.
func (c Column) IsThreat() bool {
	return c.role == threatRole || c.role == labelRole || c.role == familyRole || c.role == phishRole
}

// IsNameColumn reports whether a table's column with this title holds names or URLs to list.
func IsNameColumn(title string) bool { return ColumnOf(title).IsName() }

// Threats collects what the columns of one row say of its category. Its zero value is ready to use.
type Threats struct{ claim claim }

// Add adds the text of a column.
func (t *Threats) Add(c Column, text string) { t.claim.set(c.role, []byte(text)) }

// Category returns the category that the texts tell; ok is false if they tell none, or several.
func (t *Threats) Category() (c blocklist.Category, ok bool) {
	c = t.claim.category()
	return c, c != blocklist.Malicious
}

// AreBenign reports whether one of the texts says that the row is not to be blocked: "benign", a label 0.
func (t *Threats) AreBenign() bool { return t.claim.withheld }
